"""The ledger: a reply is committed before it is seen, never asked for twice, and never lost."""

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from until import rounds, until

from interalign.config import Parameters
from interalign.errors import BadContentError, ConfigError, FailedTreeError, StopError
from interalign.ledger import Ledger
from interalign.records import Call, Place, Reply, Usage
from interalign.store import Store
from interalign.store.calls import CallRow, call_key
from interalign.tree import Message

HELLO = (Message(role="system", content="Be brief."), Message(role="user", content="Hello?"))
AT = Place("t0", "u", "user", 0)
WARM = Parameters(temperature=1.0)


class Model:
    """Answers with `answer`, and remembers what it was asked."""

    name = "test:model"

    def __init__(self, answer: Callable[..., Awaitable[str]] | str = "Hi.") -> None:
        self._answer = answer
        self.asked: list[str] = []
        self.most_at_once = 0
        self._at_once = 0

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        self.asked.append(messages[-1].content)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            text = self._answer if isinstance(self._answer, str) else await self._answer(messages[-1].content)
        finally:
            self._at_once -= 1
        return Reply(text=text, model="model-2", finish_reason="stop", prompt_tokens=7, completion_tokens=2)


def ask(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create_or_open(tmp_path / "run.db") as opened:
        yield opened


def calls_in(path: Path) -> int:
    """Calls that any other process could read in the file right now."""
    with closing(sqlite3.connect(path)) as db:
        count: int = db.execute("SELECT count(*) FROM calls").fetchone()[0]
        return count


def places_in(path: Path) -> set[str]:
    """`TREE NODE` of every call in the file."""
    with closing(sqlite3.connect(path)) as db:
        return {f"{tree} {node}" for tree, node in db.execute("SELECT tree, node FROM calls")}


# Replay ------------------------------------------------------------------------------------------


def test_a_reply_is_committed_before_it_is_seen(store: Store) -> None:
    async def talk() -> None:
        ledger = Ledger(store, concurrency=2)
        for number in range(5):
            call = await ledger.call(Place("t0", str(number), "user", 0), Model(), HELLO, WARM, 1)
            assert calls_in(store.path) == number + 1
            assert call.reply.text == "Hi."

    asyncio.run(talk())


def test_a_call_made_before_is_answered_from_the_file_even_after_reopening(tmp_path: Path) -> None:
    model = Model()
    with Store.create_or_open(tmp_path / "run.db") as store:
        ledger = Ledger(store, concurrency=1)
        first = asyncio.run(ledger.call(AT, model, HELLO, WARM, 1))
        assert (ledger.fresh, ledger.replayed) == (1, 0)
    with Store.create_or_open(tmp_path / "run.db") as store:
        ledger = Ledger(store, concurrency=1)
        again = asyncio.run(ledger.call(AT, model, HELLO, WARM, 1))
        assert (ledger.fresh, ledger.replayed) == (0, 1)
    assert model.asked == ["Hello?"]
    assert again == first
    assert again.reply == Reply(text="Hi.", model="model-2", finish_reason="stop", prompt_tokens=7, completion_tokens=2)
    assert len(again.key) == 32


@pytest.mark.parametrize(
    "other",
    [
        {"place": Place("t1", "u", "user", 0)},
        {"place": Place("t0", "v", "user", 0)},
        {"place": Place("t0", "u", "judge", 0)},
        {"place": Place("t0", "u", "user", 1)},
        {"messages": ask("Hello?")},
        {"messages": (HELLO[0], Message(role="assistant", content="Hello?"))},
        {"parameters": Parameters(temperature=0.5)},
        {"seed": 2},
    ],
    ids=lambda other: next(f"{name} {value}"[:30] for name, value in other.items()),
)
def test_another_place_or_request_is_another_call(store: Store, other: dict[str, Any]) -> None:
    model = Model()
    given: dict[str, Any] = {"place": AT, "messages": HELLO, "parameters": WARM, "seed": 1}

    async def both() -> list[Call]:
        ledger = Ledger(store, concurrency=2)
        return [await ledger.call(model=model, **given), await ledger.call(model=model, **(given | other))]

    first, second = asyncio.run(both())
    assert first.key != second.key
    assert len(model.asked) == 2


def test_another_model_is_another_call(store: Store) -> None:
    other = Model()
    other.name = "test:other"

    async def both() -> list[Call]:
        ledger = Ledger(store, concurrency=2)
        return [await ledger.call(AT, model, HELLO, WARM, 1) for model in (Model(), other)]

    first, second = asyncio.run(both())
    assert first.key != second.key


def test_the_prompt_and_the_reply_of_a_call_can_be_looked_up(store: Store) -> None:
    call = asyncio.run(Ledger(store, concurrency=1).call(AT, Model(), HELLO, WARM, 1))
    assert store.prompt_of(call.key) == list(HELLO)
    assert store.reply_of(call.key) == call.reply
    for unknown in ("0" * 32, "not a key"):
        with pytest.raises(ConfigError, match="holds no call"):
            store.prompt_of(unknown)
        with pytest.raises(ConfigError, match="holds no call"):
            store.reply_of(unknown)


def test_usage_counts_every_call_once_by_role(store: Store) -> None:
    async def talk() -> None:
        ledger = Ledger(store, concurrency=1)
        for role, node in (("user", "a"), ("judge", "a"), ("judge", "b"), ("judge", "b")):
            await ledger.call(Place("t0", node, role, 0), Model(), HELLO, WARM, 1)
        with pytest.raises(BadContentError):
            await ledger.call(Place("t0", "c", "judge", 0), Model(refuse), HELLO, WARM, 1)

    asyncio.run(talk())
    assert store.usage() == {
        "judge": Usage(calls=3, prompt_tokens=14, completion_tokens=4, bad=1),
        "user": Usage(calls=1, prompt_tokens=7, completion_tokens=2, bad=0),
    }


def row_of(node: str, prompt: str = "Hello?", reply: str = "Hi.") -> CallRow:
    """A call of tree t0 as the ledger hands it to the store."""
    messages = (HELLO[0], Message(role="user", content=prompt))
    place = AT._replace(node=node)
    answered = Reply(text=reply, model="model-2", prompt_tokens=7, completion_tokens=2)
    return CallRow(call_key(place, ("m", "{}", 1), messages), place, "m", "{}", messages, answered, None)


def commit_together(store: Store, *work: Callable[[], Awaitable[object]]) -> list[object]:
    """What comes of all this work, queued in this order, in one transaction as far as no part of it is at fault."""
    go = threading.Event()

    async def begin(one: Callable[[], Awaitable[object]]) -> object:
        return await one()

    async def talk() -> list[object]:
        store._writes.writer._committer.submit(go.wait, 10)  # the disk is slow
        first = store._writes.writer.submit(lambda db: None)
        await until(lambda: store._writes.writer._committing)
        tasks = [asyncio.create_task(begin(one)) for one in work]
        await rounds()
        go.set()
        await first
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    before = store._writes.writer.commits
    ends = asyncio.run(talk())
    assert store._writes.writer.commits == before + 2 or any(isinstance(end, Exception) for end in ends)
    return ends


def test_a_call_that_is_stored_twice_is_kept_and_counted_once(store: Store) -> None:
    row = row_of("a")
    commit_together(store, *[partial(store.submit_call, each) for each in (row, row_of("b"), row)])
    commit_together(store, *[partial(store.submit_call, each) for each in (row, row_of("c"), row)])
    assert calls_in(store.path) == 3
    assert store.usage() == {"user": Usage(calls=3, prompt_tokens=21, completion_tokens=6, bad=0)}


def test_a_fault_beside_calls_leaves_their_texts_and_counts_right(store: Store) -> None:
    bad = row_of("\ud800", reply="Never stored.")  # SQLite can hold no such name
    rows = [row_of("a", "One?", "First."), bad, row_of("b", "Two?", "Second."), row_of("c", "One?", "Third.")]
    ends = commit_together(store, *[partial(store.submit_call, row) for row in rows])
    assert [type(end) for end in ends] == [type(None), UnicodeEncodeError, type(None), type(None)]
    kept = [row for row in rows if row is not bad]
    assert [store.reply_of(row.key.hex()).text for row in kept] == ["First.", "Second.", "Third."]
    assert [store.prompt_of(row.key.hex())[1].content for row in kept] == ["One?", "Two?", "One?"]
    assert store.usage()["user"].calls == 3
    with closing(sqlite3.connect(store.path)) as db:
        assert db.execute("SELECT count(*) FROM texts").fetchone() == (6,)  # two prompts, the rules, three replies


def test_many_calls_of_one_transaction_are_all_kept_in_their_order(store: Store) -> None:
    rows = [row_of(f"{number}", f"{number}?", f"{number}!") for number in range(77)]
    commit_together(store, *[partial(store.submit_call, row) for row in rows])
    assert [store.reply_of(row.key.hex()).text for row in rows] == [f"{number}!" for number in range(77)]
    with closing(sqlite3.connect(store.path)) as db:
        assert [node for (node,) in db.execute("SELECT node FROM calls ORDER BY id")] == [str(n) for n in range(77)]


@pytest.mark.parametrize("length", [10, 30_000])
def test_a_text_is_stored_once_even_if_its_tree_ended_a_moment_ago(store: Store, length: int) -> None:
    text = "x" * length
    again = [partial(store.submit_call, row_of(node, text, text)) for node in ("a", "b", "c")]
    commit_together(store, *again[:2], partial(store.finish_tree, "t0"), again[2])
    asyncio.run(store.finish_tree("t0"))
    commit_together(store, partial(store.submit_call, row_of("d", text, text)))
    with closing(sqlite3.connect(store.path)) as db:
        assert db.execute("SELECT count(*) FROM texts WHERE length(body) = ?", (length,)).fetchone() == (1,)
    assert [store.prompt_of(row_of(node, text).key.hex())[1].content for node in "abcd"] == [text] * 4


def test_a_fork_answers_what_its_source_was_asked(store: Store, tmp_path: Path) -> None:
    model = Model()
    asyncio.run(Ledger(store, concurrency=1).call(AT, model, HELLO, WARM, 1))
    Store.fork(store.path, tmp_path / "fork.db")
    with Store.create_or_open(tmp_path / "fork.db") as fork:
        ledger = Ledger(fork, concurrency=1)
        asyncio.run(ledger.call(AT, model, HELLO, WARM, 1))
        assert (ledger.fresh, ledger.replayed) == (0, 1)
    assert len(model.asked) == 1


# Bad content and failures ------------------------------------------------------------------------


async def refuse(text: str) -> str:
    raise BadContentError("content filter", "I cannot \ud800 say that.")


def test_bad_content_is_committed_and_raised_again_without_asking(store: Store) -> None:
    model = Model(refuse)
    for _ in range(2):
        with pytest.raises(BadContentError, match="content filter") as bad:
            asyncio.run(Ledger(store, concurrency=1).call(AT, model, HELLO, WARM, 1))
        assert bad.value.reply == "I cannot \ud800 say that."
    assert len(model.asked) == 1


@pytest.mark.parametrize("error", [FailedTreeError("too long"), ZeroDivisionError()])
def test_other_failures_pass_through_and_leave_slot_and_file_as_they_were(store: Store, error: Exception) -> None:
    async def fail(text: str) -> str:
        raise error

    async def talk() -> Call:
        ledger = Ledger(store, concurrency=1)
        with pytest.raises(type(error)):
            await ledger.call(AT, Model(fail), HELLO, WARM, 1)
        assert calls_in(store.path) == 0
        assert ledger.in_flight == 0
        return await ledger.call(AT, Model(), HELLO, WARM, 1)

    assert asyncio.run(talk()).reply.text == "Hi."


# Stopping ----------------------------------------------------------------------------------------


def test_what_stops_one_call_lets_those_in_flight_finish_and_begins_no_other(store: Store) -> None:
    ledger = Ledger(store, concurrency=2)

    async def answer(text: str) -> str:
        if text == "the key":
            raise StopError("no quota")
        await until(lambda: ledger.stopping)
        return "Paid for."

    async def talk(model: Model) -> list[Any]:
        asked = ["slow", "the key", "waiting", "waiting too"]
        calls = [ledger.call(AT._replace(node=text), model, ask(text), WARM, 1) for text in asked]
        return await asyncio.gather(*calls, return_exceptions=True)

    model = Model(answer)
    slow, *others = asyncio.run(talk(model))
    assert slow.reply.text == "Paid for."
    assert [str(other) for other in others] == ["no quota"] * 3
    assert model.asked == ["slow", "the key"]
    assert places_in(store.path) == {"t0 slow"}


def test_a_sibling_that_may_not_begin_does_not_end_the_call_beside_it(store: Store) -> None:
    ledger = Ledger(store, concurrency=2)

    async def answer(text: str) -> str:
        await until(lambda: ledger.stopping)
        return "Hi."

    async def talk(model: Model) -> None:
        async with asyncio.TaskGroup() as siblings:
            siblings.create_task(ledger.call(AT._replace(node="1"), model, HELLO, WARM, 1))
            await until(lambda: model.asked)
            ledger.stop("interrupted")
            siblings.create_task(ledger.call(AT._replace(node="2"), model, HELLO, WARM, 1))

    with pytest.raises(ExceptionGroup) as error:
        asyncio.run(talk(Model(answer)))
    assert [str(each) for each in error.value.exceptions] == ["interrupted"]
    store.close()  # what is queued is committed
    assert places_in(store.path) == {"t0 1"}


def test_a_call_that_does_not_finish_is_left_after_the_time_it_gets(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interalign.ledger.ledger._GRACE", 0.05)

    async def hang(text: str) -> str:
        await asyncio.Event().wait()
        return "Late."

    hanging = Model(hang)

    async def talk(ledger: Ledger) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(ledger.call(AT, hanging, HELLO, WARM, 1))
            await until(lambda: hanging.asked)
            ledger.stop("interrupted")
            both.create_task(ledger.call(AT._replace(node="2"), Model(), HELLO, WARM, 1))

    with pytest.raises(ExceptionGroup) as error:
        asyncio.run(talk(Ledger(store, concurrency=2)))
    assert {str(each) for each in error.value.exceptions} == {"interrupted"}
    assert places_in(store.path) == set()


def test_a_ledger_that_stopped_answers_nothing_from_the_file_either(store: Store) -> None:
    async def talk(ledger: Ledger) -> None:
        await ledger.call(AT, Model(), HELLO, WARM, 1)
        ledger.stop("interrupted")
        with pytest.raises(StopError, match="interrupted"):
            await ledger.call(AT, Model(), HELLO, WARM, 1)

    asyncio.run(talk(Ledger(store, concurrency=1)))


# At the same time --------------------------------------------------------------------------------


async def slowly(text: str) -> str:
    await rounds()
    return f"{text} it is."


def test_the_same_call_asked_by_ten_at_once_is_one_call(store: Store) -> None:
    model = Model(slowly)

    async def talk() -> Sequence[Call]:
        ledger = Ledger(store, concurrency=4)
        calls = await asyncio.gather(*(ledger.call(AT, model, HELLO, WARM, 1) for _ in range(10)))
        assert (ledger.fresh, ledger.replayed) == (1, 9)
        return calls

    assert len({call.key for call in asyncio.run(talk())}) == 1
    assert len(model.asked) == 1


class Gated(Model):
    """Answers once its gate is open."""

    def __init__(self) -> None:
        super().__init__(self._through)
        self.gate = asyncio.Event()

    async def _through(self, text: str) -> str:
        await self.gate.wait()
        return f"{text} it is."

    async def was_asked(self, times: int) -> None:
        """Wait until it was asked so often."""
        while len(self.asked) < times:  # noqa: ASYNC110  (a few steps of the loop)
            await asyncio.sleep(0)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_if_the_first_to_ask_is_cancelled_the_next_one_gets_the_reply_on_its_way(store: Store) -> None:
    async def talk() -> None:
        model, ledger = Gated(), Ledger(store, concurrency=4)
        first, second = (asyncio.create_task(ledger.call(AT, model, HELLO, WARM, 1)) for _ in range(2))
        await model.was_asked(1)
        await cancelled(first)
        model.gate.set()
        assert (await second).reply.text == "Hello? it is."
        assert len(model.asked) == 1

    asyncio.run(talk())


def test_if_the_first_to_ask_is_cancelled_before_it_is_sent_the_next_one_asks(store: Store) -> None:
    async def talk() -> None:
        model, ledger = Gated(), Ledger(store, concurrency=1)
        other = asyncio.create_task(ledger.call(AT._replace(node="other"), model, ask("Other?"), WARM, 1))
        await model.was_asked(1)
        first, second = (asyncio.create_task(ledger.call(AT, model, HELLO, WARM, 1)) for _ in range(2))
        for _ in range(5):
            await asyncio.sleep(0)
        await cancelled(first)
        model.gate.set()
        await other
        assert (await second).reply.text == "Hello? it is."
        assert model.asked == ["Other?", "Hello?"]

    asyncio.run(talk())


def test_calls_in_flight_reach_the_concurrency_and_never_pass_it(store: Store) -> None:
    model = Model(slowly)

    async def talk() -> None:
        ledger = Ledger(store, concurrency=5)
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(ledger.call(Place("t0", str(number), "user", 0), model, HELLO, WARM, 1))
        assert ledger.in_flight == 0

    asyncio.run(talk())
    assert model.most_at_once == 5
    assert len(model.asked) == 40


def test_while_nothing_can_be_committed_at_most_two_replies_a_slot_are_at_risk(store: Store) -> None:
    model = Model()

    async def talk() -> None:
        ledger = Ledger(store, concurrency=3)
        with closing(sqlite3.connect(store.path, isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            tasks = [
                asyncio.create_task(ledger.call(Place("t0", str(number), "user", 0), model, HELLO, WARM, 1))
                for number in range(20)
            ]
            await until(lambda: len(model.asked) >= 6)
            await rounds()
            assert len(model.asked) == 6
            assert not any(task.done() for task in tasks)
            blocker.execute("ROLLBACK")
        await asyncio.gather(*tasks)

    asyncio.run(talk())
    assert len(model.asked) == 20


def test_a_reply_whose_caller_was_cancelled_is_kept(store: Store) -> None:
    model = Model()

    async def talk() -> None:
        ledger = Ledger(store, concurrency=1)
        with closing(sqlite3.connect(store.path, isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            task = asyncio.create_task(ledger.call(AT, model, HELLO, WARM, 1))
            await until(lambda: ledger.fresh == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            blocker.execute("ROLLBACK")
        assert (await ledger.call(AT, model, HELLO, WARM, 1)).reply.text == "Hi."

    asyncio.run(talk())
    store.close()
    assert calls_in(store.path) >= 1


def test_a_reply_whose_caller_was_cancelled_in_the_queue_for_a_commit_is_kept_too(store: Store) -> None:
    model = Model()

    async def talk() -> None:
        ledger = Ledger(store, concurrency=1)
        with closing(sqlite3.connect(store.path, isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            places = [Place("t0", node, "user", 0) for node in ("first", "second")]
            first, second = (asyncio.create_task(ledger.call(at, model, HELLO, WARM, 1)) for at in places)
            await until(lambda: ledger.fresh == 2)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            blocker.execute("ROLLBACK")
        await first
        await ledger.call(places[1], model, HELLO, WARM, 1)
        assert (ledger.fresh, ledger.replayed) == (2, 1)

    asyncio.run(talk())


def test_a_call_whose_caller_was_cancelled_comes_home_and_its_tree_can_wait_for_it(store: Store) -> None:
    async def talk() -> None:
        model, ledger = Gated(), Ledger(store, concurrency=1)
        task = asyncio.create_task(ledger.call(AT, model, HELLO, WARM, 1))
        await model.was_asked(1)
        await cancelled(task)
        assert ledger.in_flight == 1
        await ledger.settled("another tree")
        assert ledger.in_flight == 1
        model.gate.set()
        await ledger.settled("t0")
        assert (ledger.in_flight, calls_in(store.path)) == (0, 1)
        await ledger.call(AT, model, HELLO, WARM, 1)
        assert len(model.asked) == 1

    asyncio.run(talk())


def test_a_call_whose_caller_was_cancelled_before_it_was_sent_is_not_made(store: Store) -> None:
    async def talk() -> None:
        model, ledger = Gated(), Ledger(store, concurrency=1)
        calls = [ledger.call(AT._replace(node=text), model, ask(text), WARM, 1) for text in "ab"]
        first, second = (asyncio.create_task(call) for call in calls)
        await model.was_asked(1)
        await cancelled(second)
        model.gate.set()
        await first
        await ledger.settled("t0")
        assert model.asked == ["a"]

    asyncio.run(talk())


def test_at_the_end_what_is_in_flight_comes_home_and_is_committed(store: Store) -> None:
    async def talk() -> None:
        model, ledger = Gated(), Ledger(store, concurrency=2)
        task = asyncio.create_task(ledger.call(AT, model, HELLO, WARM, 1))
        await model.was_asked(1)
        await cancelled(task)
        ended = asyncio.create_task(ledger.close())
        await asyncio.sleep(0)
        model.gate.set()
        await ended
        assert calls_in(store.path) == 1

    asyncio.run(talk())


# Plug-ins ----------------------------------------------------------------------------------------


def test_what_a_plug_in_says_is_on_record_too(store: Store) -> None:
    asked: list[int] = []

    async def answer() -> str:
        asked.append(1)
        return "A tie, I think."

    async def talk() -> tuple[Call, Call, Call]:
        ledger = Ledger(store, concurrency=1)
        request = {"turns": ["Hi.", "\ud800"]}
        first = await ledger.record(AT, "mine:judge", request, answer)
        again = await ledger.record(AT, "mine:judge", request, answer)
        other = await ledger.record(AT, "mine:judge", {"turns": []}, answer)
        return first, again, other

    first, again, other = asyncio.run(talk())
    assert first == again
    assert first.key != other.key
    assert first.reply == Reply(text="A tie, I think.", model="mine:judge")
    assert len(asked) == 2
    assert store.prompt_of(first.key) == [Message(role="user", content='{"turns":["Hi.","\ud800"]}')]


def test_a_plug_in_that_fails_leaves_nothing_and_bad_content_is_kept(store: Store) -> None:
    async def fail() -> str:
        raise FailedTreeError("no such key")

    async def bad() -> str:
        raise BadContentError("empty", "")

    async def answer() -> str:
        return "Never asked."

    async def talk() -> None:
        ledger = Ledger(store, concurrency=1)
        with pytest.raises(FailedTreeError):
            await ledger.record(AT, "mine", {}, fail)
        with pytest.raises(BadContentError, match="empty"):
            await ledger.record(AT, "mine", {}, bad)
        with pytest.raises(BadContentError, match="empty"):
            await ledger.record(AT, "mine", {}, answer)

    asyncio.run(talk())
    assert store.usage()["user"].bad == 1


# Kills -------------------------------------------------------------------------------------------

CHILD = Path(__file__).with_name("acknowledging.py")


def run_child(path: Path, trees: int, concurrency: int, kill_at: int | None = None) -> list[str]:
    """What the child said until it ended, or until it was killed after its line number `kill_at`."""
    command = [sys.executable, str(CHILD), str(path), str(trees), str(concurrency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(kill_at or 0)]
        if kill_at is not None:
            child.kill()
        lines += child.stdout.readlines()
        assert child.wait() == (0 if kill_at is None else -9)
    return [line.rstrip("\n") for line in lines]


def said(kind: str, lines: Sequence[str]) -> list[str]:
    return [line.split(" ", 1)[1] for line in lines if line.startswith(f"{kind} ")]


def test_what_was_acknowledged_survives_kill_nine_and_is_not_asked_again(tmp_path: Path) -> None:
    path, concurrency, trees, kills = tmp_path / "run.db", 4, 24, 6
    moment = random.Random(0)
    asked: Counter[str] = Counter()
    acknowledged: dict[str, str] = {}
    for _ in range(kills):
        lines = run_child(path, trees, concurrency, kill_at=moment.randint(1, 80))
        asked.update(said("asked", lines))
        assert len(set(said("asked", lines)) - places_in(path)) <= 2 * concurrency
        acknowledged |= dict(line.split(" ", 1) for line in said("done", lines))
        with Store.open(path) as store:
            assert {key: store.reply_of(key).text for key in acknowledged} == acknowledged
            saved = {judged.tree.id: len(judged.tree.nodes) for judged in store.judged_trees(None)}
        assert all(saved[tree] >= 2 * count for tree, count in Counter(said("turn", lines)).items())
        assert all(count % 2 == 0 for count in saved.values())
    asked.update(said("asked", run_child(path, trees, concurrency)))
    assert len(asked) == trees * 8
    assert asked.total() - len(asked) <= 2 * concurrency * kills
    assert calls_in(path) == trees * 8
    with Store.open(path) as store:
        assert len(list(store.judged_trees("done"))) == trees


def test_a_killed_run_ends_like_one_that_was_never_killed(tmp_path: Path) -> None:
    run_child(tmp_path / "killed.db", 6, 3, kill_at=40)
    run_child(tmp_path / "killed.db", 6, 3)
    run_child(tmp_path / "calm.db", 6, 1)
    with Store.open(tmp_path / "killed.db") as killed, Store.open(tmp_path / "calm.db") as calm:
        assert list(killed.judged_trees()) == list(calm.judged_trees())


# A full disk -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


async def fill(store: Store, limit: int) -> tuple[list[Call], str]:
    """Calls with long replies until the file takes no more: those acknowledged, and why it stopped."""
    ledger = Ledger(store, concurrency=4)
    calls: list[Call] = []
    rng = random.Random(0)

    async def long_reply(text: str) -> str:
        return rng.randbytes(5000).hex()

    async def talk(lane: int) -> None:
        for number in range(limit):
            place = Place("t0", f"{lane}.{number}", "user", 0)
            calls.append(await ledger.call(place, Model(long_reply), HELLO, WARM, 1))

    ends = await asyncio.gather(*(talk(lane) for lane in range(4)), return_exceptions=True)
    assert [type(end) for end in ends] == [StopError] * 4
    later = Model()
    for number in range(9):
        with pytest.raises(StopError, match="cannot be written") as refusal:
            await ledger.call(Place("t0", f"later {number}", "user", 0), later, HELLO, WARM, 1)
    assert later.asked == []  # nothing is paid for that could not be kept
    return calls, str(refusal.value)


def assert_whole(path: Path, calls: Sequence[Call]) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with Store.open(path) as store:
        assert [store.reply_of(call.key) for call in calls] == [call.reply for call in calls]


def test_a_full_disk_stops_the_run_and_loses_nothing_acknowledged(small_disk: Path) -> None:
    path = small_disk / "run.db"
    with Store.create_or_open(path) as store:
        calls, why = asyncio.run(fill(store, 1000))
    assert calls
    assert "disk is full" in why
    assert "run the same command again" in why
    assert_whole(path, calls)
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    with Store.create_or_open(path) as store:
        ledger = Ledger(store, concurrency=1)
        place = Place("t0", "0.0", "user", 0)
        assert asyncio.run(ledger.call(place, Model("unused"), HELLO, WARM, 1)).reply.text != "unused"
        assert asyncio.run(ledger.call(Place("t0", "new", "user", 0), Model(), HELLO, WARM, 1)).reply.text == "Hi."


def test_a_run_that_is_opened_on_a_full_disk_stops_and_can_go_on_later(small_disk: Path) -> None:
    path = small_disk / "run.db"
    with Store.create_or_open(path) as store:
        asyncio.run(Ledger(store, concurrency=1).call(AT, Model(), HELLO, WARM, 1))
    before = path.read_bytes()
    with contextlib.suppress(OSError), (small_disk / "rest").open("wb", buffering=0) as rest:
        while rest.write(b"x" * 4096):
            pass
    for name in ("run.db", "new.db"):
        with pytest.raises(StopError, match="disk is full"):
            Store.create_or_open(small_disk / name)
    assert path.read_bytes() == before
    assert {file.name for file in small_disk.iterdir()} == {"rest", "run.db"}
    (small_disk / "rest").unlink()
    with Store.create_or_open(path) as store:
        asyncio.run(Ledger(store, concurrency=1).call(AT, Model("unused"), HELLO, WARM, 1))
        assert store.usage()["user"].calls == 1


def test_a_file_that_may_not_grow_stops_the_run_and_loses_nothing_acknowledged(store: Store) -> None:
    store._writes.writer.run(lambda db: db.execute("PRAGMA max_page_count = 80"))  # the limit is one connection's own
    calls, why = asyncio.run(fill(store, 1000))
    store.close()
    assert calls
    assert "full" in why
    assert_whole(store.path, calls)


# Any text, little space --------------------------------------------------------------------------

anything = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["\ud800", "\x00", "a\x00b\udfff", "\ud83d\ude00", "\U0001f600", "s1u2", "{{ x }}", "Verdict: A\n"]
)
message = st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=anything)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.create_or_open(tmp_path_factory.mktemp("any") / "run.db") as opened:
        yield opened


tree_numbers = itertools.count()


@settings(max_examples=150, deadline=None)
@given(messages=st.lists(message, max_size=6), reply=anything, model=anything, reason=st.none() | anything)
def test_any_prompt_and_any_reply_come_back_as_they_were(
    shared: Store, messages: list[Message], reply: str, model: str, reason: str | None
) -> None:
    long = [*messages, Message(role="user", content="".join(m.content for m in messages) * 20)]
    said_by_model = Reply(text=reply, model=model, finish_reason=reason, prompt_tokens=2**40)

    class Says:
        name = "test:" + model

        async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
            return said_by_model

    place = Place(f"t{next(tree_numbers)}", "u", "user", 0)
    for asked in (messages, long):
        call = asyncio.run(Ledger(shared, concurrency=1).call(place, Says(), asked, WARM, 1))
        assert shared.prompt_of(call.key) == asked
        assert shared.reply_of(call.key) == call.reply == said_by_model


def test_a_surrogate_pair_and_the_character_it_would_spell_are_two_questions(store: Store) -> None:
    async def both() -> list[str]:
        ledger = Ledger(store, concurrency=1)
        return [(await ledger.call(AT, Model(), ask(text), WARM, 1)).key for text in ("\ud83d\ude00", "\U0001f600")]

    pair, character = asyncio.run(both())
    assert pair != character
    assert store.prompt_of(pair)[0].content == "\ud83d\ude00"
    assert store.prompt_of(character)[0].content == "\U0001f600"


def words(rng: random.Random, count: int) -> str:
    """Text that compresses about as badly as English does."""
    return " ".join("".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(count))


async def ten_turns(ledger: Ledger, number: int) -> None:
    """Sixty calls: user, inducer, two candidates, the judge twice; every prompt repeats all of the talk."""
    rng = random.Random(number)
    persona, rules = words(rng, 150), words(random.Random(-1), 120)
    history: list[Message] = []
    tree = f"t{number}"

    async def call(role: str, node: str, *messages: Message, length: int = 60) -> str:
        async def say(text: str) -> str:
            return words(rng, length)

        return (await ledger.call(Place(tree, node, role, 0), Model(say), messages, WARM, 1)).reply.text

    for turn in range(10):
        node = f"{turn}.u"
        system = Message(role="system", content=f"{rules}\n{persona}")
        text = await call("user", node, system, *history, Message(role="user", content="Go on."), length=25)
        here = [*history, Message(role="user", content=text)]
        notes = await call("inducer", node, *history, Message(role="user", content=f"{text}\n\n{rules}"))
        plain = await call("candidate", f"{turn}.1", *here)
        hinted = await call(
            "candidate", f"{turn}.2", *history, Message(role="user", content=f"{text}\n\n{rules}\n> {notes}")
        )
        for a, b in ((plain, hinted), (hinted, plain)):
            question = f"{text}\n\n{rules}\n> {persona}\n\nReply A:\n> {a}\n\nReply B:\n> {b}\n\n{rules}"
            await call("judge", f"{turn}.{a[:1]}{b[:1]}", *history, Message(role="user", content=question), length=30)
        history = [*here, Message(role="assistant", content=plain)]


def test_a_conversation_of_ten_turns_takes_less_than_eighty_kilobytes(tmp_path: Path) -> None:
    def size_of(conversations: int) -> int:
        path = tmp_path / f"{conversations}.db"
        with Store.create_or_open(path) as store:
            ledger = Ledger(store, concurrency=4)

            async def talk() -> None:
                async with asyncio.TaskGroup() as group:
                    for number in range(conversations):
                        group.create_task(ten_turns(ledger, number))

            asyncio.run(talk())
            assert ledger.fresh == 60 * conversations
        return path.stat().st_size

    assert (size_of(11) - size_of(1)) / 10 < 80_000
