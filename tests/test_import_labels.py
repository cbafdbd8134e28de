"""`interalign import` of labelled and of listed replies: a preference only between replies to the same messages."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_import import A, U, exported, imported, noted, written

import interalign as ia
from interalign import api
from interalign.conversations import import_trees
from interalign.errors import DataError
from interalign.tree import JudgedTree

S = {"role": "system", "content": "S"}


def labelled(reply: str, label: Any, prompt: str = "hi") -> dict[str, Any]:
    return {"prompt": prompt, "completion": reply, "label": label}


def listed(**scores: float | None) -> dict[str, Any]:
    return {"prompt": [U], "completions": [*scores], "scores": [*scores.values()]}


def preferred(judged: JudgedTree) -> set[tuple[str, str]]:
    """Texts of the chosen and of the rejected reply."""
    found = set()
    for verdict in judged.verdicts:
        assert (verdict.judge, verdict.outcome in ("a", "b")) == ("imported", True)
        pair = (verdict.a, verdict.b) if verdict.outcome == "a" else (verdict.b, verdict.a)
        found.add(tuple(judged.tree.node(node).text for node in pair))
    return found


def test_a_reply_labelled_true_is_preferred_to_one_labelled_false_to_the_same_messages(tmp_path: Path) -> None:
    rows = [labelled("yes", True), labelled("no", False), labelled("ok", True), labelled("hm", None)]
    (judged,) = imported(tmp_path, *rows)
    assert preferred(judged) == {("yes", "no"), ("ok", "no")}
    assert [noted(judged, node, "label") for node in ("1", "2", "3")] == [True, False, True]


@pytest.mark.parametrize(
    "rows",
    [
        [labelled("yes", True)],
        [labelled("no", False)],
        [labelled("yes", True), labelled("ok", True)],
        [labelled("yes", True), labelled("no", False, prompt="ho")],
        [{**labelled("yes", True), "tree": "a"}, {**labelled("no", False), "tree": "b"}],
        [labelled("yes", True), {**labelled("no", False), "prompt": [S, U]}],
    ],
)
def test_labels_of_replies_to_other_messages_are_kept_and_make_no_preference(rows: list[Any], tmp_path: Path) -> None:
    trees = imported(tmp_path, *rows)
    assert [verdict for judged in trees for verdict in judged.verdicts] == []
    said = {note.value for judged in trees for note in judged.annotations if note.name == "label"}
    assert said == {row["label"] for row in rows}


@pytest.mark.parametrize("label", ["good", 1, 0, 0.5, [True], None])
def test_what_is_no_label_stays_a_column(label: Any, tmp_path: Path) -> None:
    (judged,) = imported(tmp_path, labelled("yes", label))
    assert noted(judged, "1", "row")[0]["columns"] == {"label": label}
    assert not any(note.name == "label" for note in judged.annotations)


def test_a_conversation_of_many_turns_has_the_label_at_its_last_reply(tmp_path: Path) -> None:
    (judged,) = imported(tmp_path, {"prompt": [U, A, U], "completion": [A], "label": False})
    assert [note.node for note in judged.annotations if note.name == "label"] == ["1/1"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([labelled("yes", True), labelled("yes", False)],
         "line 2: labels the reply false, and a row above labels it true"),
        ([{"prompt": [U], "completion": [U], "label": True}], "line 1: label: there is no reply that it could be of"),
    ],
)  # fmt: skip
def test_a_label_that_cannot_be_is_refused_with_its_line(rows: list[Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        imported(tmp_path, *rows)
    assert reason in str(refused.value)


def test_the_same_label_twice_says_nothing_new(tmp_path: Path) -> None:
    (judged,) = imported(tmp_path, labelled("yes", True), labelled("no", False), labelled("yes", True))
    assert preferred(judged) == {("yes", "no")}


@pytest.mark.parametrize(
    ("row", "pairs"),
    [
        (listed(a=4.0, b=2.0, c=3.0), {("a", "b"), ("a", "c"), ("c", "b")}),
        (listed(a=1, b=-1), {("a", "b")}),
        (listed(a=3, b=3, c=1), {("a", "c"), ("b", "c")}),
        (listed(a=3, b=None, c=1), {("a", "c")}),
        (listed(a=3, b=3), set()),
        (listed(a=3), set()),
    ],
)
def test_of_listed_replies_the_higher_score_is_preferred(row: Any, pairs: Any, tmp_path: Path) -> None:
    (judged,) = imported(tmp_path, row)
    assert preferred(judged) == pairs
    assert judged.scores == ()
    assert noted(judged, "1", "row")[0]["columns"] == {"scores": row["scores"]}


def test_the_margin_of_listed_replies_is_the_difference_of_their_scores(tmp_path: Path) -> None:
    api.import_conversations(written(tmp_path / "l.jsonl", listed(a=4.5, b=2.0)), tmp_path / "l.db")
    (row,) = exported(tmp_path / "l.db", "dpo")
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"], row["margin"]) == ("a", "b", 2.5)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**listed(a=1, b=2), "scores": [1]}, "scores: expected a list of 2, one a completion"),
        ({**listed(a=1), "scores": 1}, "scores: expected a list of 1, one a completion"),
        ({**listed(a=1), "scores": ["high"]}, "scores: expected numbers, got 'high'"),
        ({**listed(a=1), "scores": [True]}, "scores: expected numbers, got True"),
        ({**listed(a=1), "completions": "a"}, "completions: expected a list of replies"),
        ({**listed(), "completions": []}, "completions: expected a list of replies"),
        ({**listed(a=1, b=2), "completions": ["a", "a"]},
         "completions: number 1 and 2 are the same, and their scores differ"),
    ],
)  # fmt: skip
def test_listed_replies_that_cannot_be_read_are_refused_with_the_reason(row: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        imported(tmp_path, row)
    assert f"line 1: {reason}" in str(refused.value)


def test_a_list_that_contradicts_a_row_above_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: prefers the reply that a row above rejects"):
        imported(tmp_path, listed(a=2, b=1), listed(a=1, b=2))


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("grown") / "sim.db"
    ia.simulate(run, trees=3, turns=3, branch=3, policy="beam:2", judging="score")
    return run


@pytest.mark.parametrize("pairs", ["best-worst", "all"])
def test_the_rows_of_our_kto_export_come_back_equal(pairs: Any, grown: Path, tmp_path: Path) -> None:
    rows = exported(grown, "kto", pairs=pairs)
    api.import_conversations(written(tmp_path / "k.jsonl", *rows), tmp_path / "back.db")
    # With `all`, siblings that say the same may stand in several rows; in a tree of an import they are one reply.
    left_out = () if pairs == "best-worst" else ("node",)
    told, back = (
        {
            json.dumps({name: value for name, value in row.items() if name not in left_out}, sort_keys=True)
            for row in each
        }
        for each in (rows, exported(tmp_path / "back.db", "kto", pairs="all"))
    )
    assert told == back


def test_the_pairs_of_our_listwise_export_are_those_of_our_dpo_export(grown: Path, tmp_path: Path) -> None:
    rows = exported(grown, "listwise")
    api.import_conversations(written(tmp_path / "l.jsonl", *rows), tmp_path / "back.db")
    told = [exported(run, "dpo", pairs="all") for run in (grown, tmp_path / "back.db")]
    first, back = (
        {(row["tree"], json.dumps([row["chosen"], row["rejected"]]), row["margin"]) for row in each} for each in told
    )
    assert first == back


def test_both_forms_are_told_apart_by_themselves(tmp_path: Path) -> None:
    assert import_trees(written(tmp_path / "k.jsonl", labelled("yes", True)), "run").format == "messages"
    assert import_trees(written(tmp_path / "l.jsonl", listed(a=1, b=2)), "run").format == "listwise"
