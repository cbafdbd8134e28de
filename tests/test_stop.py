"""A run that is to stop: what only waits ends at once, what was sent gets its 10 s, whatever the calls wait for."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import fault_server
import httpx
import pytest
from fault_server import FaultServer, Step
from langchain_openai import ChatOpenAI
from tiny import tiny_model
from until import rounds, until

import interalign as ia
from interalign.config import Parameters, Runtime
from interalign.errors import StopError
from interalign.ledger import Ledger
from interalign.ledger.budget import Budget
from interalign.models.base import ChatModel, Reply
from interalign.models.langchain import LangChainModel
from interalign.models.local import hf_model
from interalign.models.openai import openai_model
from interalign.records import Call, Place
from interalign.store import Store
from interalign.tree import Message

HELLO = (Message(role="user", content="Hello?"),)
SOON = 30
"""Seconds in which a thing is over that would else last an hour."""
LIMITED: Step = {"status": 429, "headers": {"Retry-After": "600"}, "json": {"error": {"message": "slow down"}}}
BUSY: Step = {"status": 503, "json": {"error": {"message": "overloaded"}}}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create_or_open(tmp_path / "run.db") as opened:
        yield opened


@pytest.fixture
def an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls in flight get an hour: what ends before was not taken for one."""
    monkeypatch.setattr("interalign.ledger.ledger._GRACE", 3600.0)


async def ends_of(ledger: Ledger, model: ChatModel, calls: int, begun: Callable[[], bool]) -> list[object]:
    """How so many calls end when the ledger stops once they have `begun`."""
    asked = [ledger.call(Place("t0", str(n), "user", 0), model, HELLO, Parameters(), n) for n in range(calls)]
    tasks = [asyncio.create_task(call) for call in asked]
    async with asyncio.timeout(SOON):
        await until(begun)
        ledger.stop("interrupted")
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        await ledger.close()
    assert ledger.in_flight == 0
    return [str(end) if isinstance(end, StopError) else end for end in ends]


# What only waits ends at once -----------------------------------------------------------------------


@pytest.mark.usefixtures("an_hour")
@pytest.mark.parametrize("step", [LIMITED, BUSY, {"cut": "before headers"}, {"status": 500, "text": "out of order"}])
@pytest.mark.parametrize("provider", ["openai", "langchain"])
def test_calls_that_wait_to_be_sent_again_end_at_once(step: Step, provider: str, store: Store) -> None:
    async def talk(server: FaultServer) -> list[object]:
        async with model_at(server.url, provider) as model:
            return await ends_of(Ledger(store, concurrency=3), model, 5, lambda: len(server.steps) >= 3)

    with fault_server.serving(lambda body: step) as server:
        assert asyncio.run(talk(server)) == ["interrupted"] * 5


@asynccontextmanager
async def model_at(url: str, provider: str = "openai") -> AsyncIterator[Any]:
    """A model with an hour's deadline, three requests in flight, by our own client or by LangChain's."""
    runtime = Runtime(base_url=url, deadline=3600, concurrency=3)
    if provider == "openai":
        model = openai_model("openai:m", runtime)
        try:
            yield model
        finally:
            await model.close()
    else:
        async with httpx.AsyncClient() as client:
            chat = ChatOpenAI(model="m", base_url=url, api_key="none", max_retries=0, http_async_client=client)
            yield LangChainModel("openai:m", chat, runtime)


@pytest.mark.usefixtures("an_hour")
def test_calls_to_a_server_that_refuses_connections_end_at_once(store: Store) -> None:
    async def talk() -> list[object]:
        url = f"http://127.0.0.1:{fault_server.free_port()}/v1"
        async with model_at(url) as model:
            return await ends_of(Ledger(store, concurrency=3), model, 5, lambda: model.retried >= 3)

    assert asyncio.run(talk()) == ["interrupted"] * 5


