"""Training files as people have them: read where they say exactly what ours say, refused by name where they do not."""

import bz2
import gzip
import json
import lzma
import sqlite3
import zipfile
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_runs import assistant, user, write

from interalign.errors import ConfigError
from interalign.training.data import read_rows

SYSTEM = {"role": "system", "content": "s"}
TALK = [user("a"), assistant("b")]
OTHER = [user("a"), assistant("c")]
LONGER = [user("a"), assistant("b"), user("c"), assistant("d")]
PAIR = {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]}


def said(text, who):
    return {"from": who, "value": text}


def read(path, method="sft"):
    """Every row as (number, what is read, what is to be learnt), speakers by their first letter."""
    return [(row.number, _short(row.prompt), _short(row.completions)) for row in read_rows(path, method)]


def _short(messages):
    return " ".join(f"{message.role[0]}:{message.content}" for message in messages)


def refusal(path, method) -> str:
    with pytest.raises(ConfigError) as refused:
        read_rows(path, method)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("row", "prompt", "reply"),
    [
        ({"conversations": [said("a", "human"), said("b", "gpt")]}, "u:a", "a:b"),
        ({"conversations": [said("s", "system"), said("a", "user"), said("b", "assistant")]}, "s:s u:a", "a:b"),
        ({"system": "s", "conversations": [said("a", "human"), said("b", "gpt")], "id": 7}, "s:s u:a", "a:b"),
        ({"system": "", "conversations": [said("a", "human"), said("b", "gpt")]}, "u:a", "a:b"),
        ({"conversations": TALK}, "u:a", "a:b"),
        ({"prompt": [user("a")], "completion": [assistant("b")]}, "u:a", "a:b"),
        ({"messages": [user("a"), {**assistant("b"), "weight": 1}]}, "u:a", "a:b"),
        ({"messages": [user("a"), {**assistant("b"), "weight": 0}, *LONGER[2:]]}, "u:a a:b u:c", "a:d"),
        ({"messages": [user("a"), {**assistant("b"), "name": None, "tool_calls": None}], "tools": None}, "u:a", "a:b"),
        ({"messages": TALK, "prompt": "a", "chosen": TALK, "rejected": [user("a"), assistant("x")]}, "u:a", "a:b"),
        ({"messages": [{**SYSTEM, "weight": None}, *TALK]}, "s:s u:a", "a:b"),
        ({"messages": [{**user("a"), "weight": 1}, {**assistant("b"), "weight": 1}]}, "u:a", "a:b"),
        ({"conversations": [said("a", "human"), {**said("b", "gpt"), "weight": 1}]}, "u:a", "a:b"),
    ],
)
def test_a_row_of_a_public_format_is_read_where_it_says_the_same_as_an_sft_row(tmp_path, row, prompt, reply):
    assert read(write(tmp_path / "rows.jsonl", row)) == [(1, prompt, reply)]


@pytest.mark.parametrize(
    ("row", "prompt", "replies"),
    [
        ({"prompt": "a", "chosen": TALK, "rejected": OTHER, "score": 4.5}, "u:a", "a:b a:c"),
        ({"prompt": "a", "chosen": [SYSTEM, *TALK], "rejected": [SYSTEM, *OTHER]}, "s:s u:a", "a:b a:c"),
        ({"prompt": [user("a")], "chosen": TALK, "rejected": OTHER}, "u:a", "a:b a:c"),
        ({"chosen": LONGER, "rejected": [*LONGER[:3], assistant("e")], "margin": None}, "u:a a:b u:c", "a:d a:e"),
        (
            {"conversations": [said("a", "human")], "chosen": said("b", "gpt"), "rejected": said("c", "gpt")},
            "u:a",
            "a:b a:c",
        ),
        ({"prompt": [user("a")], "chosen": assistant("b"), "rejected": assistant("c")}, "u:a", "a:b a:c"),
    ],
)  # fmt: skip
def test_a_pair_of_a_public_format_is_read_where_it_says_the_same_as_a_dpo_row(tmp_path, row, prompt, replies):
    assert read(write(tmp_path / "rows.jsonl", row), "dpo") == [(1, prompt, replies)]


