"""`interalign import`: recorded conversations as others write them. Every row is read or named, none dropped unseen."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from calls_seen import trees_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interalign import api
from interalign.conversations import import_trees
from interalign.conversations.chat import read_chat
from interalign.errors import ConfigError, DataError
from interalign.people import load_personas
from interalign.records import RunSummary
from interalign.registries import CONVERSATION_FORMATS
from interalign.run.keep_import import keep_import
from interalign.store import Store
from interalign.tree import JudgedTree

U, A = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
LC_U = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "HumanMessage"], "kwargs": {"content": "hi"}}
LC_A = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "AIMessage"], "kwargs": {"content": "hello"}}
TYPED = [{"type": "human", "content": "hi", "id": "m1"}, {"type": "ai", "content": "hello", "id": "m2"}]
SAMPLE = {"id": 3, "epoch": 1, "input": "hi", "messages": [U, A], "output": {"model": "openai/m"}}
BATCH = {"custom_id": "r1", "response": {"status_code": 200, "body": {"model": "m", "choices": [{"message": A}]}}}
SHAPES: tuple[tuple[str, Any, str, str], ...] = (
    ("messages", {"messages": [U, A]}, "t00000", "assistant"),
    ("messages", [U, A], "t00000", "assistant"),
    ("messages", {"messages": [U, A], "conversation_id": "c9", "model": "m"}, "c9", "m"),
    ("messages", {"messages": json.dumps([U, A])}, "t00000", "assistant"),
    ("messages", {"prompt": "hi", "completion": "hello"}, "t00000", "assistant"),
    ("messages", {"prompt": [U], "completion": [A], "label": True}, "t00000", "assistant"),
    ("listwise", {"prompt": "hi", "completions": ["hello"], "scores": [3]}, "t00000", "assistant"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}, "t00000",
     "assistant"),
    ("sharegpt", {"id": "s1", "conversation": [{"from": "user", "value": "hi"}, {"from": "chatgpt", "value": "hello"}]},
     "s1", "assistant"),
    ("openai", {"messages": [U], "model": "m", "choices": [{"message": A}]}, "t00000", "m"),
    ("openai", {"request": {"messages": [U]}, "response": {"model": "m-1", "choices": [{"message": A}]}}, "t00000",
     "m-1"),
    ("openai", {"body": {"messages": [U]}, **BATCH}, "t00000", "m"),
    ("langsmith", {"inputs": {"messages": [[LC_U]]}, "outputs": {"generations": [[{"text": "hello", "message": LC_A}]]},
                   "extra": {"metadata": {"ls_model_name": "m", "thread_id": "th"}}}, "th", "m"),
    ("langsmith", {"inputs": {"messages": [U]}, "outputs": {"messages": [U, A]}}, "t00000", "assistant"),
    ("langsmith", {"inputs": {"question": "hi"}, "outputs": {"answer": "hello"}}, "t00000", "assistant"),
    ("langsmith", {"inputs": {"input": "hi"}, "outputs": {"output": LC_A}}, "t00000", "assistant"),
    ("langsmith", {"runs": [{"inputs": {"messages": [U]}, "outputs": {"choices": [{"message": A}]}}]}, "t00000",
     "assistant"),
    ("langgraph", {"messages": TYPED}, "t00000", "assistant"),
    ("langgraph", {"values": {"messages": TYPED}, "next": [], "config": {"configurable": {"thread_id": "th"}}}, "th",
     "assistant"),
    ("inspect", SAMPLE, "3/1", "openai/m"),
    ("inspect", {"version": 2, "eval": {"task": "t"}, "samples": [SAMPLE]}, "3/1", "openai/m"),
)  # fmt: skip
"""Format, a row in its shape, the id of the tree and who replied. The conversation is always `hi`, `hello`."""


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def imported(folder: Path, *rows: Any, **options: Any) -> list[JudgedTree]:
    return list(import_trees(written(folder / "f.jsonl", *rows), "run", **options).trees)


def texts(judged: JudgedTree) -> dict[str, str]:
    return {node.id: node.text for node in judged.tree.nodes}


def noted(judged: JudgedTree, node: str, name: str) -> Any:
    return next(note.value for note in judged.annotations if (note.node, note.name) == (node, name))


def contents(run: Path) -> list[str]:
    """Everything in a run file; its bytes also count how often it was opened."""
    with closing(sqlite3.connect(run)) as db:
        return list(db.iterdump())


def test_every_built_in_format_has_a_row_here() -> None:
    assert {name for name, *_ in SHAPES} | {"pairs"} == set(CONVERSATION_FORMATS.built_in)


@pytest.mark.parametrize("told", ["auto", "by name"])
@pytest.mark.parametrize(("name", "row", "tree", "by"), SHAPES)
def test_a_row_of_each_format_is_read_and_told_apart(
    name: str, row: Any, tree: str, by: str, told: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "f.jsonl", row)
    found = import_trees(file, "run", format="auto" if told == "auto" else name)
    (judged,) = found.trees
    assert (found.format, judged.tree.id, texts(judged)) == (name, tree, {"u": "hi", "1": "hello"})
    assert [node.by for node in judged.tree.nodes] == ["user", by]
    assert judged.judges() == ()


PAIRS: tuple[tuple[Any, str | None], ...] = (
    ({"prompt": "hi", "chosen": "yes", "rejected": "no"}, None),
    ({"prompt": [U], "chosen": [{"role": "assistant", "content": "yes"}], "rejected": "no"}, None),
    ({"chosen": [U, {"role": "assistant", "content": "yes"}], "rejected": [U, {"role": "assistant", "content": "no"}]},
     None),
    ({"prompt": "hi", "chosen": [U, {"role": "assistant", "content": "yes"}],
      "rejected": [U, {"role": "assistant", "content": "no"}]}, None),
    ({"chosen": "\n\nHuman: hi\n\nAssistant: yes", "rejected": "\n\nHuman: hi\n\nAssistant: no"}, None),
    ({"prompt": [{"role": "system", "content": "S"}, U], "chosen": "yes", "rejected": "no"}, "S"),
)  # fmt: skip


@pytest.mark.parametrize(("row", "system"), PAIRS)
def test_a_pair_is_one_tree_with_a_verdict_that_gives_the_pair_back(
    row: Any, system: str | None, tmp_path: Path
) -> None:
    (judged,) = imported(tmp_path, row)
    assert texts(judged) == {"u": "hi", "1": "yes", "2": "no"}
    assert judged.tree.system == system
    (verdict,) = judged.verdicts
    assert (verdict.judge, verdict.a, verdict.b, verdict.outcome) == ("imported", "1", "2", "a")


REFUSED: tuple[tuple[Any, str], ...] = (
    ({"messages": []}, "has no message of a user"),
    ({"messages": None}, "messages: expected a list of messages, got nothing"),
    ({"messages": "hi"}, "messages: expected a list of messages, got a text"),
    ({"messages": [A, U]}, "begins with the assistant, and a tree begins with the user"),
    ({"messages": [U, {"role": "assistant", "content": ""}]}, "message 2: is empty"),
    ({"messages": [U, {"role": "assistant", "content": " \n"}]}, "message 2: is empty"),
    ({"messages": [U, {"role": "assistant", "content": None}]}, "message 2: is empty"),
    ({"messages": [U, {"role": "judge", "content": "x"}]}, "message 2: has the role 'judge'; a tree knows user and"),
    ({"messages": [U, {"content": "x"}]}, "message 2: has no role; a tree knows user and"),
    ({"messages": [U, "x"]}, "message 2: expected an object with a role and a content"),
    ({"messages": [U, A, {"role": "system", "content": "S"}]}, "message 3: a system message after the first turn"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, A]},
     "message 1: content: holds image_url, and a tree holds text alone"),
    ({"messages": [{"role": "user", "content": 3}, A]},
     "message 1: content: expected a text or a list of parts, got int"),
    ({"messages": [U, {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}]},
     "message 2: uses tools, and the assistant says nothing after it"),
    ({"messages": [U, {"role": "tool", "content": "x"}]}, "message 2: the result of a tool that nobody used"),
    ({"text": "hi"}, "is not in this format"),
    ("hi", "is not in this format"),
)  # fmt: skip


@pytest.mark.parametrize(("row", "reason"), REFUSED)
def test_a_row_that_a_tree_cannot_hold_is_named_with_its_line_and_reason(row: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 row") as caught:
        imported(tmp_path, {"messages": [U, A]}, row, format="messages")
    assert f"(line 2: {reason}" in str(caught.value)


NO_PAIRS: tuple[tuple[Any, str], ...] = (
    ({"prompt": "hi", "chosen": "a", "rejected": "a"}, "chosen and rejected are the same"),
    ({"chosen": [U, A], "rejected": [{"role": "user", "content": "ho"}, A]},
     "chosen and rejected differ in more than their last reply"),
    ({"chosen": [U, A, U, A], "rejected": [U, {"role": "assistant", "content": "x"}]},
     "chosen and rejected differ in more than their last reply"),
    ({"chosen": [{"role": "system", "content": "S"}, U, A], "rejected": [U, {"role": "assistant", "content": "x"}]},
     "chosen and rejected have different system messages"),
    ({"chosen": [U], "rejected": [{"role": "user", "content": "ho"}]},
     "chosen and rejected do not both end with a reply"),
    ({"chosen": "a", "rejected": "b"}, "chosen: there is no prompt, and the text does not begin with 'Human:'"),
    ({"prompt": "hi", "chosen": None, "rejected": "b"}, "chosen: expected messages or a text, got nothing"),
    ({"prompt": "hi", "chosen": "no", "rejected": "yes"}, "prefers the reply that a row above rejects"),
)  # fmt: skip


@pytest.mark.parametrize(("row", "reason"), NO_PAIRS)
def test_a_pair_that_is_none_is_refused_whole(row: Any, reason: str, tmp_path: Path) -> None:
    good = {"prompt": "hi", "chosen": "yes", "rejected": "no"}
    found = import_trees(written(tmp_path / "f.jsonl", good, row), "run", skip_bad=True)
    assert found.skipped == (f"line 2: {reason}",) or found.skipped[0].startswith(f"line 2: {reason}")
    (judged,) = found.trees
    assert texts(judged) == {"u": "hi", "1": "yes", "2": "no"}


def test_a_batch_output_alone_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="has a reply and no request, as the output of a batch; put the messages of its"
    ):
        imported(tmp_path, BATCH)


JOINED: tuple[tuple[list[Any], list[tuple[str, str]]], ...] = (
    ([U, {"role": "user", "content": "there"}, A], [("user", "hi\n\nthere"), ("assistant", "hello")]),
    ([U, A, {"role": "assistant", "content": "?"}], [("user", "hi"), ("assistant", "hello\n\n?")]),
    ([{"role": "user", "content": [{"type": "text", "text": "hi"}, "you"]}, A],
     [("user", "hi\n\nyou"), ("assistant", "hello")]),
    ([U, {"role": "assistant", "content": [{"type": "thinking", "thinking": "h"}, {"type": "text", "text": "hello"}]}],
     [("user", "hi"), ("assistant", "hello")]),
    ([U, A, {"role": "user", "content": "bye"}], [("user", "hi"), ("assistant", "hello"), ("user", "bye")]),
)  # fmt: skip


@pytest.mark.parametrize(("messages", "joined"), JOINED)
def test_messages_of_one_speaker_in_a_row_are_joined(messages: list[Any], joined: list[tuple[str, str]]) -> None:
    assert [(each.role, each.text) for each in read_chat(messages).messages] == joined


def test_tools_belong_to_the_reply_that_they_led_to(tmp_path: Path) -> None:
    call = {"id": "c1", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = {"role": "tool", "tool_call_id": "c1", "content": "sun"}
    (judged,) = imported(tmp_path, {"messages": [U, asked, answer, A]})
    assert texts(judged) == {"u": "hi", "1": "hello"}
    tool = {"tool": "weather", "arguments": {"city": "Rome"}, "id": "c1", "result": "sun"}
    assert noted(judged, "1", "tool") == [tool]
    assert noted(judged, "1", "source")[0]["messages"] == [2, 3, 4]


def test_equal_beginnings_are_one_path_that_branches_where_rows_part(tmp_path: Path) -> None:
    said = lambda *words: {  # noqa: E731
        "messages": [{"role": ("user", "assistant")[place % 2], "content": word} for place, word in enumerate(words)]
    }
    (judged,) = imported(tmp_path, said("q", "a", "r", "b"), said("q", "c"), said("q", "a"), said("q", "a", "s", "d"))
    assert texts(judged) == {"u": "q", "1": "a", "2": "c", "1/u": "r", "1/u2": "s", "1/1": "b", "1/2": "d"}
    assert {node.id: node.turn for node in judged.tree.nodes}["1/2"] == 2
    assert [source["line"] for source in noted(judged, "1", "source")] == ["line 1", "line 3", "line 4"]


def test_rows_are_one_tree_by_their_conversation_system_message_persona_and_first_message(tmp_path: Path) -> None:
    system = {"role": "system", "content": "S"}
    rows: list[Any] = [
        {"messages": [U, A], "conversation_id": "c"},
        {"messages": [U, {"role": "assistant", "content": "b"}], "conversation_id": "c"},
        {"messages": [U, A]},
        {"messages": [system, U, A]},
        {"messages": [{"role": "user", "content": "ho"}, A], "conversation_id": "c"},
        {"messages": [U, A], "persona": "p7"},
        {"messages": [U, A], "conversation_id": "has a blank"},
    ]
    trees = imported(tmp_path, *rows)
    assert [judged.tree.id for judged in trees] == ["c", "t00001", "t00002", "c#2", "t00004", "t00005"]
    assert [len(judged.tree.nodes) for judged in trees] == [3, 2, 2, 2, 2, 2]
    assert [judged.tree.system for judged in trees] == [None, None, "S", None, None, None]
    assert [judged.tree.persona for judged in trees] == ["", "", "", "", "p7", ""]


def test_all_bad_rows_are_named_at_once_and_nothing_is_written(cli, tmp_path: Path) -> None:
    bad = [{"messages": [A]}] * 25
    (tmp_path / "f.jsonl").write_text(
        json.dumps({"messages": [U, A]}) + "\n{no\n" + "".join(f"{json.dumps(b)}\n" for b in bad)
    )
    ended = cli("import", "f.jsonl", "run.db")
    assert (ended.code, ended.out) == (2, "")
    assert "f.jsonl: mend these rows, or leave them out with --skip-bad: 26 rows (line 2: not JSON" in ended.err
    assert "line 20, line 21: begins with the assistant, and a tree begins with the user; and 6 more)" in ended.err
    assert "line 22" not in ended.err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["f.jsonl"]
    ended = cli("import", "f.jsonl", "run.db", "--skip-bad")
    assert ended.code == 0
    assert ended.err.startswith(
        "run.db: 1 conversation of 1 row imported into 1 tree (read as messages); left out: 26 rows ("
    )


def test_twenty_bad_rows_are_named_however_different_their_reasons(cli, tmp_path: Path) -> None:
    said = [{"messages": [{"role": f"the-judge-of-the-conversation-{number}", "content": "x"}]} for number in range(22)]
    written(tmp_path / "f.jsonl", *said)
    message = cli("import", "f.jsonl", "run.db").err
    assert [f"line {number}: message 1: has the role" in message for number in range(1, 23)] == [True] * 20 + [
        False
    ] * 2
    assert message.endswith("; and 2 more)\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no conversation in it"),
        ('{"role": "user", "content": "hi"}\n', "each row is one message; put those of a conversation into one row"),
        (
            '{"a": 1, "b": 2}\n',
            "the first row has a, b; give --format openai|inspect|langsmith|langgraph|pairs|sharegpt",
        ),
        ("[3]\n", "the first row is 3"),
        (
            '{"messages": []}\n',
            "mend these rows, or leave them out with --skip-bad: 1 row (line 1: has no message of a user)",
        ),
    ],
)
def test_a_file_without_conversations_is_refused_in_one_line(content: str, reason: str, cli, tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(content)
    ended = cli("import", "f.json", "run.db")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert reason in ended.err
    assert not (tmp_path / "run.db").exists()


def test_the_same_file_again_changes_nothing_and_another_one_is_refused(cli, tmp_path: Path) -> None:
    written(tmp_path / "f.jsonl", {"messages": [U, A]})
    assert cli("import", "f.jsonl", "run.db").code == 0
    before = contents(tmp_path / "run.db")
    again = cli("import", "f.jsonl", "run.db")
    assert (again.code, again.err) == (0, "run.db holds this import already; nothing was changed\n")
    written(tmp_path / "f.jsonl", {"messages": [U, A, U]})
    other = cli("import", "f.jsonl", "run.db")
    assert other.code == 2
    assert "run.db holds another import (changed: sha256 " in other.err
    assert "give this one a file of its own" in other.err
    assert contents(tmp_path / "run.db") == before
    assert cli("simulate", "sim.db", "--trees", "1", "--turns", "1").code == 0
    assert "sim.db holds a simulation; give the import a file of its own" in cli("import", "f.jsonl", "sim.db").err
    assert "is read by this command and would be overwritten" in cli("import", "f.jsonl", "f.jsonl").err
    assert "no such file" in cli("import", "none.jsonl", "new.db").err.lower()
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("simulate", "run.db"), "run.db holds an import; give the simulation a file of its own"),
        (
            ("evaluate", "run.db", "--candidate", "world:blind"),
            "run.db holds an import; give the evaluation a file of its",
        ),
        (("merge", "out.db", "run.db"), "run.db holds imported conversations, and merge takes the shards of"),
        (("compare", "run.db"), "run.db"),
        (("power", "run.db", "--delta", "0.2"), "run.db is no evaluation"),
        (("calibrate", "run.db", "--against", "truth"), "the truth is not known for tree t00000, whose persona is not"),
        (
            ("judge", "run.db", "--judge", "world:judge"),
            "run.db: a judge needs the persona, and the imported rows have none",
        ),
    ],
)
def test_commands_that_make_no_sense_of_an_import_refuse_it_in_one_line(
    words: tuple[str, ...], reason: str, cli, tmp_path: Path
) -> None:
    written(tmp_path / "f.jsonl", {"prompt": "hi", "chosen": "yes", "rejected": "no"})
    cli("import", "f.jsonl", "run.db")
    before = contents(tmp_path / "run.db")
    ended = cli(*words)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert reason in ended.err
    assert contents(tmp_path / "run.db") == before


def test_an_import_that_breaks_off_leaves_no_file_and_an_empty_one_is_filled(tmp_path: Path) -> None:
    file = written(tmp_path / "f.jsonl", {"messages": [U, A]})
    found = import_trees(file, "run")
    broken: Any = {**found.found.builders, "second": None}
    with pytest.raises(AttributeError):
        keep_import(tmp_path / "run.db", file, found._replace(found=found.found._replace(builders=broken)))
    assert [each.name for each in tmp_path.iterdir()] == ["f.jsonl"]
    Store.create_or_open(tmp_path / "run.db").close()  # what a kill leaves
    assert keep_import(tmp_path / "run.db", file, found)
    assert [tree.tree.id for tree in trees_of(tmp_path / "run.db")] == ["t00000"]


def test_where_a_message_comes_from_is_one_query_away(cli, tmp_path: Path) -> None:
    written(tmp_path / "f.jsonl", {"messages": [U, A], "id": "r7", "stars": 4})
    cli("import", "f.jsonl", "run.db")
    with closing(sqlite3.connect(tmp_path / "run.db")) as db:
        query = "SELECT value FROM annotations JOIN trees ON tree = number WHERE trees.id = ? AND node = ? AND name = ?"
        (source,) = db.execute(query, ("t00000", "1", "source")).fetchone()
        assert json.loads(source) == [{"file": "f.jsonl", "line": "line 1", "id": "r7", "messages": [2]}]
        (row,) = db.execute(query, ("t00000", "1", "row")).fetchone()
        assert json.loads(row) == [
            {"file": "f.jsonl", "line": "line 1", "id": "r7", "columns": {"id": "r7", "stars": 4}}
        ]


SYSTEM = {"role": "system", "content": "Be \U0001f600 kind."}
ROWS: list[Any] = [
    {"messages": [SYSTEM, U, A, {"role": "user", "content": "x\u2028y"}, {"role": "assistant", "content": "z"}]},
    {"messages": [SYSTEM, U, {"role": "assistant", "content": "hey"}]},
    {"messages": [U, A], "tree": "own"},
]


def test_what_was_imported_is_exported_and_imported_again_unchanged(cli, tmp_path: Path) -> None:
    written(tmp_path / "f.jsonl", *ROWS)
    cli("import", "f.jsonl", "one.db")
    assert cli("export", "one.db", "--format", "messages", "--out", "m.jsonl").code == 0
    assert cli("import", "m.jsonl", "two.db").code == 0
    first, second = (
        [judged.tree.model_copy(update={"run": ""}) for judged in trees_of(tmp_path / name)]
        for name in ("one.db", "two.db")
    )
    assert first == second
    rows = [json.loads(line)["messages"] for line in (tmp_path / "m.jsonl").read_text().strip().split("\n")]
    assert sorted(map(json.dumps, rows)) == sorted(json.dumps(row["messages"]) for row in ROWS)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation with branches, whose exports are imported."""
    folder = tmp_path_factory.mktemp("grown")
    api.simulate(folder / "sim.db", trees=2, turns=2, branch=3, policy="full", judging="score", system="Be brief.")
    return folder


