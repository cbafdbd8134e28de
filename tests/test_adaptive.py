"""The policy `adaptive`: a turn whose replies the judge does not tell apart gets more of them, up to a limit."""

import asyncio
from pathlib import Path

import pytest
from calls_seen import calls_of, trees_of
from judged_trees import score, verdict
from test_graphs import grown, seats, talk
from test_policy import turn
from test_simulate import judged_as

import interalign as ia
from interalign import api
from interalign.config import SimulationSettings, build
from interalign.graphs.policy import Adaptive, branching_policy, caterpillar, is_undecided, wants_another_of
from interalign.graphs.turn import run_turn

A, B, TIE = ("A", "B"), ("B", "A"), ("tie", "tie")


def compared(*said: tuple[str | None, str | None], replies: int = 2):
    """A turn whose pairs, in order, were answered like this in both orders."""
    pairs = [(a, b) for a in range(1, replies + 1) for b in range(a + 1, replies + 1)]
    return turn(replies=replies, verdicts=[verdict(str(a), str(b), *s) for (a, b), s in zip(pairs, said, strict=True)])


@pytest.mark.parametrize(
    ("judged", "undecided"),
    [
        (compared(A), False),
        (compared(B), False),
        (compared(TIE), True),
        (compared(("A", "A")), True),  # each order prefers what it saw first
        (compared(("A", "tie")), True),
        (compared((None, None)), False),
        (compared(("A", None)), False),
        (compared(TIE, A, TIE, replies=3), False),
        (compared(A, B, A, replies=3), True),  # 1 beats 2, 2 beats 3, 3 beats 1
        (compared(TIE, (None, None), TIE, replies=3), True),
        (turn(replies=2, scores={"1": 3, "2": 3}), True),
        (turn(replies=2, scores={"1": 3, "2": 4}), False),
        (turn(replies=2, scores={"1": 3, "2": None}), False),
        (turn(replies=2, scores={"1": None, "2": None}), False),
        (turn(replies=3, scores={"1": 3, "2": None, "3": 3}), True),
        (turn(replies=1, scores={"1": 3}), False),
        (turn(replies=2), False),
    ],
)
def test_a_turn_is_undecided_if_the_judge_was_heard_and_prefers_nothing(judged: ia.Tree, undecided: bool) -> None:
    assert is_undecided(judged) is undecided
    assert Adaptive(4).wants_another(judged) is undecided


def test_a_panel_is_undecided_within_less_than_a_point_and_without_a_majority() -> None:
    def panel(*values: tuple[int, int]):
        said = [
            (judge, *each) for judge, pair in zip("jk", values, strict=True) for each in zip("12", pair, strict=True)
        ]
        scores = tuple(score(node, value, judge) for judge, node, value in said)
        return turn(replies=2).model_copy(update={"scores": scores})

    assert is_undecided(panel((3, 4), (3, 3)))  # means 3 and 3.5
    assert not is_undecided(panel((3, 4), (3, 4)))
    split = [verdict("1", "2", *said, judge=judge) for judge, said in (("j", A), ("k", B))]
    assert is_undecided(turn(replies=2, verdicts=split))


def test_a_turn_has_never_more_replies_than_the_limit() -> None:
    tied = compared(TIE, TIE, TIE, replies=3)
    assert Adaptive(4).wants_another(tied)
    assert not Adaptive(3).wants_another(tied)


def test_it_continues_what_caterpillar_would_continue() -> None:
    for seed in range(20):
        level = [turn(replies=3, scores={"1": 5, "2": 1})]
        assert asyncio.run(Adaptive()(talk(str(seed)), level)) == asyncio.run(caterpillar(talk(str(seed)), level))


@pytest.mark.parametrize(("name", "most"), [("adaptive", 4), ("adaptive:3", 3), ("adaptive:12", 12)])
def test_it_is_known_by_name_with_its_limit(name: str, most: int) -> None:
    assert branching_policy(name) == Adaptive(most)


@pytest.mark.parametrize("name", ["caterpillar", "full", "best", "beam:2"])
def test_no_other_policy_adds_replies(name: str) -> None:
    assert wants_another_of(branching_policy(name)) is None


