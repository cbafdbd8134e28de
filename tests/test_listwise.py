"""Judging by ranking all replies of a turn in one call, in two orders: `--judging list`."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loopback
import pytest
from calls_seen import calls_of, trees_of
from judged_trees import one_turn, said

import interalign as ia
from interalign import api
from interalign.agents.answers import parse_ranking
from interalign.agents.judge import rank_siblings
from interalign.agents.protocols import Listing, RankingOpinion
from interalign.agents.reply_text import clean_reply
from interalign.preferences import pairs
from interalign.tree import Node, Verdict

Cli = Callable[..., Any]
PERSONA = ia.Persona(id="p", profile=("I keep bees.",), personality="Dry.")
READ = {
    "Ranking: B > A > C": "BAC",
    "Reasons.\nRanking: C > B > A": "CBA",
    "ranking: b>a>c": "BAC",
    "**Ranking: B > A > C**": "BAC",
    "**Ranking:** `B` > `A` > `C`.": "BAC",
    "- Ranking: [B] > [A] > [C]": "BAC",
    "Ranking: Reply B > Reply A > Reply C": "BAC",
    "> Ranking: B > A > C": "BAC",
    "<p>Ranking: B > A > C</p>": "BAC",
    "\uff32\uff41\uff4e\uff4b\uff49\uff4e\uff47\uff1a\uff22\uff1e\uff21\uff1e\uff23": "BAC",
    "Ranking: B > A > C\n\nI hope this helps.": "BAC",
    "Ranking: B > A > C\nRanking: b > a > c": "BAC",
    "<think>Ranking: C > B > A</think>\nRanking: A > B > C": "ABC",
    "The ranking: C > B > A\nRanking: A > B > C": "ABC",
    "Ranking: first for content.\nRanking: A > B > C": "ABC",
    "| Ranking: C > B > A\nRanking: A > B > C": "ABC",
    # no ranking of the three
    "": None,
    "B > A > C": None,
    "Ranking:": None,
    "Ranking: B": None,
    "Ranking: B > A": None,
    "Ranking: B > A > C > D": None,
    "Ranking: B > A > D": None,
    "Ranking: B > B > C": None,
    "Ranking: B > A > B > C": None,
    "Ranking: B, A, C": None,
    "Ranking: B = A > C": None,
    "Ranking: B >= A > C": None,
    "Ranking: C < A < B": None,
    "Ranking: B A C": None,
    "Ranking: 2 > 1 > 3": None,
    "Ranking: X > Y > Z": None,
    "Ranking: B > A > C or A > B > C": None,
    "Ranking: B > A > C, but A is close": None,
    "Not Ranking: B > A > C": None,
    "Ranking: B > A > C\nRanking: A > B > C": None,
    "Ranking: B > A > C\nRanking: B > A": None,
    "Ranking: B > A > C\nRanking: tie": None,
}


@pytest.mark.parametrize(("reply", "order"), READ.items())
def test_a_ranking_names_every_reply_once_or_is_none(reply: str, order: str | None) -> None:
    if order is None:
        with pytest.raises(ia.BadContentError):
            parse_ranking(clean_reply(reply, "assistant") if reply else reply, 3)
    else:
        assert parse_ranking(clean_reply(reply, "assistant"), 3) == tuple("ABC".index(letter) for letter in order)


@pytest.mark.parametrize("count", [2, 5, 26])
def test_any_number_of_replies_up_to_the_alphabet_can_be_ranked(count: int) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]
    assert parse_ranking(f"Ranking: {' > '.join(reversed(letters))}", count) == tuple(reversed(range(count)))


class Ranker:
    """Ranks by what a function says of the shown texts; keeps what it was asked."""

    def __init__(self, rank: Callable[[tuple[str, ...]], tuple[int, ...] | None]) -> None:
        self.asked: list[Listing] = []
        self._rank = rank

    async def rank(self, ask: Listing) -> RankingOpinion:
        """Its ranking, with the shown texts as the raw reply."""
        self.asked.append(ask)
        return RankingOpinion(value=self._rank(ask.ranked), replies=("".join(ask.ranked),))


def siblings(*texts: str) -> list[Node]:
    return list(one_turn(*texts).nodes[1:])


def ranked(ranker: Ranker, replies: list[Node], seed: int = 1) -> list[Verdict]:
    at, talk = ia.At(tree="t", node="u", seed=seed), (ia.Message(role="user", content="Hi"),)
    return asyncio.run(rank_siblings(ranker, "j", at, PERSONA, talk, replies))


def alphabetical(shown: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(shown)), key=shown.__getitem__))


def outcomes(verdicts: list[Verdict]) -> dict[str, str]:
    return {f"{verdict.a}{verdict.b}": verdict.outcome for verdict in verdicts}


def test_a_judge_that_keeps_to_its_ranking_prefers_in_every_pair() -> None:
    ranker = Ranker(alphabetical)
    verdicts = ranked(ranker, siblings("c", "a", "b"))
    assert outcomes(verdicts) == {"12": "b", "13": "b", "23": "a"}
    forth, back = (ask.ranked for ask in ranker.asked)
    assert forth == back[::-1]
    assert len({ask.at.node for ask in ranker.asked}) == len({ask.at.seed for ask in ranker.asked}) == 2
    for verdict in verdicts:
        first, second = verdict.orders
        assert (first.first, first.second, second.first, second.second) == (verdict.a, verdict.b, verdict.b, verdict.a)
        assert {first.replies[0], second.replies[0]} == {"".join(forth), "".join(back)}


def test_where_the_two_rankings_differ_there_is_no_preference() -> None:
    assert set(outcomes(ranked(Ranker(lambda shown: (0, 1, 2)), siblings("c", "a", "b"))).values()) == {"tie"}

    def best_first_then_as_shown(shown: tuple[str, ...]) -> tuple[int, ...]:
        best = shown.index("a")
        return best, *(place for place in range(len(shown)) if place != best)

    found = outcomes(ranked(Ranker(best_first_then_as_shown), siblings("c", "a", "b")))
    assert found == {"12": "b", "13": "tie", "23": "a"}


def test_one_ranking_that_could_not_be_read_leaves_every_pair_missing() -> None:
    seen: list[int] = []

    def once(shown: tuple[str, ...]) -> tuple[int, ...] | None:
        seen.append(1)
        return alphabetical(shown) if len(seen) == 1 else None

    verdicts = ranked(Ranker(once), siblings("c", "a", "b"))
    assert set(outcomes(verdicts).values()) == {"missing"}
    assert sum(order.value is None for verdict in verdicts for order in verdict.orders) == 3


def test_the_order_is_drawn_by_the_address() -> None:
    replies = siblings("a", "b", "c", "d")
    orders = []
    for seed in (1, 1, 2, 3, 4, 5):
        ranker = Ranker(alphabetical)
        ranked(ranker, replies, seed)
        orders.append(ranker.asked[0].ranked)
    assert orders[0] == orders[1]
    assert len(set(orders)) > 2


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_replies_are_not_asked_about(count: int) -> None:
    ranker = Ranker(alphabetical)
    assert (ranked(ranker, siblings("a", "b")[:count]), ranker.asked) == ([], [])


def test_pairs_are_those_on_which_both_rankings_agree() -> None:
    judged = said(one_turn("c", "a", "b"), *ranked(Ranker(alphabetical), siblings("c", "a", "b")))
    assert [(pair.chosen.text, pair.rejected.text) for pair in pairs(judged, "best-worst")] == [("a", "c")]
    assert {(pair.chosen.text, pair.rejected.text) for pair in pairs(judged, "all")} == {
        ("a", "c"), ("b", "c"), ("a", "b"),
    }  # fmt: skip


SMALL: dict[str, Any] = {"judging": "list", "branch": 4, "trees": 3, "turns": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the world, judged by lists."""
    path = tmp_path_factory.mktemp("list") / "run.db"
    ia.simulate(path, **SMALL)
    return path