def exported(run: Path, format: str, **options: Any) -> list[Any]:  # noqa: A002
    out = run.with_name(f"{run.stem}-{format}.jsonl")
    api.export(run, out, format=format, **options)
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize("pairs", ["best-worst", "all"])
def test_the_rows_of_our_dpo_export_come_back_equal(pairs: Any, grown: Path, tmp_path: Path) -> None:
    rows = exported(grown / "sim.db", "dpo", pairs=pairs)
    assert len({row["margin"] for row in rows}) > 1
    api.import_conversations(written(tmp_path / "d.jsonl", *rows), tmp_path / "back.db")
    back = exported(tmp_path / "back.db", "dpo", pairs="all")
    key = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731
    assert sorted(back, key=key) == sorted(rows, key=key)
    if pairs == "best-worst":
        assert back == rows


@pytest.mark.parametrize("format", ["messages", "sft"])
def test_the_rows_of_our_other_exports_come_back(format: str, grown: Path, tmp_path: Path) -> None:  # noqa: A002
    rows = exported(grown / "sim.db", format)
    api.import_conversations(written(tmp_path / "m.jsonl", *rows), tmp_path / "back.db")
    back = exported(tmp_path / "back.db", "messages")
    if format == "messages":
        assert back == rows
    else:  # a conversation that goes on stands in one row, not in one a turn
        assert {json.dumps(row) for row in back} <= {json.dumps(row) for row in rows}