TOOL = {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "type": "function"}]}


@pytest.mark.parametrize(
    ("method", "row", "reason"),
    [
        ("sft", {"instruction": "a", "input": "", "output": "b"}, "this is a row in the format Alpaca"),
        ("sft", {"prompt": "a", "completion": "b"}, "this is prompt and completion in plain text"),
        ("sft", {"prompt": "a", "response": "b"}, "this is prompt and response in plain text"),
        ("sft", {"text": "a"}, "messages: Field required (expected a row of `--format sft`), this is plain text"),
        ("sft", {"prompt": [user("a")], "completion": [assistant("b")], "label": False}, "this is a row for KTO"),
        ("sft", {"prompt": [user("a")], "completion": TALK}, "completion is not one message"),
        ("sft", {"prompt": [user("a")], "completions": [], "scores": []}, "this is a row of `--format listwise`"),
        ("sft", PAIR, "a preference pair, which SFT does not learn from; train it with `interalign train dpo`"),
        ("sft", {"chosen": TALK, "rejected": TALK}, "a preference pair"),
        ("sft", {"messages": [*TALK, user("c"), {**assistant("d"), "weight": 0}]}, "the last reply has weight 0"),
        ("sft", {"messages": [user("a"), {**assistant("b"), "weight": 1}, *LONGER[2:]]}, "message 2 has weight 1, but"),
        ("sft", {"messages": [user("a"), {**assistant("b"), "weight": 0.5}]}, "the last reply has weight 0.5"),
        ("sft", {"messages": [user("a"), TOOL, assistant("b")]}, "message 2 is a tool call or a tool's answer"),
        ("sft", {"messages": [user("a"), {"role": "tool", "content": "x"}, assistant("b")]}, "message 2 is a tool"),
        ("sft", {"messages": [user("a"), {**assistant("b"), "function_call": {}}]}, "message 2 is a tool"),
        ("sft", {"messages": TALK, "tools": [{"type": "function"}]}, "the row offers tools"),
        ("sft", {"messages": TALK, "functions": [{"name": "f"}]}, "the row offers tools"),
        ("sft", {"conversations": [said("a", "human"), said("x", "observation"), said("b", "gpt")]}, "'observation'"),
        ("sft", {"conversations": [said("a", "human"), said("b", "gpt"), said("c", "human")]}, "is a user message"),
        ("sft", {"messages": [user([{"type": "text", "text": "a"}]), assistant("b")]}, "messages.0.content: "),
        ("sft", {"conversations": [said("a", ["human"]), said("b", "gpt")]}, "message 1 (ShareGPT) is from ['human']"),
        ("sft", {"conversations": [said("a", "human"), {**said("b", "gpt"), "id": 1}]}, "messages.1.id: Extra inputs"),
        ("sft", {"conversations": [said("a", "human"), {**said("b", "gpt"), "weight": 0}]}, "has weight 0"),
        ("sft", {"messages": "a"}, "messages: Input should be a valid tuple"),
        ("sft", {"conversations": "a"}, "messages: Input should be a valid tuple"),
        ("sft", {}, "messages: Field required"),
        ("dpo", {"messages": TALK}, "a conversation without a rejected reply; train it with `interalign train sft`"),
        ("dpo", {"conversations": [said("a", "human"), said("b", "gpt")]}, "a conversation without a rejected reply"),
        ("dpo", {"prompt": [user("a")], "completion": [assistant("b")], "label": True}, "this is a row for KTO"),
        ("dpo", {"prompt": [user("a")], "completions": [], "scores": []}, "chosen: Field required"),
        ("dpo", {"instruction": "a", "input": "", "output": "b"}, "prompt: Field required"),
        ("dpo", {"text": "a"}, "this is plain text"),
        ("dpo", {"prompt": "a", "chosen": "b", "rejected": "c"}, "a pair in the format plain text"),
        (
            "dpo",
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
            "a pair in the format Anthropic's hh-rlhf",
        ),
        ("dpo", {"chosen": LONGER, "rejected": [user("a"), assistant("x"), *LONGER[2:]]}, "differ before their last"),
        ("dpo", {"prompt": "z", "chosen": TALK, "rejected": OTHER}, "prompt is not what"),
        ("dpo", {"prompt": "a", "chosen": [assistant("b")], "rejected": [assistant("c")]}, "prompt is no list"),
        ("dpo", {"chosen": TALK, "rejected": TALK}, "chosen and rejected are the same reply"),
        ("dpo", {**PAIR, "rejected": None}, "rejected: Input should be a valid tuple"),
    ],
)  # fmt: skip
def test_a_row_that_would_have_to_be_guessed_is_refused_by_the_name_of_its_format(tmp_path, method, row, reason):
    told = refusal(write(tmp_path / "rows.jsonl", row), method)

    assert told.startswith(f"{tmp_path / 'rows.jsonl'}, line 1: ")
    assert reason in told


