"""From judged trees to the report: every figure of a small run by hand, the JSON schema, the page, the tables."""

import doctest
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import judged_trees
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue
from rich.console import Console

from interalign.errors import MetricError
from interalign.eval.chart import Axis, ChartLine, curves_svg, spread
from interalign.eval.report import chance, headline, print_report, report_html, report_json, summary
from interalign.eval.results import (
    WORLD_NOTE,
    CandidateScores,
    Report,
    ScoredCase,
    candidate_result,
    candidate_scores,
    comparisons,
    evaluation_report,
    simulation_report,
)
from interalign.personas import Persona
from interalign.records import Usage
from interalign.tree import Choice, JudgedTree, Node, Presentation, Score, Tree, Verdict

HOSTILE = "<script>alert(1)</script>&\"'"


def talk(name: str, persona: str, scores: Sequence[int | None], judge: str = "strict", said: str = "") -> JudgedTree:
    """A linear conversation of one candidate with these scores; the user says `said`, or something new each turn."""
    nodes: list[Node] = []
    for turn in range(1, len(scores) + 1):
        above = nodes[-1].id if nodes else None
        words = said or f"this is my question {turn}"
        nodes.append(Node(id=f"u{turn}", parent=above, turn=turn, role="user", text=words, by="user"))
        nodes.append(Node(id=f"a{turn}", parent=f"u{turn}", turn=turn, role="assistant", text="reply", by=name))
    tree = Tree(id=f"{name}/{persona}", run="r", persona=persona, seed=0, nodes=tuple(nodes))
    given_scores = tuple(
        Score(judge=judge, node=f"a{turn}", replies=("Score",) if value else ("?", "?", "?"), value=value)
        for turn, value in enumerate(scores, start=1)
    )
    return JudgedTree(tree=tree, scores=given_scores)


def scored(name: str, persona: str, profile: str, scores: Sequence[int | None]) -> ScoredCase:
    return ScoredCase(candidate=name, case=persona, profile=(profile,), judged=talk(name, persona, scores))


CASES = (
    scored("plain", "p1", "walks", [1, 2, 3]),
    scored("plain", "p2", "walks", [1, 2, 3]),
    scored("plain", "p3", "reads", [3, None, 5]),
    scored("eager", "p1", "walks", [2, 4, 4]),
    scored("eager", "p2", "walks", [3, 4, 5]),
    scored("eager", "p3", "reads", [4]),
)


def small_report(
    cases: Sequence[ScoredCase] = CASES, run: Mapping[str, JsonValue] | None = None, turns: int = 3
) -> Report:
    judged = [case.judged for case in cases if case.judged is not None]
    usage = {"user": Usage(calls=16, prompt_tokens=1600, completion_tokens=160, bad=1, usd=0.25)}
    return evaluation_report(run or {"user": "openai:someone"}, candidate_scores(cases, turns), judged, usage)