PERSONA = {"id": "p1", "profile": ["Keeps bees."], "personality": "Dry."}


def test_a_judge_compares_siblings_and_scores_single_replies_of_known_personas(tmp_path: Path) -> None:
    world = load_personas("world", split="train", n=1, seed=0)[0]
    rows = [
        {"messages": [U, A], "persona": world.id, "tree": "a"},
        {"prompt": "", "messages": [U, {"role": "assistant", "content": "hey"}], "persona": world.id, "tree": "a"},
        {"messages": [{"role": "user", "content": "ho"}, A], "persona": world.id, "tree": "b"},
        {"messages": [U, A], "tree": "c"},
    ]
    (tmp_path / "people.jsonl").write_text(world.model_dump_json() + "\n")
    file = written(tmp_path / "f.jsonl", *rows)
    api.import_conversations(file, tmp_path / "run.db", personas=tmp_path / "people.jsonl")
    ended: RunSummary = api.judge(tmp_path / "run.db", judge="world:judge")
    assert (ended.done, list(ended.failed)) == (2, ["c"])
    assert "not judged: a judge needs the persona" in ended.failed["c"]
    with Store.open(tmp_path / "run.db") as store:
        trees = {judged.tree.id: judged for judged in store.judged_trees()}
    assert [(len(trees[name].verdicts), len(trees[name].scores)) for name in "abc"] == [(1, 0), (0, 1), (0, 0)]
    report = api.report(tmp_path / "run.db")
    assert (report.kind, report.n_cases, report.judge.asked) == ("import", 3, 3)


