"""Calls on their way to an engine: which one they wait for, and the thread that has it answer them in batches."""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from interalign.errors import InteralignError, StopError
from interalign.models.local.request import Job, fail
from interalign.models.local.workers.handle import WorkerEndedError
from interalign.tree import Message

_LINGER_S = 0.005
"""How long a batch waits for company: siblings of a turn are asked within one sweep of the event loop."""


class Answering(Protocol):
    """What answers the calls of a lane: the model in this process, or a worker process."""

    def load(self) -> None:
        """Have the model loaded; ConfigError or StopError if it cannot be."""

    def answer(self, jobs: Sequence[Job]) -> None:
        """Answer these calls; WorkerEndedError if some of them have to be asked elsewhere."""

    def close(self) -> None:
        """End."""


class Lane:
    """The calls that wait for one engine, and the one thread that has it answer them."""

    def __init__(self, name: str, engine: Answering, max_batch: int, elsewhere: Callable[[Job], None]) -> None:
        """`name`: the model's; `elsewhere` is given the calls that are left when a worker ends."""
        self.engine = engine
        self.ready = False
        """The model is loaded, as far as is known."""
        self._name = name
        self._max_batch = max_batch
        self._elsewhere = elsewhere
        self._waiting: deque[Job] = deque()
        self._answering = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hf")

    @property
    def calls(self) -> int:
        """Calls that wait here or are being answered."""
        return len(self._waiting) + self._answering

    def put(self, job: Job) -> None:
        """Have this call answered; StopError after `close`."""
        self._waiting.append(job)
        self._submit(self._run_waiting)

    def load(self) -> None:
        """Have the model loaded, in the lane's thread; raises what loading raises, StopError after `close`."""
        self._submit(self._load).result()

    def renew(self) -> None:
        """Begin to load the model, or a new worker; does not wait, and nothing happens after `close`."""
        self.ready = False
        with suppress(StopError):
            self._submit(self._renew)

    def close(self) -> None:
        """Begin nothing any more; waiting calls are cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self.engine.close()
        for job in self._drain():
            job.future.cancel()

    def _submit(self, work: Callable[[], None]) -> "Future[None]":
        try:
            return self._thread.submit(work)
        except RuntimeError:
            raise StopError(f"{self._name} was closed") from None

    # From here on: the lane's thread.

    def _load(self) -> None:
        self.engine.load()
        self.ready = True

    def _renew(self) -> None:
        try:
            self._load()
        except InteralignError as error:
            fail(self._drain(), error)

    def _run_waiting(self) -> None:
        """Answer up to max_batch of the waiting calls; every call submits this once, most runs find nothing left."""
        if not self._waiting:
            return
        time.sleep(_LINGER_S)
        jobs = self._take()
        self._answering = len(jobs)
        try:
            self._load()
            self.engine.answer(jobs)
        except WorkerEndedError:
            self.renew()
            for job in (*jobs, *self._drain()):
                if not job.future.done():
                    self._elsewhere(job)
        except InteralignError as error:
            fail(jobs, error)
        except Exception as error:  # noqa: BLE001 - not swallowed: nobody may wait for a reply for ever
            fail(jobs, StopError(f"{self._name}: {type(error).__name__}: {error}"))
        finally:
            self._answering = 0

    def _take(self) -> list[Job]:
        jobs: list[Job] = []
        while self._waiting and len(jobs) < self._max_batch:
            job = self._waiting.popleft()
            if job.future.running() or job.future.set_running_or_notify_cancel():
                jobs.append(job)
        return jobs

    def _drain(self) -> list[Job]:
        left: list[Job] = []
        while self._waiting:
            left.append(self._waiting.popleft())
        return left


def choose(lanes: Sequence[Lane], messages: Sequence[Message]) -> Lane:
    """The lane for a prompt: always the same one for a conversation, so that it finds there what was read before.

    A lane whose worker is being replaced is passed over; one with clearly more to do than another (more than twice as
    many calls, and four) gives way to it.
    """
    if len(lanes) == 1:
        return lanes[0]
    opening = _opening(messages)
    able = [place for place, lane in enumerate(lanes) if lane.ready] or range(len(lanes))
    # Every conversation has its own order of lanes, so that those of the others stay where they are when one is away.
    own = lanes[max(able, key=lambda place: hashlib.sha256(b"%d %s" % (place, opening)).digest())]
    least = min((lanes[place] for place in able), key=lambda lane: lane.calls)
    return least if own.calls > 2 * least.calls + 4 else own


def _opening(messages: Sequence[Message]) -> bytes:
    """How a conversation begins: its system messages, and the first paragraph of the first other one.

    What roles add to a message of the conversation (a hint, the judge's instructions) comes behind an empty line.
    """
    said: list[str] = []
    for message in messages:
        if message.role != "system":
            said.append(message.content.partition("\n\n")[0])
            break
        said.append(message.content)
    return "\0".join(said).encode("utf-8", "surrogatepass")