def shown(report: Report, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_report(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# Scores of trees ------------------------------------------------------------------------------------------------------


def test_scores_come_from_the_trees_case_by_case() -> None:
    plain, eager = candidate_scores(CASES, turns=3)
    assert plain.name == "plain"
    assert plain.scores == {"p1": [1, 2, 3], "p2": [1, 2, 3], "p3": [3, None, 5]}
    assert eager.scores == {"p1": [2, 4, 4], "p2": [3, 4, 5], "p3": [4, None, None]}
    assert eager.profile_of == {"p1": "walks", "p2": "walks", "p3": "reads"}


def test_a_conversation_that_failed_before_its_first_reply_is_missing_at_every_turn() -> None:
    case = ScoredCase(candidate="plain", case="p1", profile=("walks",), judged=None)
    (plain,) = candidate_scores([case], turns=2)
    assert plain.scores == {"p1": [None, None]}
    assert candidate_result(plain).missing == 2


def test_only_the_named_judge_counts_and_without_a_name_the_newest() -> None:
    tree = talk("plain", "p1", [1, 2], judge="old")
    newer = tree.model_copy(update={"scores": (*tree.scores, *talk("plain", "p1", [5, 4], judge="new").scores)})
    case = ScoredCase(candidate="plain", case="p1", profile=("walks",), judged=newer)
    assert candidate_scores([case], turns=2)[0].scores == {"p1": [5, 4]}
    assert candidate_scores([case], turns=2, judge="old")[0].scores == {"p1": [1, 2]}
    report = evaluation_report({}, candidate_scores([case], turns=2), [newer], {})
    assert (report.judge.name, report.judge.others, report.judge.asked) == ("new", ("old",), 2)


def test_a_case_that_a_candidate_has_twice_is_refused() -> None:
    with pytest.raises(MetricError, match="'plain' has case 'p1' twice"):
        candidate_scores([CASES[0], CASES[0]], turns=3)


def test_a_reply_after_the_last_turn_is_refused() -> None:
    with pytest.raises(MetricError, match="case 'p1' of 'plain' has a reply after turn 2"):
        candidate_scores([CASES[0]], turns=2)


def test_two_replies_in_a_turn_are_refused_in_an_evaluation() -> None:
    tree = talk("plain", "p1", [3])
    second = Node(id="a1b", parent="u1", turn=1, role="assistant", text="other", by="plain")
    forked = JudgedTree(tree=Tree(id="t", run="r", persona="p1", seed=0, nodes=(*tree.tree.nodes, second)))
    with pytest.raises(MetricError, match="two replies in a turn"):
        candidate_scores([ScoredCase(candidate="plain", case="p1", profile=("x",), judged=forked)], turns=1)


def test_rows_of_different_length_are_refused() -> None:
    with pytest.raises(MetricError, match="each of the K turns"):
        CandidateScores(name="x", scores={"a": [1, 2], "b": [1]}, profile_of={"a": "p", "b": "p"})


def test_a_case_without_a_profile_is_refused() -> None:
    with pytest.raises(MetricError, match="no profile for case 'b'"):
        CandidateScores(name="x", scores={"a": [1], "b": [1]}, profile_of={"a": "p"})


# Figures --------------------------------------------------------------------------------------------------------------


def test_the_figures_of_a_candidate_by_hand() -> None:
    plain, eager = (candidate_result(scores) for scores in candidate_scores(CASES, turns=3))
    assert plain.al == (pytest.approx(5 / 3), 2.0, pytest.approx(11 / 3))
    assert plain.n == (3, 2, 3)
    assert plain.missing == 1
    assert plain.n_cases == 3
    assert plain.n_profiles == 2
    assert plain.al_mean == pytest.approx(22 / 9)
    assert plain.ir == pytest.approx(1.0)
    # AL about its mean 22/9: -7/9, -4/9, 11/9, squared sum 186/81; the line explains 2 of it.
    assert plain.r2 == pytest.approx(2 * 81 / 186)
    assert plain.n_al == (0.0, pytest.approx(1 / 6), 1.0)
    assert plain.n_ir == pytest.approx(0.5)
    assert plain.n_r2 == pytest.approx(plain.r2)
    assert eager.al == (3.0, 4.0, 4.5)
    assert eager.n == (3, 2, 2)
    assert eager.missing == 2


def test_an_interval_comes_from_whole_profiles() -> None:
    # Two profiles: a resample is both, or one of them twice. So the ends are the means of one profile alone.
    plain = candidate_result(candidate_scores(CASES, turns=3)[0])
    assert plain.al_k_ci == ((1.0, 3.0), None, (3.0, 5.0))  # at turn 2 `reads` has no score: a quarter lack it
    assert plain.al_ci == (2.0, 4.0)
    assert plain.ir_ci is None


def test_candidates_are_compared_on_the_places_both_have() -> None:
    (pair,) = comparisons(candidate_scores(CASES, turns=3))
    assert (pair.a, pair.b) == ("plain", "eager")
    # Turn 1: (-1 - 2 - 1) / 3; turn 2: (-2 - 2) / 2; turn 3: (-1 - 2) / 2. p3 counts at turn 1 only.
    assert pair.delta_al == pytest.approx((-4 / 3 - 2 - 1.5) / 3)
    assert pair.n == 3
    assert pair.n_profiles == 2
    assert pair.p == 0.5
    assert pair.p_holm == 0.5


def test_cases_that_one_candidate_lacks_are_left_out_of_a_comparison() -> None:
    (pair,) = comparisons(candidate_scores([*CASES[:3], CASES[3]], turns=3))
    assert pair.n == 1
    assert pair.delta_al == pytest.approx((-1 - 2 - 1) / 3)
    assert (pair.ci, pair.p, pair.p_holm) == (None, None, None)


def test_every_pair_of_candidates_is_compared_once() -> None:
    cases = [scored(name, "p1", "walks", [1, 2]) for name in ("x", "y", "z")]
    assert [(pair.a, pair.b) for pair in comparisons(candidate_scores(cases, turns=2))] == [
        ("x", "y"),
        ("x", "z"),
        ("y", "z"),
    ]


def test_candidates_with_different_numbers_of_turns_are_refused() -> None:
    short = CandidateScores(name="x", scores={"a": [1]}, profile_of={"a": "p"})
    long = CandidateScores(name="y", scores={"a": [1, 2]}, profile_of={"a": "p"})
    with pytest.raises(MetricError, match="different numbers of turns"):
        evaluation_report({}, [short, long], [], {})


def test_two_candidates_of_one_name_are_refused() -> None:
    same = CandidateScores(name="x", scores={"a": [1]}, profile_of={"a": "p"})
    with pytest.raises(MetricError, match="the same name"):
        evaluation_report({}, [same, same], [], {})


# Judge, hint, user ----------------------------------------------------------------------------------------------------


def asked(first: str, second: str, said: Choice | None, attempts: int = 1) -> Presentation:
    return Presentation(first=first, second=second, replies=("raw",) * attempts, value=said)


def compared(orders: tuple[Choice | None, Choice | None], attempts: int = 1) -> Verdict:
    """A verdict on the hinted reply `1` and the unhinted one `2`: what was said to (1, 2) and to (2, 1)."""
    forth, back = orders
    return Verdict(judge="strict", a="1", b="2", orders=(asked("1", "2", forth, attempts), asked("2", "1", back)))


def fork(
    tree: str,
    persona: str,
    *verdicts: Verdict,
    scores: Sequence[Score] = (),
    by: str = "candidate",
    hinted: bool = False,
) -> JudgedTree:
    """One turn with a hinted reply `1` and an unhinted one `2`."""
    nodes = (
        judged_trees.user("u", "hello"),
        judged_trees.reply("1", "one", parent="u", by="candidate", hinted=True),
        judged_trees.reply("2", "two", parent="u", by=by, hinted=hinted),
    )
    return judged_trees.said(judged_trees.tree(*nodes, tree_id=tree, persona=persona), *verdicts, *scores)


PERSONAS = tuple(Persona(id=f"p{i}", profile=(f"fact {i // 2}",), personality="calm") for i in range(1, 5))


def test_the_judge_is_described_by_what_it_said_in_both_orders() -> None:
    trees = [
        fork("t1", "p1", compared(("A", "B"))),  # both orders: the hinted reply
        fork("t2", "p2", compared(("A", "A"), attempts=2)),  # whatever comes first: a tie
        fork("t3", "p3", compared(("tie", "tie"))),
        fork("t4", "p4", compared((None, "A"), attempts=3)),
    ]
    judge = simulation_report({}, trees, PERSONAS, {}, turns=1).judge
    assert (judge.name, judge.asked, judge.missing, judge.re_asked) == ("strict", 8, 1, 2)
    pairs = judge.comparisons
    assert pairs is not None
    assert (pairs.n, pairs.missing) == (4, 1)
    assert pairs.consistency == pytest.approx(2 / 3)
    assert pairs.tie_rate == pytest.approx(2 / 3)
    assert (pairs.first_rate, pairs.first_n) == (pytest.approx(4 / 5), 5)
    assert judge.scores is None


def test_a_judge_with_a_position_bias_shows_it() -> None:
    trees = [fork(f"t{i}", "p1", compared(("A", "A"))) for i in range(3)]
    pairs = simulation_report({}, trees, PERSONAS, {}, turns=1).judge.comparisons
    assert pairs is not None
    assert (pairs.first_rate, pairs.consistency, pairs.tie_rate) == (1.0, 0.0, 1.0)


def test_the_win_rate_of_hinted_replies_counts_a_tie_as_half() -> None:
    trees = [
        fork("t1", "p1", compared(("A", "B"))),
        fork("t2", "p2", compared(("A", "A"))),
        fork("t3", "p3", compared(("B", "A"))),
        fork("t4", "p4", compared(("A", "B"))),
        fork("t5", "p4", compared((None, "B"))),
    ]
    hint = simulation_report({}, trees, PERSONAS, {}, turns=1).judge.hint
    assert hint is not None
    assert (hint.n, hint.wins, hint.ties, hint.losses) == (4, 2, 1, 1)
    assert hint.win_rate == 2.5 / 4
    assert (hint.by_turn, hint.n_by_turn) == ((0.625,), (4,))
    # Profiles: p1 alone (1), p2 and p3 (0.5, 0), p4 (1): with three profiles a resample may be one of them thrice.
    assert hint.ci == (0.25, 1.0)


def test_scores_also_say_whether_the_hint_helped() -> None:
    def pair(hinted: int | None, plain: int) -> list[Score]:
        values = (("1", hinted), ("2", plain))
        return [judged_trees.score(node, value, "strict") for node, value in values]

    trees = [fork("t1", "p1", scores=pair(5, 2)), fork("t2", "p2", scores=pair(3, 3))]
    trees.append(fork("t3", "p3", scores=pair(None, 3)))
    report = simulation_report({}, trees, PERSONAS, {}, turns=1)
    hint = report.judge.hint
    assert hint is not None
    assert (hint.n, hint.wins, hint.ties, hint.losses) == (2, 1, 1, 0)
    assert report.judge.scores is not None
    assert report.judge.scores.counts == (0, 1, 3, 0, 1)
    assert [result.name for result in report.candidates] == ["candidate+hint", "candidate"]
    assert [result.al for result in report.candidates] == [(4.0,), (pytest.approx(8 / 3),)]
    assert [result.missing for result in report.candidates] == [1, 0]


def test_replies_of_different_candidates_say_nothing_about_the_hint() -> None:
    tree = fork("t1", "p1", compared(("A", "B")), by="somebody-else")
    assert simulation_report({}, [tree], PERSONAS, {}, turns=1).judge.hint is None


def test_several_scored_replies_of_a_turn_count_by_their_mean() -> None:
    scores = [judged_trees.score(node, value, "s") for node, value in (("1", 2), ("2", 5))]
    tree = fork("t1", "p1", scores=scores, hinted=True)
    (result,) = simulation_report({}, [tree], PERSONAS, {}, turns=1).candidates
    assert result.al == (3.5,)
    assert result.n == (1,)


def test_a_simulation_without_scores_has_no_candidates_in_its_report() -> None:
    report = simulation_report({}, [fork("t1", "p1", compared(("A", "B")))], PERSONAS, {}, turns=1)
    assert report.candidates == ()
    assert report.comparisons == ()
    assert report.kind == "simulation"
    assert report.n_cases == 1


def test_a_persona_that_was_not_passed_is_named() -> None:
    with pytest.raises(MetricError, match="tree 't1' has persona 'p9'"):
        simulation_report({}, [fork("t1", "p9")], PERSONAS, {}, turns=1)


def test_the_user_agent_is_described_by_simple_counts() -> None:
    fresh, stuck = talk("plain", "p1", [1, 2, 3]), talk("plain", "p2", [1, 2, 3], said="Well,  I  cook")
    user = evaluation_report({"user": "openai:someone"}, [], [fresh, stuck], {}).simulator
    assert (user.user, user.conversations, user.turns) == ("openai:someone", 2, 6)
    assert user.mean_words == (3 * 5 + 3 * 3) / 6
    assert user.mean_characters == (3 * 21 + 3 * 14) / 6
    assert user.repeated == 2 / 6


def test_the_same_words_on_two_branches_are_no_repetition() -> None:
    user, reply = judged_trees.user, judged_trees.reply
    grown = judged_trees.tree(
        user("u", "hello"),
        reply("1", "one", parent="u"),
        reply("2", "two", parent="u"),
        user("1u", "thanks", parent="1", turn=2),
        user("2u", "thanks", parent="2", turn=2),
        reply("1u1", "one", parent="1u", turn=2),
        user("1u1u", "THANKS ", parent="1u1", turn=3),
        persona="p1",
    )
    tree = judged_trees.said(grown)
    assert simulation_report({}, [tree], PERSONAS, {}, turns=3).simulator.repeated == 1 / 4


# Notes ----------------------------------------------------------------------------------------------------------------


def test_every_figure_that_is_null_is_explained() -> None:
    cases = [
        scored("flat", "p1", "walks", [3, 3, 3]),
        scored("gap", "p1", "walks", [1, None, 3]),
        scored("fine", "p1", "walks", [1, 2, 3]),
    ]
    report = small_report(cases)
    assert report.notes == (
        "No intervals and no p: they compare profiles, and there are fewer than two.",
        "Missing scores: 1. They lower n at their turns; nothing is put in their place.",
        "flat: AL is flat, so R2, N-AL, N-IR and N-R2 are undefined.",
        "gap: no score at turn 2, so AL there, IR and R2 are undefined.",
        "The judge gave no readable answer to 1 of 9 questions; none is guessed.",
    )
    flat, gap, fine = report.candidates
    assert (flat.ir, flat.r2, flat.n_al, flat.n_ir, flat.n_r2) == (0.0, None, (None, None, None), None, None)
    assert (gap.al, gap.al_mean, gap.ir) == ((1.0, None, 3.0), 2.0, None)
    assert (fine.ir, fine.al_ci, fine.ir_ci) == (1.0, None, None)


def test_one_turn_is_too_few_for_a_rate_and_the_report_says_so() -> None:
    report = small_report([scored("plain", "p1", "walks", [3])], turns=1)
    assert "plain: IR, R2 and N-AL need at least two turns." in report.notes


def test_few_profiles_are_pointed_out() -> None:
    assert "The intervals rest on 2 profiles only; with under 8 they are too narrow." in small_report().notes


@pytest.mark.parametrize(
    "run",
    [
        {"user": "world:user"},
        {"candidate": [{"name": "x", "model": "world:blind"}]},
        {"settings": {"candidate": ["x=world:blind?level=2"]}},
    ],
)
def test_a_run_with_a_world_model_says_what_its_figures_are_worth(run: dict[str, JsonValue]) -> None:
    assert WORLD_NOTE in small_report(run=run).notes


def test_a_run_without_the_world_does_not_mention_it() -> None:
    report = small_report(run={"user": "openai:world-class", "personas": "world"})
    assert WORLD_NOTE not in report.notes
    assert "embedded world" not in shown(report)


# JSON -----------------------------------------------------------------------------------------------------------------


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def test_the_json_has_exactly_the_documented_keys() -> None:
    found = json.loads(report_json(small_report()), parse_constant=refuse_constant)
    assert found["schema"] == 1
    assert list(found)[:7] == ["schema", "run", "candidates", "comparisons", "judge", "simulator", "usage"]
    assert set(list(found)[7:]) == {
        "inducer",
        "controls",
        "siblings",
        "simulator_swap",
        "panel_weights",
        "aspects",
        "corrected",
        "replies",
        "kind",
        "turns",
        "n_cases",
        "n_profiles",
        "bootstrap",
        "notes",
    }
    assert set(found["candidates"][0]) == (
        {"name", "n_cases", "missing", "al", "al_mean", "al_ci", "ir", "ir_ci", "r2", "n_al", "n_ir", "n_r2"}
        | {"n", "n_profiles", "al_k_ci", "reached"}
    )
    assert set(found["comparisons"][0]) == (
        {"a", "b", "delta_al", "ci", "p", "n"} | {"p_holm", "delta_ir", "delta_ir_ci", "n_profiles"}
    )
    assert set(found["judge"]) == (
        {
            "name",
            "others",
            "asked",
            "missing",
            "re_asked",
            "comparisons",
            "scores",
            "hint",
            "members",
            "agreement",
            "ties",
        }
    )
    counted = {"user", "conversations", "turns", "mean_words", "mean_characters"}
    assert set(found["simulator"]) == counted | {
        "repeated", "ended", "as_assistant", "refused", "third_person", "copied", "ended_after",
        "audited", "findings", "members",
    }  # fmt: skip
    assert found["usage"] == {
        "user": {"calls": 16, "prompt_tokens": 1600, "completion_tokens": 160, "bad": 1, "usd": 0.25}
    }
    assert found["bootstrap"] == {"unit": "profile", "resamples": 2000, "level": 0.95, "seed": 0}


def test_the_json_of_a_comparing_judge_has_exactly_the_documented_keys() -> None:
    trees = [fork("t1", "p1", compared(("A", "B")))]
    judge = json.loads(report_json(simulation_report({}, trees, PERSONAS, {}, turns=1)))["judge"]
    assert set(judge["comparisons"]) == {"n", "missing", "consistency", "tie_rate", "first_rate", "first_n"}
    assert set(judge["hint"]) == (
        {"n", "wins", "ties", "losses", "win_rate", "ci", "by_turn", "by_turn_ci", "n_by_turn"}
    )


def test_values_reach_the_json_unrounded_and_missing_ones_as_null() -> None:
    plain, eager = json.loads(report_json(small_report()))["candidates"]
    assert plain["al"] == [5 / 3, 2.0, 11 / 3]
    assert plain["al_k_ci"] == [[1.0, 3.0], None, [3.0, 5.0]]
    assert plain["ir_ci"] is None
    assert eager["n"] == [3, 2, 2]


def test_a_number_that_is_not_finite_becomes_null_in_json() -> None:
    report = small_report(run={"temperature": math.nan, "limit": math.inf})
    assert json.loads(report_json(report), parse_constant=refuse_constant)["run"] == {
        "temperature": None,
        "limit": None,
    }


def test_lone_surrogates_do_not_break_any_form_of_the_report() -> None:
    report = small_report([scored("na\udc80me", "p1", "walks", [1, 2])], turns=2)
    assert json.loads(report_json(report))["candidates"][0]["name"] == "na\ufffdme"
    assert "na\ufffdme" in report_html(report).encode().decode()
    assert "na\ufffdme" in shown(report)


def test_an_empty_run_has_a_report_of_nothing() -> None:
    report = evaluation_report({}, [], [], {})
    assert json.loads(report_json(report))["candidates"] == []
    assert "<svg" not in report_html(report)
    assert "Judge: none was asked." in shown(report)


# The page -------------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Collects the tags, the attributes and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_draws_the_curves_and_loads_nothing() -> None:
    page = report_html(small_report())
    assert "<svg" in page
    assert not re.search(r"https?:|//[a-z]", page)
    found = Tags(page)
    assert not found.tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    references = [value for name, value in found.attributes if name in {"href", "src", "xlink:href"}]
    assert references
    assert all(value is not None and value.startswith("#") for value in references)


def test_hostile_names_are_shown_and_never_obeyed() -> None:
    run = {"name": HOSTILE, "user": HOSTILE}
    cases = [scored(HOSTILE, "p1", "walks", [1, 2]), scored("$x_{1}$ \x1b[31m", "p1", "walks", [2, 3])]
    page = report_html(small_report(cases, run, turns=2))
    assert "<script" not in page
    found = Tags(page)
    assert found.text.count(HOSTILE) >= 4
    assert not any(name.startswith("on") for name, _ in found.attributes)


def test_the_same_report_gives_the_same_bytes() -> None:
    assert report_html(small_report()) == report_html(small_report())
    assert report_json(small_report()) == report_json(small_report())


def test_the_page_says_how_many_cases_and_who_judged() -> None:
    text = " ".join(Tags(report_html(small_report())).text.split())
    assert "mean over 3 cases, scored 1 to 5 by strict" in text
    assert "Evaluation: 3 cases of 2 profiles, 3 turns, judged by strict" in text
    assert "Shaded: 95 % interval of each turn" in text


def test_the_page_of_a_simulation_shows_the_hint_by_turn() -> None:
    trees = [fork("t1", "p1", compared(("A", "B"))), fork("t2", "p2", compared(("A", "B")))]
    page = report_html(simulation_report({}, trees, PERSONAS, {}, turns=1))
    assert "Hinted against unhinted replies by turn" in page
    assert "<svg" in page


def test_the_chart_is_well_formed_follows_the_page_and_escapes_names() -> None:
    lines = [
        ChartLine("a<b&c", (1.0, None, 3.0), (None, None, (2.0, 4.0))),
        ChartLine("$x_{1}$", (2.0, 2.5, 5.0), (None,) * 3),
    ]
    svg = curves_svg(lines, Axis("level", 1, 5, (1, 2, 3, 4, 5)))
    root = ElementTree.fromstring(svg.replace("<svg", '<svg xmlns:xlink="x"', 1))
    words = [element.text for element in root.iter("text")]
    assert "a<b&c" in words
    assert "$x_{1}$" in words  # not set as mathematics
    assert "var(--series-0)" in svg
    assert "var(--series-1)" in svg
    assert "#0a0" not in svg


def test_long_labels_keep_their_ends_because_names_often_begin_alike() -> None:
    names = ("qwen2-7b-instruct-preferences-sft", "qwen2-7b-instruct-preferences-dpo")
    svg = curves_svg([ChartLine(name, (1.0, 2.0), (None, None)) for name in names], Axis("level", 1, 5, (1, 5)))
    labels = re.findall(r">(qwen[^<]*)<", svg)
    assert len(set(labels)) == 2
    assert all(len(label) == 17 for label in labels)


@settings(deadline=None)
@given(st.lists(st.floats(min_value=1, max_value=5, allow_nan=False), max_size=12))
def test_labels_keep_their_distance_their_order_and_the_plot(values: list[float]) -> None:
    heights = spread(values, gap=0.25, low=1, high=5)
    ordered = [height for _, height in sorted(zip(values, heights, strict=True))]
    assert all(upper - lower >= 0.25 - 1e-9 for lower, upper in pairwise(ordered))
    assert all(1 - 1e-9 <= height <= 5 + 1e-9 for height in heights)


def test_labels_that_have_room_stay_where_their_curves_end() -> None:
    assert spread([4.0, 1.5, 2.5], gap=0.25, low=1, high=5) == [4.0, 1.5, 2.5]
    assert spread([3.0, 3.0], gap=0.5, low=1, high=5) == [2.75, 3.25]


# The tables -----------------------------------------------------------------------------------------------------------


def test_a_simulation_is_reported_in_one_pass_over_its_trees() -> None:
    trees = [fork("t1", "p1", compared(("A", "B"))), fork("t2", "p2", compared(("A", "A")))]
    judge = trees[0].judges()[0]
    at_once = simulation_report({}, trees, PERSONAS, {}, turns=1, judge=judge)
    assert at_once.judge.comparisons is not None
    assert at_once.judge.comparisons.n == at_once.simulator.conversations == 2
    assert simulation_report({}, iter(trees), PERSONAS, {}, turns=1, judge=judge) == at_once


def test_the_tables_show_every_figure_with_its_interval_and_n() -> None:
    text = shown(small_report())
    assert re.search(r"candidate +AL\(1\) +AL\(2\) +AL\(3\)", text)
    assert re.search(r"plain +1\.67 +2\.00 +3\.67", text)
    assert re.search(r"  n +3 +2 +3", text)
    assert re.search(r"plain +2\.44 \[2\.00, 4\.00\] +\+1\.000 +0\.87 +\+0\.500 +3 +1", text)
    assert re.search(r"plain - eager +-1\.61 \[.*\] +0\.500 +0\.500 +3", text)
    assert "Judge strict: 16 questions, 1 without a readable answer, 1 asked again." in text
    assert "Calls of the user: 16 (1,600 tokens in, 160 out, 1 refused or empty, $0.2500)" in " ".join(text.split())


def test_the_tables_fit_eighty_columns_and_cut_no_number() -> None:
    names = ("blind", "attentive", "oracle-hint")
    cases = [scored(name, f"p{i}", f"f{i}", [1 + (i + k) % 5 for k in range(10)]) for name in names for i in range(4)]
    text = shown(small_report(cases, turns=10))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "AL(10)" in text


def test_more_turns_than_fit_a_row_go_on_in_a_second_table() -> None:
    text = shown(small_report([scored("x", "p1", "f", [1 + k % 5 for k in range(12)])], turns=12))
    assert re.search(r"AL\(10\)\s*$", text, re.MULTILINE)
    assert re.search(r"candidate +AL\(11\) +AL\(12\)", text)


def test_names_are_printed_as_they_are_and_cannot_steer_the_terminal() -> None:
    text = shown(small_report([scored("[red]x[/red]\x1b[2J", "p1", "walks", [1, 2])], turns=2))
    assert "[red]x[/red]\ufffd[2J" in text
    assert "\x1b" not in text


def test_an_undefined_figure_is_a_dash() -> None:
    text = shown(small_report([scored("flat", "p1", "walks", [3, 3])], turns=2))
    assert re.search(r"flat +3\.00 +\+0\.000 +- +- +1 +0", text)


def test_a_p_value_is_never_printed_as_zero() -> None:
    assert [chance(0.0002), chance(0.001), chance(0.25), chance(None)] == ["< 0.001", "0.001", "0.250", "-"]


def test_counts_are_worded_as_people_word_them() -> None:
    report = small_report([scored("x", "p1", "f", [1])], turns=1)
    assert summary(report).startswith("Evaluation: 1 case of 1 profile, 1 turn, judged by strict.")
    assert headline(report) == "How well 1 candidate came to suit the user over 1 turn"


# The documentation ----------------------------------------------------------------------------------------------------


def test_the_example_in_the_documentation_prints_what_it_says() -> None:
    page = Path(__file__).parent.parent / "docs" / "report.md"
    found = doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 5
    assert found.failed == 0


def test_every_key_of_the_json_is_documented() -> None:
    page = (Path(__file__).parent.parent / "docs" / "report.md").read_text(encoding="utf-8")
    trees = [fork("t1", "p1", compared(("A", "B")))]
    for report in (small_report(), simulation_report({}, trees, PERSONAS, {}, turns=1)):
        found = report.as_dict()
        blocks = [found, *found["candidates"], *found["comparisons"], found["judge"], found["simulator"]]
        blocks += [found["bootstrap"], found["judge"]["scores"] or {}, found["judge"]["comparisons"] or {}]
        blocks += [found["judge"]["hint"] or {}, *found["usage"].values()]
        missing = {key for block in blocks for key in block if f"`{key}`" not in page}
        assert not missing