@pytest.mark.parametrize(
    ("persona", "reason"),
    [
        ({"profile": [], "personality": "Dry."}, "persona.profile: Tuple should have at least 1 item"),
        ({"profile": ["x"]}, "persona.personality: Field required"),
        ({**PERSONA, "personality": "Warm."}, "persona: 'p1' is another one in a row above"),
        ({**PERSONA, "id": "a b"}, "persona.id: 'a b' is no id"),
        ({**PERSONA, "id": "p2", "profile": ["\ud800"]}, "persona: cannot be written as UTF-8 text"),
    ],
)
def test_a_persona_that_cannot_be_one_is_named_with_its_line(persona: Any, reason: str, tmp_path: Path) -> None:
    rows = [{"messages": [U, A], "persona": PERSONA}, {"messages": [U, A], "persona": persona}]
    with pytest.raises(DataError, match="line 2: ") as caught:
        imported(tmp_path, *rows)
    assert reason in str(caught.value)


@pytest.mark.parametrize("row", [{"persona": PERSONA}, {key: PERSONA[key] for key in ("profile", "personality")}])
def test_a_persona_in_a_row_is_the_trees(row: Any, tmp_path: Path) -> None:
    found = import_trees(written(tmp_path / "f.jsonl", {"messages": [U, A], **row}), "run")
    (persona,) = found.personas
    assert (persona.profile, persona.personality) == (("Keeps bees.",), "Dry.")
    assert found.trees[0].tree.persona == persona.id


