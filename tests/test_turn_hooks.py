"""Plug-ins at the named points of the turn graph: what they see, what is kept, what happens when they fail."""

from pathlib import Path

import hooks_noting
import pytest
import yaml
from calls_seen import calls_of, trees_of

from interalign.graphs.turn import turn_graph

POINTS = ["after_user", "before_candidates", "after_candidates", "after_judge"]


def settings(folder: Path, **hooks: list[str]) -> Path:
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump({"trees": 1, "turns": 2, "hooks": hooks}))
    return file


@pytest.mark.parametrize(
    ("point", "seen"),
    [
        ("after_user", "1 messages, hint False, 0 replies, 0 verdicts"),
        ("before_candidates", "1 messages, hint True, 0 replies, 0 verdicts"),
        ("after_candidates", "1 messages, hint True, 2 replies, 0 verdicts"),
        ("after_judge", "1 messages, hint True, 2 replies, 1 verdicts"),
    ],
)
def test_a_hook_sees_what_the_turn_has_brought_so_far(point: str, seen: str, tmp_path: Path, cli) -> None:
    assert cli("simulate", "run.db", "--config", settings(tmp_path, **{point: ["hooks_noting:summary"]})).code == 0
    (judged,) = trees_of("run.db")
    (note,) = [note for note in judged.annotations if note.node == "u" and note.name == "seen"]
    assert (note.by, note.value) == ("hooks_noting:summary", seen)


@pytest.mark.parametrize(
    ("points", "steps"),
    [
        ((), ["user", "inducer", "candidates", "judge"]),
        (("after_user", "after_judge"), ["user", "after_user", "inducer", "candidates", "judge", "annotate"]),
        (("before_candidates",), ["user", "inducer", "before_candidates", "candidates", "judge"]),
        (("after_candidates",), ["user", "inducer", "candidates", "after_candidates", "judge"]),
    ],
)
def test_a_turn_has_a_node_for_each_point_where_a_hook_waits_and_no_other(points, steps) -> None:
    assert [name for name in turn_graph(frozenset(points)).nodes if name != "__start__"] == steps


def test_what_hooks_note_is_kept_beside_the_inducers_notes_and_changes_nothing_else(tmp_path: Path, cli) -> None:
    hooks = {point: ["hooks_noting:summary", "hooks_noting:lengths"] for point in POINTS}
    assert cli("simulate", "with.db", "--config", settings(tmp_path, **hooks)).code == 0
    assert cli("simulate", "without.db", "--config", settings(tmp_path)).code == 0
    (with_hooks,), (without,) = trees_of("with.db"), trees_of("without.db")
    assert [node.text for node in with_hooks.tree.nodes] == [node.text for node in without.tree.nodes]
    assert with_hooks.verdicts == without.verdicts
    hints = [note for note in with_hooks.annotations if note.name == "hint"]
    assert hints == list(without.annotations)
    replies = [node for node in with_hooks.tree.nodes if node.role == "assistant"]
    words = {note.node: note.value for note in with_hooks.annotations if note.name == "words"}
    assert words == {reply.id: {"count": len(reply.text.split()), "list": [1, None, "x"]} for reply in replies}


def test_a_note_of_the_same_name_replaces_only_an_earlier_one_of_the_same_hook(tmp_path: Path, cli) -> None:
    hooks = {point: ["hooks_noting:summary"] for point in POINTS}
    hooks["after_judge"] = ["hooks_noting:summary", "hooks_noting:also_summary", "hooks_noting:summary"]
    assert cli("simulate", "run.db", "--config", settings(tmp_path, **hooks)).code == 0
    (judged,) = trees_of("run.db")
    last = "1 messages, hint True, 2 replies, 1 verdicts"
    assert {note.by: note.value for note in judged.annotations if note.node == "u" and note.name == "seen"} == {
        "hooks_noting:summary": last,
        "hooks_noting:also_summary": last,
    }
    asked = [call.role for call in calls_of("run.db") if call.node == "u" and call.role in POINTS]
    assert asked == [*POINTS, "after_judge"]  # twice at one point: asked once


def test_a_hook_is_on_record_and_is_not_asked_again_when_the_run_goes_on(tmp_path: Path, cli) -> None:
    file = settings(tmp_path, after_judge=["hooks_noting:counting"])
    hooks_noting.counted.clear()
    assert cli("simulate", "run.db", "--config", file).code == 0
    assert hooks_noting.counted == ["u", "1/u"] or hooks_noting.counted == ["u", "2/u"]
    assert [call.node for call in calls_of("run.db", "after_judge")] == hooks_noting.counted
    # Two more trees: the first one is not asked about again.
    assert cli("simulate", "run.db", "--config", file, "--trees", "3").code == 0
    assert len(hooks_noting.counted) == 6


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raising", "after_judge 'hooks_noting:raising' raised KeyError: 'no such thing' ("),
        ("not_async", "after_judge 'hooks_noting:not_async' is not async: write it with `async def`"),
        ("flat", "after_judge 'hooks_noting:flat' answered dict, expected node id -> name -> value"),
        ("a_list", "after_judge 'hooks_noting:a_list' answered list, expected node id -> name -> value"),
        ("not_json", "after_judge 'hooks_noting:not_json' answered dict, expected node id -> name -> value"),
        ("stranger", "after_judge 'hooks_noting:stranger' noted something about '7/u', no node of this turn"),
    ],
)
def test_a_hook_that_fails_fails_its_tree_and_says_which_and_where(name: str, said: str, tmp_path: Path, cli) -> None:
    ended = cli("simulate", "run.db", "--config", settings(tmp_path, after_judge=[f"hooks_noting:{name}"]))
    assert ended.code == 1
    assert f"failed: t00000: {said}" in ended.err
    if name == "raising":
        assert "hooks_noting.py:" in ended.err
    # What failed is not on record: mend the hook, run again, and it is asked again.
    assert calls_of("run.db", "after_judge") == []


def test_a_mended_hook_finishes_the_tree_with_the_replies_that_were_there(tmp_path: Path, cli, monkeypatch) -> None:
    file = settings(tmp_path, after_judge=["hooks_noting:raising"])
    assert cli("simulate", "run.db", "--config", file).code == 1
    before = calls_of("run.db")
    monkeypatch.setattr(hooks_noting, "raising", hooks_noting.lengths)  # what editing the plug-in's file does
    ended = cli("simulate", "run.db", "--config", file)
    assert ended.code == 0
    assert calls_of("run.db")[: len(before)] == before
    assert f"{len(before)} answered from the ledger" in ended.err


@pytest.mark.parametrize(
    ("hooks", "said"),
    [
        ({"after_dinner": ["hooks_noting:summary"]}, "hooks.after_dinner"),
        ({"after_user": ["hooks_noting:nobody"]}, "has no attribute 'nobody'"),
        ({"after_user": "hooks_noting:summary"}, "hooks.after_user"),
    ],
)
def test_a_hook_that_is_not_there_is_refused_before_anything_starts(hooks, said: str, tmp_path: Path, cli) -> None:
    ended = cli("simulate", "run.db", "--config", settings(tmp_path, **hooks))
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_hooks_are_part_of_what_a_run_is(tmp_path: Path, cli) -> None:
    assert cli("simulate", "run.db", "--config", settings(tmp_path)).code == 0
    ended = cli("simulate", "run.db", "--config", settings(tmp_path, after_user=["hooks_noting:summary"]))
    assert ended.code == 2
    assert "hooks" in ended.err
