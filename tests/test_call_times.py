"""Every call on record says when it began, how long it took, how often it was sent and to which server."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import fault_server
import pytest
from fault_server import Step
from test_view_failed import page_of

import interalign as ia
from interalign.config import Parameters, Runtime
from interalign.errors import FailedTreeError
from interalign.ledger import Ledger
from interalign.ledger.budget import Budget
from interalign.models.base import Reply
from interalign.records import CallRecord, Place
from interalign.store import Store
from interalign.tree import Message

AT = Place("t0", "u", "user", 0)
HELLO = (Message(role="user", content="Hello?"),)
BUSY: Step = {"status": 503, "text": "busy"}


class Slow:
    """A chat model that takes a while, and says itself where its reply comes from."""

    name = "test:slow"

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        await asyncio.sleep(0.2)
        return Reply(text="Hi.", model=self.name, server="http://far/v1", sends=3)


def told(call: CallRecord) -> tuple[str, int]:
    return call.reply.server, call.reply.sends


def simulated(path: Path, url: str, **settings: object) -> list[CallRecord]:
    """The candidate's calls of a run of one tree."""
    ia.simulate(path, trees=1, turns=1, branch=1, candidate="openai:m", runtime=ia.Runtime(base_url=url), **settings)
    with ia.open_run(path) as run:
        return [call for call in run.calls_of("t00000") if call.place.role == "candidate"]