def test_pages_and_report_show_an_import(cli, tmp_path: Path) -> None:
    written(tmp_path / "f.jsonl", {"prompt": "hi", "chosen": "<b>yes", "rejected": "no"})
    cli("import", "f.jsonl", "run.db")
    assert cli("view", "run.db", "--export", "v.html").code == 0
    page = (tmp_path / "v.html").read_text()
    assert "interalign import" in page
    assert "&lt;b&gt;yes" in page
    shown = cli("report", "run.db")
    assert (shown.code, shown.out.splitlines()[0][:29]) == (0, "Import: 1 tree of 1 profile, ")
    assert "came with the file: no judge was asked" in " ".join(shown.out.split())
    assert json.loads(cli("report", "run.db", "--json").out)["kind"] == "import"


def test_parquet_and_a_json_array_are_read_as_json_lines_are(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    rows = [{"messages": [U, A], "id": "r1"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "f.parquet")
    (tmp_path / "f.json").write_text(json.dumps(rows))
    for file in ("f.parquet", "f.json"):
        (judged,) = import_trees(tmp_path / file, "run").trees
        assert texts(judged) == {"u": "hi", "1": "hello"}
        assert noted(judged, "1", "source") == [{"file": file, "line": "row 1", "id": "r1", "messages": [2]}]


def test_long_texts_of_an_inspect_log_are_put_in_their_places(tmp_path: Path) -> None:
    long = {**SAMPLE, "messages": [U, {"role": "assistant", "content": "attachment://a1"}]}
    (judged,) = imported(tmp_path, {**long, "attachments": {"a1": "hello"}})
    assert texts(judged) == {"u": "hi", "1": "hello"}
    with pytest.raises(DataError, match="messages: the text attachment://a1 is not among the attachments"):
        imported(tmp_path, long)


def test_an_eval_file_needs_inspects_own_library_and_is_read_by_it(tmp_path: Path) -> None:
    file = tmp_path / "log.eval"
    file.write_bytes(b"PK\x03\x04 no log")
    try:
        import inspect_ai  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"Inspect's own library reads \.eval files; pip install inspect_ai"):
            import_trees(file, "run")
    else:
        with pytest.raises(ConfigError, match="cannot be read as an Inspect log"):
            import_trees(file, "run")


SAID = st.text(st.sampled_from("ab \n\0\ud800\u2028"), max_size=3)
ODD = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), SAID)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", "x"]), "content": st.one_of(SAID, ODD)}
)
ROW = st.one_of(
    st.fixed_dictionaries(
        {"messages": st.lists(MESSAGE, max_size=4)}, optional={"tree": ODD, "persona": ODD, "id": ODD}
    ),
    st.fixed_dictionaries({"prompt": SAID, "chosen": SAID, "rejected": SAID}, optional={"margin": ODD, "node": SAID}),
    st.dictionaries(st.sampled_from(["messages", "chosen", "inputs", "outputs", "values", "choices"]), ODD),
    ODD,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, min_size=1, max_size=6))
def test_no_row_is_dropped_unseen_whatever_it_holds(tmp_path: Path, rows: list[Any]) -> None:
    file = written(tmp_path / "f.jsonl", *rows)
    try:
        found = import_trees(file, "run", skip_bad=True)
    except DataError as error:
        assert str(file) in str(error)  # noqa: PT017
        return
    sources = [
        source["line"]
        for judged in found.trees
        for note in judged.annotations
        if note.name == "source"
        for source in note.value
    ]
    named = {line.partition(":")[0] for line in found.skipped}
    assert found.rows == len(rows)
    assert len(set(sources)) + len(named) == found.rows
    assert not set(sources) & named
    (tmp_path / "run.db").unlink(missing_ok=True)
    api.import_conversations(file, tmp_path / "run.db", skip_bad=True)
    with Store.open(tmp_path / "run.db") as store:
        kept = [
            judged.model_copy(update={"tree": judged.tree.model_copy(update={"run": "run"})})
            for judged in store.judged_trees()
        ]
    assert [set(judged.tree.nodes) for judged in kept] == [set(judged.tree.nodes) for judged in found.trees]
    assert [judged.tree.system for judged in kept] == [judged.tree.system for judged in found.trees]