class DecidedByFour:
    """Prefers reply 4 to all others, which are alike; writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        self.asked.append(ask.at.node)
        value = "A" if "at 4" in ask.first else "B" if "at 4" in ask.second else "tie"
        return ia.ChoiceOpinion(value=value, replies=(value,))

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        self.asked.append(ask.at.node)
        return ia.ScoreOpinion(value=5 if "at 4" in ask.reply else 2, replies=())


def one_turn(judging: str, most: int, judge: DecidedByFour, **other):
    chosen = {"judging": judging, "judges": {"j": judge}, "wants_another": Adaptive(most).wants_another, **other}
    return asyncio.run(run_turn(talk(), None, (), seats(**chosen)))


def test_replies_are_added_until_one_is_preferred_and_each_pair_is_asked_about_once() -> None:
    judge = DecidedByFour()
    done = one_turn("compare", 9, judge)
    assert [reply.id for reply in done.replies] == ["1", "2", "3", "4"]
    assert [reply.hinted for reply in done.replies] == [True, False, False, False]
    pairs = ["1|2", "1|3", "2|3", "1|4", "2|4", "3|4"]
    assert [f"{said.a}|{said.b}" for said in done.verdicts] == pairs
    assert sorted(judge.asked) == sorted(pairs + [pair[::-1] for pair in pairs])


def test_with_scores_each_further_reply_costs_one_call_of_the_judge() -> None:
    judge = DecidedByFour()
    done = one_turn("score", 9, judge)
    assert {said.node: said.value for said in done.scores} == {"1": 2, "2": 2, "3": 2, "4": 5}
    assert sorted(judge.asked) == ["1", "2", "3", "4"]


def test_an_undecided_turn_ends_at_the_limit_and_without_a_judge_nothing_is_added() -> None:
    assert len(one_turn("compare", 3, DecidedByFour()).replies) == 3
    assert len(one_turn("compare", 9, DecidedByFour(), judges={}).replies) == 2


def test_further_replies_go_round_the_candidates() -> None:
    async def other(ask: ia.CandidateAsk) -> ia.Said:
        return ia.Said(text=f"other at {ask.at.node}")

    async def first(ask: ia.CandidateAsk) -> ia.Said:
        return ia.Said(text=f"first at {ask.at.node}")

    done = one_turn("score", 9, DecidedByFour(), candidates={"c": first, "d": other})
    assert [reply.by for reply in done.replies] == ["c", "d", "c", "d"]


def test_later_turns_go_on_from_one_reply_among_all_of_them() -> None:
    policy = Adaptive(9)
    turns = grown(talk(turns=6), policy, judges={"j": DecidedByFour()}, wants_another=policy.wants_another)
    assert [len(done.user.id.split("/")) for done in turns] == [1, 2, 3, 4, 5, 6]  # one path
    assert any(int(done.user.parent.rpartition("/")[2]) > 2 for done in turns[1:])


NOISY = ("--policy", "adaptive:5", "--turns", "3", "--judge", "world:judge?noise=0.5&position_bias=0.3")


@pytest.mark.parametrize("judging", ["compare", "score", "list"])
def test_a_run_is_the_same_at_any_concurrency_and_after_a_stop(judging: str, cli) -> None:
    settings = (*NOISY, "--judging", judging, "--trees", "3")
    assert cli("simulate", "one.db", *settings, "--concurrency", "1").code == 0
    assert cli("simulate", "many.db", *settings, "--concurrency", "32").code == 0
    assert cli("simulate", "broken.db", *settings, "--max-tokens", "6000").code == 3
    assert cli("simulate", "broken.db", *settings).code == 0
    assert trees_of("one.db") == [judged_as("one", judged) for judged in trees_of("broken.db")]
    grown_to = {len(judged.tree.children(node.id)) for judged in trees_of("one.db") for node in judged.tree.turns()}
    assert min(grown_to) == 2 < max(grown_to)
    assert trees_of("one.db") == [judged_as("one", judged) for judged in trees_of("many.db")]
    assert len(calls_of("one.db")) == len(calls_of("broken.db"))


def test_a_judge_that_is_asked_later_judges_the_added_replies_too(cli) -> None:
    assert cli("simulate", "run.db", *NOISY, "--trees", "2").code == 0
    assert cli("judge", "run.db", "--judge", "world:judge").code == 0
    for judged in trees_of("run.db"):
        first, second = (judged.by_judge(name).verdicts for name in judged.judges())
        assert {(said.a, said.b) for said in first} == {(said.a, said.b) for said in second}


def made(run: Path, **settings: str) -> dict[str, int]:
    done = ia.simulate(run, trees=2, turns=2, **settings)
    return {role: used.calls for role, used in done.usage.items()}


def expected(run: Path, **settings: str) -> tuple[dict[str, int], str]:
    found = api.estimate("simulation", run, trees=2, turns=2, **settings)
    return {line.role: line.used.calls for line in found.lines}, found.basis


@pytest.mark.parametrize(
    ("judging", "judge", "most"),
    [
        ("compare", "world:judge?position_bias=1", {"user": 4, "inducer": 4, "candidate": 16, "judge": 48}),
        ("score", "world:judge", {"user": 4, "inducer": 4, "candidate": 16, "judge": 16}),
        ("list", "world:judge", {"user": 4, "inducer": 4, "candidate": 16, "judge": 24}),
    ],
)
def test_a_dry_run_counts_the_most_calls_that_there_can_be(judging: str, judge: str, most, tmp_path: Path) -> None:
    calls, basis = expected(tmp_path / "run.db", policy="adaptive", judging=judging, judge=judge)
    assert calls == most
    assert "the most it can be: every turn is taken to be undecided" in basis
    found = made(tmp_path / "run.db", policy="adaptive", judging=judging, judge=judge)
    # A judge that always prefers what it sees first is never decided; the world's scores mostly are.
    assert found == most if judging == "compare" else found["candidate"] < most["candidate"]
    assert "the most it can be" not in expected(tmp_path / "other.db", policy="caterpillar")[1]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"policy": "adaptive", "branch": 1}, "policy adaptive needs two replies to compare; use --branch 2 or more"),
        (
            {"policy": "adaptive:2"},
            "policy adaptive:2 adds replies up to 2 a turn, and --branch 2 begins with as many; use adaptive:3 or "
            "more, or a smaller --branch",
        ),
        (
            {"policy": "adaptive", "branch": 4},
            "policy adaptive adds replies up to 4 a turn, and --branch 4 begins with as many; use adaptive:5 or more, "
            "or a smaller --branch",
        ),
        (
            {"policy": "adaptive:27", "judging": "list"},
            "--judging list shows a turn's replies as A to Z, and policy adaptive:27 makes more; use at most",
        ),
        ({"policy": "adaptive:0"}, "'adaptive:0' is none of caterpillar, full, beam:K, best, adaptive, adaptive:K"),
        ({"policy": "adaptive:many"}, "'adaptive:many' is none of"),
    ],
)
def test_a_limit_that_leaves_no_room_is_refused(settings: dict[str, object], line: str) -> None:
    with pytest.raises(ia.ConfigError, match="policy") as refused:
        build(SimulationSettings, settings)
    assert line in str(refused.value)