@pytest.mark.usefixtures("an_hour")
def test_a_request_in_flight_that_would_have_to_be_sent_again_ends_with_its_answer(store: Store) -> None:
    async def talk(server: FaultServer) -> list[object]:
        async with model_at(server.url) as model:
            return await ends_of(Ledger(store, concurrency=2), model, 2, lambda: len(server.steps) == 2)

    with fault_server.serving(lambda body: {**BUSY, "delay": 0.3}) as server:
        assert asyncio.run(talk(server)) == ["interrupted"] * 2
        assert len(server.asked) == 2


class Slow:
    """A chat model that answers once it may, and says how many it is answering."""

    name = "test:slow"

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked = 0

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        self.asked += 1
        await self.may_answer.wait()
        return Reply(text="Hi.", model=self.name, prompt_tokens=7, completion_tokens=2)


@pytest.mark.usefixtures("an_hour")
@pytest.mark.parametrize("limit", ["slots", "tokens"])
def test_calls_that_wait_for_a_slot_or_for_the_budget_are_not_made_and_the_others_come_home(
    limit: str, store: Store
) -> None:
    async def talk() -> list[object]:
        model = Slow()
        budget = Budget(Runtime(max_tokens=4500), ()) if limit == "tokens" else None  # one call at its worst: 4,174
        ledger = Ledger(store, concurrency=1 if limit == "slots" else 4, budget=budget)
        talking = asyncio.create_task(ends_of(ledger, model, 4, lambda: model.asked == 1))
        await until(lambda: ledger.stopping is not None)
        await rounds()
        assert [call.place.node for call in store.calls_of("t0")] == []
        model.may_answer.set()
        ends = await talking
        assert model.asked == 1
        return ends

    first, *others = asyncio.run(talk())
    assert first.reply.text == "Hi."  # type: ignore[attr-defined]
    assert others == ["interrupted"] * 3
    assert [call.place.node for call in store.calls_of("t0")] == ["0"]


# What was sent gets its time ------------------------------------------------------------------------


