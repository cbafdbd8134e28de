"""Replies that were cut at their length limit: counted, and learnt by nobody who does not ask for them."""

import json
from pathlib import Path

import loopback
import pytest
from conftest import Ended
from judged_trees import one_turn, said, score, seats, two_judged_turns

import interalign as ia
from interalign import registries
from interalign.training.export import rows
from interalign.tree import JudgedTree

PAIRS = ("dpo", "rm", "kto", "listwise")


def two_turns(*cut: str) -> JudgedTree:
    judged = two_judged_turns()
    return judged.model_copy(update={"cut": frozenset(cut)})


def nodes(judged: JudgedTree, fmt: str, **options: bool) -> list[str]:
    return [row["node"] for row in rows([judged], fmt, **options)]


@pytest.mark.parametrize("fmt", registries.FORMATS.built_in)
def test_a_tree_without_cut_replies_gives_the_rows_it_gave(fmt: str) -> None:
    given = list(rows([two_turns()], fmt, seats=seats()))
    assert given == list(rows([two_turns()], fmt, keep_cut=True, seats=seats())) != []


def test_a_cut_reply_is_no_sft_row_even_where_it_is_the_preferred_one() -> None:
    assert nodes(two_turns("1"), "sft") == ["2/1"]
    assert nodes(two_turns("1"), "sft", keep_cut=True) == ["1", "2/1"]


@pytest.mark.parametrize("fmt", PAIRS)
@pytest.mark.parametrize("cut", ["1", "2"])
def test_a_cut_reply_is_neither_chosen_nor_rejected_nor_ranked(fmt: str, cut: str) -> None:
    every, kept = (list(rows([two_turns(cut)], fmt, keep_cut=keep)) for keep in (True, False))
    assert kept == [row for row in every if row["turn"] == 2]
    assert len(kept) < len(every)


def test_a_cut_reply_that_the_talk_went_on_from_stays_in_the_conversation_before_a_row() -> None:
    (row,) = rows([two_turns("2")], "sft")
    assert [message["content"] for message in row["messages"]] == ["Hi.", "Yes?", "I like tea.", "Green tea?"]


def test_of_three_replies_the_best_whole_one_meets_the_worst_whole_one() -> None:
    judged = said(one_turn("cut sho", "fine", "poor"), score("1", 5), score("2", 4), score("3", 1))
    (row,) = rows([judged.model_copy(update={"cut": frozenset({"1"})})], "dpo")
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"], row["margin"]) == ("fine", "poor", 3)


def test_a_whole_conversation_ends_before_its_first_cut_reply() -> None:
    assert nodes(two_turns("2/1", "2/2"), "messages") == ["1", "2"]
    assert nodes(two_turns("2"), "messages") == ["1"]
    assert nodes(two_turns("1", "2"), "messages") == []
    assert nodes(two_turns("2"), "messages", keep_cut=True) == ["1", "2/1", "2/2"]


def test_a_cut_user_message_is_only_read_and_takes_no_row_away() -> None:
    for fmt in ("sft", "dpo", "messages"):
        assert nodes(two_turns("u", "2u"), fmt) == nodes(two_turns(), fmt)


# From a server to a file --------------------------------------------------------------------------


def ended_with(text: str, reason: str) -> tuple[int, dict[str, object]]:
    status, body = loopback.completion(text)
    return status, {**body, "choices": [{**body["choices"][0], "finish_reason": reason}]}


def simulated(path: Path, reason: str, *, system: str = "") -> None:
    """A run of one turn with two candidates, of which `short` always ends for this reason; the judge prefers it."""

    def answer(body: dict[str, object]) -> tuple[int, dict[str, object]]:
        if body["model"] == "judge":
            shown = str(body["messages"])
            return loopback.completion(f"Verdict: {'A' if shown.index('I wou') < shown.index('Whole.') else 'B'}")
        return ended_with("I wou", reason) if body["model"] == "short" else loopback.completion("Whole.")

    with loopback.serving(answer) as server:
        ia.simulate(
            path, trees=2, turns=1, branch=2, inducer="none", candidate=["openai:short", "openai:whole"],
            judge="openai:judge", runtime=ia.Runtime(base_url=server.url),
        )  # fmt: skip


@pytest.mark.parametrize(
    "reason",
    ["length", "max_tokens", "MAX_TOKENS", "model_length", "max_length", "FinishReason.MAX_TOKENS", "truncated"],
)
def test_a_reply_is_cut_by_whatever_name_its_server_gives_the_limit(reason: str, tmp_path: Path, cli) -> None:
    simulated(tmp_path / "run.db", reason)
    ended: Ended = cli("export", "run.db", "--format", "dpo", "--out", "dpo.jsonl")
    assert (ended.code, Path("dpo.jsonl").read_text()) == (0, "")
    assert ended.err.splitlines() == [
        "dpo.jsonl is empty: too few replies were not cut at their length limit; raise max_tokens, or --keep-cut "
        "keeps them",
        "cut at the length limit: candidate 2",
    ]
    assert cli("export", "run.db", "--format", "dpo", "--out", "dpo.jsonl", "--keep-cut").code == 0
    kept = [json.loads(line) for line in Path("dpo.jsonl").read_text().splitlines()]
    assert [row["chosen"][0]["content"] for row in kept] == ["I wou", "I wou"]


def test_the_card_beside_an_export_says_how_many_replies_were_cut_and_whether_they_were_kept(
    tmp_path: Path, cli
) -> None:
    simulated(tmp_path / "run.db", "length")
    cli("export", "run.db", "--format", "sft", "--out", "sft.jsonl")
    card = json.loads(Path("sft.jsonl.card.json").read_text())
    assert card["counts"] == {"trees": 2, "replies": 4, "cut": 2, "leaks": 0, "user_cut": 0}
    assert (card["rows"], card["format"], card["judge"], card["keep_cut"]) == (0, "sft", "openai:judge", False)
    assert (card["run"]["name"], card["run"]["file"]) == ("run", "run.db")
    assert card["run"]["settings"]["judge"] == "openai:judge"
    cli("export", "run.db", "--format", "sft", "--out", "sft.jsonl", "--keep-cut")
    card = json.loads(Path("sft.jsonl.card.json").read_text())
    assert (card["rows"], card["counts"]["cut"], card["keep_cut"]) == (2, 2, True)


def test_a_pipe_gets_rows_and_no_card(tmp_path: Path, forks) -> None:
    ia.simulate(tmp_path / "run.db", trees=1, turns=1)
    ended: Ended = forks.run(tmp_path, "export", "run.db", "--format", "messages", "--out", "/dev/stdout")
    assert (ended.code, ended.out.count("\n")) == (0, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.db"]


def test_a_card_never_replaces_a_run_or_the_exported_run_itself(tmp_path: Path, cli) -> None:
    runs = ("rows.card.json", "other.db")
    for run in runs:
        ia.simulate(tmp_path / run, trees=1, turns=1)
    before = (tmp_path / "rows.card.json").read_bytes()
    for run in runs:
        ended: Ended = cli("export", run, "--format", "messages", "--out", "rows")
        assert (ended.code, "rows.card.json" in ended.err, Path("rows").exists()) == (2, True, False)
    assert (tmp_path / "rows.card.json").read_bytes() == before