def test_all_bad_rows_are_told_at_once_each_with_its_line_and_reason(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"messages": TALK}, {"text": "a"}, {"messages": [user("a")]}, {"text": "b"})
    with path.open("a") as file:
        file.write("{\n")

    told = refusal(path, "sft")

    assert told.startswith(f"{path}: 4 of 5 rows cannot be trained on: line 2: messages: Field required ")
    assert "; line 3: messages: Tuple should have at least 2 items" in told
    assert "; line 4: as line 2; line 5: not JSON in UTF-8 (" in told


def test_of_many_bad_rows_the_first_twenty_are_told_and_how_many_there_are(tmp_path):
    told = refusal(write(tmp_path / "rows.jsonl", *[{"messages": []}] * 37), "sft")

    assert ": 37 of 37 rows cannot be trained on: line 1: messages: Tuple should" in told
    assert told.endswith("; line 19: as line 1; line 20: as line 1; and 17 more")


LINES = "".join(f"{json.dumps({'messages': talk})}\n" for talk in (TALK, LONGER)).encode()
BOTH = [(1, "u:a", "a:b"), (2, "u:a a:b u:c", "a:d")]


@pytest.mark.parametrize(
    "content",
    [
        LINES,
        b"\xef\xbb\xbf" + LINES,
        LINES.decode().encode("utf-16"),
        b"\xfe\xff" + LINES.decode().encode("utf-16-be"),
        gzip.compress(LINES, mtime=0),
        gzip.compress(b"\xef\xbb\xbf" + LINES, mtime=0),
        LINES.replace(b"\n", b"\r\n"),
        LINES.removesuffix(b"\n"),
        json.dumps([{"messages": TALK}, {"messages": LONGER}]).encode(),
        json.dumps([{"messages": TALK}, {"messages": LONGER}], indent=2).encode(),
        b"\n [" + b",".join(LINES.splitlines()) + b"]\n",
    ],
    ids=["plain", "bom", "utf-16", "utf-16-be", "gzip", "gzip-bom", "crlf", "no-end", "array", "spread-array", "blank"],
)
def test_a_file_is_read_however_its_lines_are_kept(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)

    assert read(path) == BOTH


def test_a_parquet_file_is_read_and_what_is_null_in_it_is_absent(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").Table.from_pylist(
        [{"messages": [user("a"), {**assistant("b"), "weight": 1}]}, {"messages": LONGER}]
    )
    parquet.write_table(table, tmp_path / "rows.parquet")

    assert read(tmp_path / "rows.parquet") == BOTH


@pytest.mark.parametrize("kind", ["array", "parquet"])
def test_a_bad_row_of_an_array_or_a_parquet_file_is_told_by_its_row(tmp_path, kind):
    rows, path = [{"messages": TALK}, {"messages": [user("a")]}], tmp_path / "rows"
    if kind == "array":
        path.write_text(json.dumps(rows, indent=1))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), path)

    assert refusal(path, "sft").startswith(f"{path}, row 2: messages: Tuple should have at least 2 items")