def test_a_call_says_when_it_began_and_how_long_it_took(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    with fault_server.serving(lambda body: {"delay": 0.3}) as server:
        (call,) = simulated(tmp_path / "run.db", server.url)
    assert call.began is not None
    assert call.seconds is not None
    assert before - timedelta(milliseconds=1) <= call.began <= datetime.now(UTC)
    assert call.began.tzinfo is UTC
    assert 0.3 <= call.seconds < (datetime.now(UTC) - before).total_seconds()
    assert told(call) == (server.url, 1)


def test_every_request_of_a_call_is_counted_and_its_time_is_part_of_the_calls(tmp_path: Path) -> None:
    steps = [BUSY, {"delay": 0.2, **BUSY}]
    with fault_server.serving(lambda body: steps.pop(0) if steps else {}) as server:
        (call,) = simulated(tmp_path / "run.db", server.url)
    assert told(call) == (server.url, 3)
    assert call.seconds is not None
    assert call.seconds >= 0.2


def test_a_reply_that_cannot_be_used_says_it_too(tmp_path: Path) -> None:
    steps: list[Step] = [BUSY, {"message": {"content": ""}}]
    with fault_server.serving(lambda body: steps.pop(0) if steps else {}) as server:
        bad, good = simulated(tmp_path / "run.db", server.url)
    assert bad.error is not None
    assert (told(bad), told(good)) == ((server.url, 2), (server.url, 1))
    assert bad.seconds
    assert good.seconds
    assert bad.began
    assert good.began
    assert bad.began < good.began


def test_a_plug_in_and_a_model_in_this_process_have_times_and_no_server(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "run.db", trees=1, turns=1, candidate="test_failed_trees:fails")
    with ia.open_run(tmp_path / "run.db") as run:
        calls = run.calls_of("t00000")
    assert {call.place.role for call in calls} == {"user", "inducer", "candidate", "judge"}
    assert all(call.began and call.seconds for call in calls)
    assert {told(call) for call in calls} == {("", 1)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store.create_or_open(tmp_path / "run.db") as opened:
        yield opened  # type: ignore[misc]


def test_how_long_a_call_took_is_told_by_the_clock_that_is_passed_in(store: Store) -> None:
    now = 1000.0

    async def answer() -> str:
        nonlocal now
        now += 2.5
        return "Hi."

    async def talk() -> None:
        await Ledger(store, concurrency=1, clock=lambda: now).record(AT, "mine", {}, answer)

    asyncio.run(talk())
    assert [call.seconds for call in store.calls_of("t0")] == [2.5]


def test_what_the_model_says_of_its_reply_is_replayed_as_it_was(store: Store) -> None:
    async def talk() -> list[Reply]:
        return [(await Ledger(store, concurrency=1).call(AT, Slow(), HELLO, Parameters(), 0)).reply for _ in range(2)]

    fresh, replayed = asyncio.run(talk())
    assert (fresh.server, fresh.sends) == ("http://far/v1", 3)
    assert replayed == fresh
    (call,) = store.calls_of("t0")
    assert call.reply == fresh
    assert store.reply_of(call.key) == fresh


@pytest.mark.parametrize("limit", ["slots", "tokens"])
def test_waiting_for_a_slot_or_for_the_budget_is_not_counted(limit: str, store: Store) -> None:
    async def talk() -> None:
        budget = Budget(Runtime(max_tokens=4500), ()) if limit == "tokens" else None
        ledger = Ledger(store, concurrency=1 if limit == "slots" else 4, budget=budget)
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                place = AT._replace(node=str(number))
                group.create_task(ledger.call(place, Slow(), HELLO, Parameters(max_tokens=4000), 0))

    asyncio.run(talk())
    calls = sorted((call.began, call.seconds) for call in store.calls_of("t0") if call.began and call.seconds)
    assert len(calls) == 4
    # One was made after the other: a time that counts the wait for another call would reach into that one's.
    for (began, seconds), (next_began, _) in pairwise(calls):
        assert began + timedelta(seconds=seconds) <= next_began + timedelta(milliseconds=20)


def test_a_servers_address_is_kept_once(tmp_path: Path) -> None:
    with fault_server.serving() as server:
        ia.simulate(
            tmp_path / "run.db", trees=4, turns=3, candidate="openai:m", runtime=ia.Runtime(base_url=server.url)
        )
    with closing(sqlite3.connect(tmp_path / "run.db")) as db:
        assert db.execute("SELECT address FROM servers").fetchall() == [(server.url,)]
        assert db.execute("SELECT count(*) FROM calls WHERE server IS NOT NULL").fetchone() == (24,)


def test_the_call_that_a_tree_failed_on_says_it_too(tmp_path: Path) -> None:
    steps = [BUSY, {"status": 400, "json": {"error": {"message": "no"}}}]
    with fault_server.serving(lambda body: steps.pop(0) if steps else {}) as server:
        assert simulated(tmp_path / "run.db", server.url) == []
        with ia.open_run(tmp_path / "run.db") as run:
            call = run.failed_call_of("t00000")
    assert call is not None
    assert call.began
    assert call.seconds
    assert told(call) == (server.url, 2)
    assert (call.asked, call.place.role, call.place.node, call.reply.text) == ("openai:m", "candidate", "1", "")
    assert call.error is not None
    assert "no" in call.error


def test_a_failed_call_with_any_text_comes_back_as_it_was(store: Store) -> None:
    async def talk() -> Exception:
        ledger = Ledger(store, concurrency=1)

        class Fails:
            name = "test:\udc80"

            async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
                raise FailedTreeError("too \ud800 long")

        messages = (Message(role="system", content="\x00\ud800" * 300), *HELLO)
        with pytest.raises(FailedTreeError) as failed:
            await ledger.call(AT, Fails(), messages, Parameters(temperature=0.5), 0)
        row = ledger.failed_call("t0", failed.value)
        assert ledger.failed_call("t0", failed.value) is None
        await store.finish_tree("t0", failed="too long", on=row)
        call = store.failed_call_of("t0")
        assert call is not None
        assert (call.messages, call.asked, call.error) == (messages, "test:\udc80", "too \ud800 long")
        assert call.parameters == '{"temperature":0.5}'
        return failed.value

    asyncio.run(talk())


def test_the_page_of_a_call_shows_when_and_where_it_was_sent(tmp_path: Path) -> None:
    steps = [BUSY]
    with fault_server.serving(lambda body: steps.pop(0) if steps else {}) as server:
        (call,) = simulated(tmp_path / "run.db", server.url)
    facts = page_of(tmp_path / "run.db", f"/call/{call.key}/t00000").one("p", class_="facts").words
    assert f"sent {call.began:%Y-%m-%d %H:%M:%S} UTC took {call.seconds:.3f} s 2 requests server {server.url}" in facts