def test_a_turn_takes_two_calls_of_the_judge_and_says_something_of_every_pair(run: Path) -> None:
    assert len([call for call in calls_of(run) if call.role == "judge"]) == 3 * 2 * 2
    assert [len(judged.verdicts) for judged in trees_of(run)] == [2 * 6] * 3
    assert api.estimate("simulation", run.with_name("new.db"), **SMALL).lines[-1].used.calls == 12
    assert ia.simulate(run, **SMALL).calls == 0


def test_exports_report_and_calibration_read_lists_as_any_verdicts(run: Path, cli: Cli) -> None:
    for mode, least in (("best-worst", 3), ("all", 10)):
        assert cli("export", run, "--format", "dpo", "--out", "r.jsonl", "--pairs", mode).code == 0
        rows = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
        assert len(rows) >= least
        assert all(row["chosen"] != row["rejected"] for row in rows)
    report = api.report(run)
    assert report.judge.comparisons is not None
    assert (report.judge.comparisons.n, report.judge.comparisons.missing) == (36, 0)
    found = api.calibrate(run, against="truth").figures
    assert (found["accuracy_1.5_4"].value, found["position_bias"].value) == (1, 0)


def test_a_judge_that_leaves_the_order_as_it_was_shown_yields_no_pair(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(run.read_bytes())
    biased = "world:judge?position_bias=1"
    api.judge(copy, judge=biased)
    assert api.export(copy, tmp_path / "rows.jsonl", format="dpo", judge=biased) == 0
    said = [verdict for judged in trees_of(copy) for verdict in judged.by_judge(biased).verdicts]
    assert len(said) == 36
    assert {order.value for verdict in said for order in verdict.orders} == {"A"}
    assert api.calibrate(copy, against="truth", judge=biased).figures["first"].value == 1


def test_a_shuffling_judge_is_found_out(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(run.read_bytes())
    api.judge(copy, judge="world:judge?noise=1")
    found = api.calibrate(copy, against="truth", judge="world:judge?noise=1").figures["swap_consistency"]
    assert found.value is not None
    assert 0.25 < found.value < 0.75


def judged_by(said: str, run: Path, **settings: Any) -> list[dict[str, Any]]:
    with loopback.serving(lambda body: loopback.completion(said)) as server:
        runtime = ia.Runtime(base_url=server.url)
        shape: dict[str, Any] = {"trees": 1, "turns": 1, "branch": 3, "judging": "list", "judge": "openai:j"}
        assert ia.simulate(run, runtime=runtime, **{**shape, **settings}).done == 1
    return server.asked


def test_a_server_is_shown_all_replies_in_both_orders(tmp_path: Path) -> None:
    asked = judged_by("They differ.\n**Ranking: B > C > A**", tmp_path / "run.db")
    texts = [body["messages"][-1]["content"] for body in asked]
    assert len(texts) == 2
    (judged,) = trees_of(tmp_path / "run.db")
    shown = [re.findall(r"^Reply [A-Z]:\n\| (.*)$", text, re.MULTILINE) for text in texts]
    assert shown[0] == shown[1][::-1]
    assert sorted(shown[0]) == sorted(node.text for node in judged.tree.nodes if node.role == "assistant")
    assert all("Reply C:\n" in text and "Reply D:" not in text for text in texts)
    # B is in the middle both times; A and C change their places, so what is said of them cancels out.
    assert sorted(outcomes(list(judged.verdicts)).values()).count("tie") == 1


def test_what_cannot_be_read_is_asked_again_with_the_form_and_then_missing(tmp_path: Path) -> None:
    asked = judged_by("Ranking: B, C, A", tmp_path / "run.db")
    assert len(asked) == 2 * 3
    again = [b["messages"][-1]["content"] for b in asked if "[asked again]" in b["messages"][-1]["content"]]
    assert len(again) == 4
    assert "each exactly once, the best first, with `>` between them" in " ".join(again[0].split())
    (judged,) = trees_of(tmp_path / "run.db")
    assert {verdict.outcome for verdict in judged.verdicts} == {"missing"}


def test_a_rubric_stands_in_the_prompt_that_asks_for_a_ranking(tmp_path: Path) -> None:
    (tmp_path / "rubric.txt").write_text("Warmth above all.")
    asked = judged_by("Ranking: A > B > C", tmp_path / "run.db", rubric=tmp_path / "rubric.txt")
    assert all("| Warmth above all." in body["messages"][-1]["content"] for body in asked)


def test_only_a_run_judged_by_lists_has_their_prompts_in_its_identity(run: Path, tmp_path: Path) -> None:
    ia.simulate(tmp_path / "plain.db", trees=1, turns=1)
    with ia.open_run(run) as listed, ia.open_run(tmp_path / "plain.db") as plain:
        assert listed.run is not None
        assert plain.run is not None
        more = set(listed.run.identity["prompts"]) - set(plain.run.identity["prompts"])
        assert more == {"judge_list", "again_list"}
        assert listed.run.identity["judging"] == "list"


class ByLength:
    """A plug-in judge that ranks the longest reply first."""

    async def rank(self, ask: Listing) -> RankingOpinion:
        """By length alone."""
        order = sorted(range(len(ask.ranked)), key=lambda place: -len(ask.ranked[place]))
        return RankingOpinion(value=tuple(order), replies=("by length",))


class Wrong:
    """A plug-in judge that names one reply twice."""

    async def rank(self, ask: Listing) -> RankingOpinion:
        """No ranking."""
        return RankingOpinion(value=(0,) * len(ask.ranked), replies=())


class Comparing:
    """A plug-in judge that can only compare."""

    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        """Always the first."""
        return ia.ChoiceOpinion(value="A", replies=("A",))


def test_a_plug_in_can_rank(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "run.db", **{**SMALL, "trees": 1}, judge="test_listwise:ByLength")
    (judged,) = trees_of(tmp_path / "run.db")
    for pair in pairs(judged, "all"):
        assert len(pair.chosen.text) > len(pair.rejected.text)
    assert api.estimate("simulation", tmp_path / "new.db", **SMALL, judge="test_listwise:ByLength").trees == 3
    assert "ByLength with rank" in api.check_role("test_listwise:ByLength")


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("Wrong", "ranked 4 replies as (0, 0, 0, 0); name each place from 0 once"),
        ("Comparing", "has no `rank`; add it, or use --judging compare"),
    ],
)
def test_a_plug_in_that_ranks_nothing_fails_its_trees_by_name(judge: str, said: str, tmp_path: Path, cli: Cli) -> None:
    ended = cli(
        "simulate", "r.db", "--judging", "list", "--judge", f"test_listwise:{judge}", "--trees", 1, "--branch", 4
    )
    assert ended.code == 1
    assert said in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--branch", "27"], "--judging list shows a turn's replies as A to Z, and --branch 27 makes more"),
        (["--aspects"], "--aspects are scores, and the judge is to list; add --judging score"),
    ],
)
def test_lists_that_cannot_be_are_refused_in_one_line(words: list[str], said: str, cli: Cli) -> None:
    ended = cli("simulate", "r.db", "--judging", "list", *words)
    assert (ended.code, said in ended.err, ended.err.count("\n"), Path("r.db").exists()) == (2, True, 1, False)


def test_the_viewer_shows_the_calls_behind_a_ranked_pair(run: Path) -> None:
    from interalign.eval.view.call_index import TreeCalls

    with ia.open_run(run) as store:
        judged, calls = next(iter(store.judged_trees())), TreeCalls(store.calls_of("t00000"))
    for verdict in judged.verdicts:
        for order in verdict.orders:
            (call,) = calls.of_judge(verdict.judge, f"{order.first}|{order.second}", order.replies)
            assert call.reply.text == order.replies[0]