def _zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.jsonl", LINES)


def _run_file(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b""), "no rows in it"),
        (lambda path: path.write_bytes(b"\n \n"), "no rows in it"),
        (lambda path: path.write_bytes(b"[]"), "no rows in it"),
        (lambda path: path.write_bytes(b"\xef\xbb\xbf"), "no rows in it"),
        (lambda path: path.write_bytes(gzip.compress(b"")), "no rows in it"),
        (lambda path: path.mkdir(), "is a folder; name the file"),
        (_zipped, "is a zip archive"),
        (_run_file, "is a run file; write its rows with `interalign export` first"),
        (lambda path: path.write_bytes(bz2.compress(LINES)), "is packed with bzip2"),
        (lambda path: path.write_bytes(lzma.compress(LINES)), "is packed with xz"),
        (lambda path: path.write_bytes(b"\x28\xb5\x2f\xfd" + LINES), "is packed with zstd"),
        (lambda path: path.write_bytes(b"ARROW1\0\0"), "is an Arrow file"),
        (lambda path: path.write_bytes(gzip.compress(LINES)[:-9]), "is damaged ("),
        (lambda path: path.write_bytes(gzip.compress(LINES)[:20] + b"x" * 30), "is damaged ("),
        (lambda path: path.write_bytes(b"\xff\xfe" + LINES[:7]), "is damaged ("),
        (lambda path: path.write_bytes(b"PAR1 and no more"), "cannot be read as Parquet ("),
        (lambda path: path.write_text('prompt,chosen,rejected\n"a","b","c"\n'), "is a table (CSV)"),
        (lambda path: path.write_text('"instruction"\t"output"\na\tb\n'), "is a table (CSV)"),
        (lambda path: path.write_text('[\n  {"messages": []},\n'), "begins as a JSON array, but is no JSON ("),
        (lambda path: path.write_text(json.dumps({"messages": TALK}, indent=2) * 2), "JSON objects of several"),
        (lambda path: path.write_text(json.dumps({"data": [{"messages": TALK}]}, indent=2)), "JSON objects of several"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path, make, reason):
    path = tmp_path / "rows.jsonl"
    make(path)

    told = refusal(path, "sft")

    assert told.startswith(str(path))
    assert reason in told


def test_a_broken_first_line_is_told_by_its_number_as_any_other(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"messages": \n' + LINES)

    assert refusal(path, "sft").startswith(f"{path}, line 1: not JSON in UTF-8 (")


def test_the_cases_that_fell_short_once_are_read_as_they_are_meant(tmp_path):
    pair = {"prompt": "a", "chosen": [user("a"), assistant("b")], "rejected": OTHER}
    share_gpt = {"conversations": [said("a", "human"), said("b", "gpt")]}

    assert read(write(tmp_path / "dpo.jsonl", pair), "dpo") == [(1, "u:a", "a:b a:c")]
    assert read(write(tmp_path / "sft.jsonl", share_gpt)) == [(1, "u:a", "a:b")]


WORDS = st.sampled_from([
    "role", "content", "from", "value", "user", "assistant", "human", "gpt", "a", "messages", "conversations", "prompt",
    "chosen", "rejected", "completion", "label", "weight", "system", "tools", "tool_calls", "text", "scores",
])  # fmt: skip
VALUES = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers(0, 1) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)  # the machine may be busy
@given(row=st.dictionaries(WORDS, VALUES, max_size=4), method=st.sampled_from(["sft", "dpo"]))
def test_whatever_a_row_holds_it_is_read_or_refused_in_one_line(tmp_path_factory, row, method):
    path = write(tmp_path_factory.getbasetemp() / "any.jsonl", row)
    told, learnt = "", {"assistant"}
    try:
        learnt = {reply.role for found in read_rows(path, method) for reply in found.completions}
    except ConfigError as refused:
        told = str(refused)

    assert learnt == {"assistant"}
    assert "\n" not in told