@pytest.mark.parametrize("step", [{"hang": True}, {"drip": 0.05}, {"delay": 3000}])
def test_requests_that_get_no_answer_are_given_up_after_their_time(
    step: Step, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interalign.ledger.ledger._GRACE", 0.2)

    async def talk(server: FaultServer) -> list[object]:
        async with model_at(server.url) as model:
            return await ends_of(Ledger(store, concurrency=3), model, 5, lambda: len(server.asked) == 3)

    with fault_server.serving(lambda body: step) as server:
        assert asyncio.run(talk(server)) == ["interrupted"] * 5
        assert len(server.asked) == 3


def test_a_plug_in_that_refuses_to_be_cancelled_holds_up_no_stop(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interalign.ledger.ledger._GRACE", 0.1)

    async def talk() -> str:
        began, may_end, ledger = asyncio.Event(), asyncio.Event(), Ledger(store, concurrency=1)

        async def stubborn() -> str:
            began.set()
            while not may_end.is_set():
                try:
                    await may_end.wait()
                except asyncio.CancelledError:
                    continue
            return "Too late."

        task = asyncio.create_task(ledger.record(Place("t0", "u", "user", 0), "mine", {}, stubborn))
        await began.wait()
        ledger.stop("interrupted")
        try:
            async with asyncio.timeout(SOON):
                with pytest.raises(StopError) as stop:
                    await task
                await ledger.settled("t0")
                await ledger.close()
            return str(stop.value)
        finally:
            may_end.set()

    assert asyncio.run(talk()) == "interrupted"


@pytest.mark.usefixtures("an_hour")
@pytest.mark.parametrize("released", [True, False])
def test_a_reply_that_waits_for_its_commit_is_kept_as_long_as_it_can_be(
    released: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interalign.store.group_commit._BUSY_TIMEOUT", SOON if released else 0.3)

    async def talk() -> object:
        model, ledger = Slow(), Ledger(store, concurrency=1)
        model.may_answer.set()
        with closing(sqlite3.connect(store.path, isolation_level=None)) as another_program:
            another_program.execute("BEGIN IMMEDIATE")
            asked = ledger.call(Place("t0", "0", "user", 0), model, HELLO, Parameters(), 0)
            task = asyncio.create_task(asked)
            await until(lambda: ledger.fresh == 1)
            ledger.stop("interrupted")
            if released:
                another_program.execute("ROLLBACK")
            async with asyncio.timeout(SOON):
                await ledger.close()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    end = asyncio.run(talk())
    assert [call.place.node for call in store.calls_of("t0")] == (["0"] if released else [])
    assert isinstance(end, Call if released else StopError)
    assert ("cannot be written" in str(end)) is not released


@pytest.mark.usefixtures("an_hour")
def test_when_nothing_can_be_written_any_more_no_reply_is_waited_for(store: Store) -> None:
    async def talk() -> list[object]:
        model = Slow()
        ledger = Ledger(store, concurrency=2)
        slow = asyncio.create_task(ledger.call(Place("t0", "0", "user", 0), model, HELLO, Parameters(), 0))
        await until(lambda: model.asked == 1)
        store._writes.writer._failure = "the disk is full"
        async with asyncio.timeout(SOON):
            next_one = ledger.call(Place("t0", "1", "user", 0), model, HELLO, Parameters(), 0)
            return await asyncio.gather(slow, next_one, return_exceptions=True)

    assert [str(end) for end in asyncio.run(talk())] == ["the disk is full"] * 2


@pytest.mark.train
def test_a_local_model_in_the_middle_of_a_long_reply_ends_with_its_next_token_and_what_waits_is_not_begun(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interalign.ledger.ledger._GRACE", 0.2)
    folder = tiny_model(tmp_path / "tiny", positions=1_000_000)
    endless = Parameters(temperature=0, max_tokens=900_000)
    others = set(threading.enumerate())  # a model that another test left to the garbage collector waits in its thread

    async def talk() -> list[object]:
        model, ledger = hf_model(f"hf:{folder}?max_batch=2"), Ledger(store, concurrency=4)
        model.load()
        try:
            places = [Place("t0", str(number), "user", 0) for number in range(4)]
            tasks = [asyncio.create_task(ledger.call(place, model, HELLO, endless, 1)) for place in places]
            await until(lambda: model._queues[0]._answering == 2)
            await asyncio.sleep(0.2)
            ledger.stop("interrupted")
            async with asyncio.timeout(SOON):
                ends = await asyncio.gather(*tasks, return_exceptions=True)
                await ledger.close()
        finally:
            model.close()
        return [str(end) for end in ends]

    assert asyncio.run(talk()) == ["interrupted"] * 4
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("hf"):
            thread.join(SOON)
            assert not thread.is_alive()


# The installed command ------------------------------------------------------------------------------

SHAPE = ("--trees", "12", "--turns", "2", "--candidate", "openai:m", "--concurrency", "4", "--deadline", "3600")
PLANS: Mapping[str, tuple[Step, tuple[str, ...]]] = {
    "hang": ({"hang": True}, ()),
    "drip": ({"drip": 0.05}, ()),
    "429": (LIMITED, ()),
    "503": (BUSY, ()),
    "budget": ({"hang": True}, ("--max-tokens", "12000")),
}
STOPPED = "interrupted; what was finished is kept, run the same command again to go on"


class Started:
    """The installed command, running in a folder of its own, and what it says."""

    def __init__(self, folder: Path, process: "subprocess.Popen[str]") -> None:
        self.path = folder / "run.db"
        self._process = process

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def wait_until_it_runs(self) -> None:
        """Until it has planned its trees and says how it goes."""
        assert self._process.stderr is not None
        self._said = [self._process.stderr.readline()]

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """The exit code and all events."""
        _, rest = self._process.communicate(timeout=2 * SOON)
        ours = [line for line in [*self._said, *rest.splitlines()] if line.startswith("{")]  # a library warns in words
        return self._process.returncode, [json.loads(line) for line in ours]


@contextmanager
def started(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> Iterator[Started]:
    folder.mkdir(exist_ok=True)
    command = [Path(sys.executable).with_name("interalign"), *words, "--log-json"]
    process = subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )
    with process:
        try:
            yield Started(folder, process)
        finally:
            process.kill()


def wait_for(happened: Callable[[], bool]) -> None:
    for _ in range(SOON * 100):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


def assert_stopped(ended: tuple[int, list[dict[str, Any]]]) -> None:
    code, events = ended
    names = [event["event"] for event in events]
    assert (code, names[-1], events[-1]["message"]) == (3, "error", STOPPED)
    (stopping,) = [event for event in events if event["event"] == "stopping"]
    assert stopping["reason"] == STOPPED
    assert names.index("stopping") < len(names) - 1
    assert "failed" not in names


@pytest.mark.slow
def test_the_first_signal_ends_the_command_whatever_its_calls_wait_for(tmp_path: Path) -> None:
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(fault_server.serving(lambda body, step=step: step))
            for name, (step, _) in PLANS.items()
        }
        urls = {name: server.url for name, server in opened.items()}
        urls["refused"] = f"http://127.0.0.1:{fault_server.free_port()}/v1"
        running = {
            name: stack.enter_context(started(tmp_path / name, "simulate", "run.db", *SHAPE, "--base-url", url, *more))
            for name, url in urls.items()
            for more in [PLANS[name][1] if name in PLANS else ()]
        }
        for process in running.values():
            process.wait_until_it_runs()
        wait_for(lambda: all(server.asked for server in opened.values()))
        for process in running.values():
            process.interrupt()
        for process in running.values():
            assert_stopped(process.end())
        well = stack.enter_context(fault_server.serving())
        for name, process in running.items():
            runtime = Runtime(base_url=well.url)
            summary = ia.simulate(process.path, trees=12, turns=2, candidate="openai:m", runtime=runtime)
            assert summary.done == 12, name


@pytest.mark.slow
@pytest.mark.train
def test_the_first_signal_ends_a_command_whose_local_model_is_in_the_middle_of_a_long_reply(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "tiny", positions=1_000_000)
    (tmp_path / "c.yaml").write_text("parameters: {candidate: {temperature: 0, max_tokens: 900000}}\n")
    words = ("simulate", "run.db", "--config", tmp_path / "c.yaml", "--trees", "2", "--candidate", f"hf:{folder}")
    with started(tmp_path / "run", *map(str, words)) as process:
        process.wait_until_it_runs()
        time.sleep(8)  # loading or writing: it has to end either way
        process.interrupt()
        assert_stopped(process.end())


@pytest.mark.slow
def test_a_command_whose_event_loop_is_blocked_is_left_in_the_end(tmp_path: Path) -> None:
    roles = "import time\nasync def user(ask):\n    time.sleep(3000)\n"
    roles += "async def thread(ask):\n    import asyncio\n    await asyncio.to_thread(time.sleep, 3000)\n"
    for role in ("user", "thread"):
        (tmp_path / role).mkdir()
        (tmp_path / role / "my_roles.py").write_text(roles)
    with (
        started(tmp_path / "user", "simulate", "run.db", "--user", "my_roles:user") as blocked,
        started(tmp_path / "thread", "simulate", "run.db", "--user", "my_roles:thread") as threaded,
    ):
        for process in (blocked, threaded):
            process.wait_until_it_runs()
        time.sleep(1)
        for process in (blocked, threaded):
            process.interrupt()
        for process in (blocked, threaded):
            code, events = process.end()
            assert (code, events[-1]["event"], events[-1]["message"]) == (3, "error", STOPPED)
