"""A user agent that ends the talk."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from calls_seen import calls_of, trees_of
from judged_trees import path, said, score

import interalign as ia
from interalign import api
from interalign.agents.ending import without_mark
from interalign.agents.templates import builtin_prompts
from interalign.agents.user import user_messages
from interalign.config import RunSettings, SimulationSettings, identity_of
from interalign.eval.results import ScoredCase, candidate_result, candidate_scores, comparisons
from interalign.tree import Annotation, JudgedTree

PERSONA = ia.Persona(id="p", profile=("I keep bees.",), personality="Dry.")
MARKED = {"end_mark": "[END]", "inducer": "none"}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ended(judged: JudgedTree) -> list[tuple[str, Any]]:
    return [(note.node, note.value) for note in judged.annotations if note.name == "ended"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[END]", ("", True)),
        (" [END]\n", ("", True)),
        ("[END] [END]", ("", True)),
        ("Thanks. [END]", ("Thanks.", True)),
        ("[END] Thanks.", ("Thanks.", True)),
        ("Thanks.\n\n[END]\nBye.", ("Thanks.\nBye.", True)),
        ("Thanks. [END] Bye.", ("Thanks. Bye.", True)),
        ("Thanks.", ("Thanks.", False)),
        ("The [end] is near. ", ("The [end] is near. ", False)),
    ],
)
def test_the_mark_is_cut_from_the_message_wherever_it_stands(text: str, said: tuple[str, bool]) -> None:
    assert without_mark(text, "[END]") == said
    assert without_mark(text, None) == (text, False)


def test_a_message_that_is_only_the_mark_ends_the_path_with_no_further_turn() -> None:
    assert ia.simulate("run.db", trees=1, turns=5, user="ending_users:leaves_in_turn_3", **MARKED).done == 1
    (judged,) = trees_of("run.db")
    assert [node.text for node in judged.tree.nodes if node.role == "user"] == ["Hello.", "And then?"]
    ((node, turn),) = ended(judged)
    assert (judged.tree.node(node).role, judged.tree.node(node).turn, turn) == ("assistant", 2, 2)
    assert [call.reply for call in calls_of("run.db", "user")] == ["Hello.", "And then?", "[END]"]


def test_a_message_with_the_mark_and_a_text_gets_its_reply_and_then_the_path_ends() -> None:
    assert ia.simulate("run.db", trees=1, turns=5, user="ending_users:thanks_in_turn_2", **MARKED).done == 1
    (judged,) = trees_of("run.db")
    *_, last = [node for node in judged.tree.nodes if node.role == "user"]
    assert (last.turn, last.text) == (2, "Thanks, that is all I wanted.")
    assert len(judged.tree.children(last.id)) == 2
    assert ended(judged) == [(last.id, 2)]
    assert len(judged.verdicts) == 2
    assert not any("[END]" in call.last for call in calls_of("run.db") if call.role != "user")


def test_a_talk_that_ends_before_its_first_message_is_asked_again_and_then_fails() -> None:
    summary = ia.simulate("run.db", trees=1, turns=2, user="ending_users:never_begins", **MARKED)
    assert "asked 3 times, last: the user ended the talk before its first message" in summary.failed["t00000"]
    assert ia.simulate("again.db", trees=1, turns=2, user="ending_users:begins_when_asked_again", **MARKED).done == 1
    (judged,) = trees_of("again.db")
    assert ended(judged) == [("u", 1)]


def test_each_path_of_a_branching_tree_ends_by_itself() -> None:
    for policy in ("full", "beam:2"):
        settings = {**MARKED, "policy": policy, "user": "ending_users:leaves_after_the_first_reply"}
        assert ia.simulate(f"{policy}.db", trees=1, turns=3, **settings).done == 1
        (judged,) = trees_of(f"{policy}.db")
        assert ended(judged) == [("1", 1)]
        assert judged.tree.children("1") == ()
        assert max(node.turn for node in judged.tree.nodes if node.id.startswith("2")) == 3
        assert {leaf.role for leaf in judged.tree.leaves()} == {"assistant"}


def test_a_run_with_ended_talks_is_resumed_without_another_call_and_comes_out_the_same() -> None:
    settings = {**MARKED, "trees": 6, "turns": 5, "user": "ending_users:by_persona"}
    ia.simulate("run.db", **settings)
    before = trees_of("run.db")
    with closing(sqlite3.connect("run.db")) as db:
        db.execute("UPDATE trees SET status = 'planned'")
        db.commit()
    assert ia.simulate("run.db", **settings).calls == 0
    assert trees_of("run.db") == before
    assert {turn for judged in before for _, turn in ended(judged)} == {2, 3}


def test_a_prompted_user_is_told_the_mark_and_is_told_nothing_where_there_is_none() -> None:
    ask = ia.UserAsk(at=ia.At(tree="t", node="u", seed=1), persona=PERSONA, transcript=(), turn=1)
    marked_ask = ask.model_copy(update={"end_mark": "[END]"})
    plain, marked = user_messages(builtin_prompts(), ask), user_messages(builtin_prompts(), marked_ask)
    assert marked[0].content.startswith(plain[0].content + "\n\n")
    assert marked[0].content.count("[END]") == 2
    assert marked[1:] == plain[1:]


def test_a_plug_in_user_finds_no_mark_in_its_question_where_there_is_none() -> None:
    settings = {"inducer": "none", "trees": 1, "turns": 2, "user": "ending_users:asks_nothing_of_a_mark"}
    assert ia.simulate("run.db", **settings).done == 1
    assert not any("end_mark" in call.last for call in calls_of("run.db", "user"))


# The setting


def test_the_mark_is_part_of_what_the_run_is_only_where_it_is_set() -> None:
    assert "end_mark" not in identity_of(SimulationSettings())
    assert identity_of(SimulationSettings(end_mark="[END]"))["end_mark"] == "[END]"


@pytest.mark.parametrize(("first", "then"), [(None, "[END]"), ("[END]", None), ("[END]", "[BYE]")])
def test_a_mark_that_is_set_changed_or_taken_away_is_a_change(first: str | None, then: str | None) -> None:
    ia.simulate("run.db", trees=1, turns=1, end_mark=first)
    with pytest.raises(ia.ConfigError, match="changed: end_mark"):
        ia.simulate("run.db", trees=1, turns=1, end_mark=then)
    with pytest.raises(ia.ConfigError, match="changed: end_mark"):
        api.estimate("simulation", "run.db", trees=1, turns=1, end_mark=then)


@pytest.mark.parametrize(
    "mark", ["", " ", " [END]", "[END]\n", "a\nb", "<|im_end|>", "</think>", "</s>", "[THINK]", "User:", 7, True]
)
def test_a_mark_that_could_not_be_found_in_a_message_is_refused(mark: Any) -> None:
    with pytest.raises(ia.ConfigError, match="end_mark"):
        ia.simulate("run.db", trees=1, turns=1, end_mark=mark)
    assert not Path("run.db").exists()


def test_the_mark_comes_from_the_configuration_file(cli) -> None:
    Path("sim.yaml").write_text('end_mark: "[END]"\nuser: ending_users:leaves_in_turn_3\ninducer: none\nturns: 5\n')
    assert cli("simulate", "run.db", "--config", "sim.yaml", "--trees", "1").code == 0
    assert ended(trees_of("run.db")[0])[0][1] == 2


# The figures


def talk(case: str, scores: list[int | None], *, ends: bool) -> ScoredCase:
    """A talk of as many turns as there are scores; the user ended it or not."""
    grown = path(*["Hi.", "Hm."] * len(scores), tree_id=case, persona=case)
    replies = [node.id for node in grown.nodes if node.role == "assistant"]
    notes = [Annotation(node=replies[-1], name="ended", by="user", value=len(scores))] if ends else []
    judged = said(grown, *map(score, replies, scores), *notes)
    return ScoredCase(candidate="c", case=case, profile=(case,), judged=judged)


def test_what_would_have_come_after_the_end_is_absent_and_what_broke_off_is_missing() -> None:
    cases = [talk("p", [1, 2], ends=True), talk("q", [3, None], ends=False), talk("r", [2, 4, 5, 5], ends=False)]
    result = candidate_result(candidate_scores(cases, turns=4)[0])
    assert (result.n, result.missing, result.reached) == ((3, 2, 1, 1), 3, 4)
    assert result.al == (2.0, 3.0, 5.0, 5.0)
    assert result.ir == pytest.approx(1.1)


def test_the_improvement_rate_is_over_the_turns_that_some_talk_has() -> None:
    cases = [talk("p", [1, 2], ends=True), talk("q", [2, 3, 5], ends=True)]
    result = candidate_result(candidate_scores(cases, turns=5)[0])
    assert (result.missing, result.reached) == (0, 3)
    assert result.al == (1.5, 2.5, 5.0, None, None)
    assert result.al_mean == 3.0
    assert result.ir == pytest.approx(1.75)
    assert result.n_al[3:] == (None, None)
    assert len(result.al_k_ci) == 5


def test_where_a_turn_is_there_and_has_no_score_the_improvement_rate_is_not_defined() -> None:
    cases = [talk("p", [1, None, 3], ends=True), talk("q", [2, None, 4], ends=True)]
    result = candidate_result(candidate_scores(cases, turns=5)[0])
    assert (result.missing, result.ir) == (2, None)


def test_where_every_talk_has_one_turn_there_is_no_rate() -> None:
    result = candidate_result(candidate_scores([talk("p", [3], ends=True)], turns=5)[0])
    assert (result.al_mean, result.ir, result.missing) == (3.0, None, 0)


def test_two_candidates_are_compared_over_the_turns_that_both_have() -> None:
    cases = [talk("p", [1, 2, 3], ends=True), talk("q", [1, 3, 3], ends=True)]
    others = [
        talk(case, scores, ends=False).model_copy(update={"candidate": "d"})
        for case, scores in (("p", [2, 3, 4, 5]), ("q", [2, 4, 4, 5]))
    ]
    (found,) = comparisons(candidate_scores([*cases, *others], turns=4))
    assert (found.delta_al, found.delta_ir) == (-1.0, 0.0)


def test_the_report_says_how_many_talks_ended_when(cli) -> None:
    Path("eval.yaml").write_text('end_mark: "[END]"\nuser: ending_users:by_persona\n')
    shape = ("--candidate", "world:average", "--limit", "9", "--turns", "5", "--config", "eval.yaml")
    assert cli("evaluate", "eval.db", *shape).code == 0
    trees = trees_of("eval.db")
    turns = [ended(judged)[0][1] for judged in trees if ended(judged)]
    after = [turns.count(turn) for turn in (1, 2, 3, 4, 5)]
    assert 0 < len(turns) < 9
    assert after[0] == after[3] == after[4] == 0
    report = json.loads(cli("report", "eval.db", "--json").out)
    assert report["simulator"]["ended_after"] == after
    (found,) = report["candidates"]
    assert found["missing"] == 0
    assert found["n"] == [9, 9, 9 - after[1], 9 - len(turns), 9 - len(turns)]
    when = ", ".join(f"{count} after turn {turn}" for turn, count in enumerate(after, start=1) if count)
    said = f"Ended by the user: {when}. What would have come later is absent, and not counted as missing."
    assert said in report["notes"]
    assert "Ended by the user" in cli("report", "eval.db").out
    cli("evaluate", "plain.db", "--candidate", "world:average", "--limit", "2", "--turns", "2")
    plain = json.loads(cli("report", "plain.db", "--json").out)
    assert plain["simulator"]["ended_after"] == [0, 0]
    assert not any("Ended" in note for note in plain["notes"])


def test_the_report_of_a_scored_simulation_counts_no_turn_after_the_end_as_missing(cli) -> None:
    settings = {**MARKED, "trees": 6, "turns": 5, "judging": "score", "branch": 1, "user": "ending_users:by_persona"}
    ia.simulate("run.db", **settings)
    (found,) = json.loads(cli("report", "run.db", "--json").out)["candidates"]
    assert found["missing"] == 0
    assert sum(found["n"]) == sum(len(judged.scores) for judged in trees_of("run.db"))


def test_every_kind_of_run_has_the_setting() -> None:
    assert "end_mark" in RunSettings.model_fields
