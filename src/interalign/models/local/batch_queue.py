"""One batch queue an engine, and which queue a call joins.

Batching is static: a batch is what waits when the engine is free, collected for a few milliseconds, and it is answered
whole before the next one begins (no continuous batching). Calls are assigned to queues by rendezvous hashing of the
conversation's opening, with a limit on imbalance.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from interalign.errors import InteralignError, StopError
from interalign.models.local.request import GenerationJob, fail
from interalign.models.local.workers.handle import WorkerEndedError
from interalign.tree import Message

_BATCH_WINDOW_S = 0.005
"""Seconds for which calls are collected into a batch: siblings of a turn are asked in one pass of the event loop."""


class BatchEngine(Protocol):
    """What answers the batches of a queue: the model in this process, or a worker process."""

    def load(self) -> None:
        """Have the model loaded; ConfigError or StopError if it cannot be."""

    def answer(self, jobs: Sequence[GenerationJob]) -> None:
        """Answer these calls; WorkerEndedError if some of them have to be assigned anew."""

    def close(self) -> None:
        """Release what it holds."""


class BatchQueue:
    """The calls that wait for one engine, and the one thread that has it answer them."""

    def __init__(
        self, name: str, engine: BatchEngine, max_batch: int, reassign: Callable[[GenerationJob], None]
    ) -> None:
        """`name`: the model's; `reassign` gets the calls that are left when a worker ends."""
        self.engine = engine
        self.ready = False
        """The model is loaded, as far as is known."""
        self._name = name
        self._max_batch = max_batch
        self._reassign = reassign
        self._waiting: deque[GenerationJob] = deque()
        self._answering = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hf")

    @property
    def calls(self) -> int:
        """Calls that wait here or are being answered."""
        return len(self._waiting) + self._answering

    def put(self, job: GenerationJob) -> None:
        """Have this call answered; StopError after `close`."""
        self._waiting.append(job)
        self._submit(self._run_waiting)

    def load(self) -> None:
        """Have the model loaded, in the queue's thread; raises what loading raises, StopError after `close`."""
        self._submit(self._load).result()

    def renew(self) -> None:
        """Begin to load the model, or a new worker; does not wait, and nothing happens after `close`."""
        self.ready = False
        with suppress(StopError):
            self._submit(self._renew)

    def close(self) -> None:
        """Start no further batch; waiting calls are cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self.engine.close()
        for job in self._drain():
            job.future.cancel()

    def _submit(self, work: Callable[[], None]) -> "Future[None]":
        try:
            return self._thread.submit(work)
        except RuntimeError:
            raise StopError(f"{self._name} was closed") from None

    # From here on: the queue's thread.

    def _load(self) -> None:
        self.engine.load()
        self.ready = True

    def _renew(self) -> None:
        try:
            self._load()
        except InteralignError as error:
            fail(self._drain(), error)

    def _run_waiting(self) -> None:
        """Answer up to max_batch of the waiting calls. Submitted once a call, so most runs find the queue empty."""
        if not self._waiting:
            return
        time.sleep(_BATCH_WINDOW_S)
        jobs = self._take()
        self._answering = len(jobs)
        try:
            self._load()
            self.engine.answer(jobs)
        except WorkerEndedError:
            self.renew()
            for job in (*jobs, *self._drain()):
                if not job.future.done():
                    self._reassign(job)
        except InteralignError as error:
            fail(jobs, error)
        except Exception as error:  # noqa: BLE001 - not swallowed: no caller may wait for ever
            fail(jobs, StopError(f"{self._name}: {type(error).__name__}: {error}"))
        finally:
            self._answering = 0

    def _take(self) -> list[GenerationJob]:
        jobs: list[GenerationJob] = []
        while self._waiting and len(jobs) < self._max_batch:
            job = self._waiting.popleft()
            if job.future.running() or job.future.set_running_or_notify_cancel():
                jobs.append(job)
        return jobs

    def _drain(self) -> list[GenerationJob]:
        left: list[GenerationJob] = []
        while self._waiting:
            left.append(self._waiting.popleft())
        return left


def assign(queues: Sequence[BatchQueue], messages: Sequence[Message]) -> BatchQueue:
    """The queue for a prompt, by rendezvous hashing: a conversation stays with one engine, whose prefix cache holds it.

    A queue whose worker is being replaced is skipped. Against imbalance, the shortest queue is taken instead if the
    hashed one has more than twice as many calls and four.
    """
    if len(queues) == 1:
        return queues[0]
    opening = _opening(messages)
    ready = [number for number, queue in enumerate(queues) if queue.ready] or range(len(queues))
    # Highest hash wins: when one queue is not ready, only its own conversations move.
    hashed = queues[max(ready, key=lambda number: hashlib.sha256(b"%d %s" % (number, opening)).digest())]
    shortest = min((queues[number] for number in ready), key=lambda queue: queue.calls)
    return shortest if hashed.calls > 2 * shortest.calls + 4 else hashed


def _opening(messages: Sequence[Message]) -> bytes:
    """How a conversation begins: its system messages, and the first paragraph of the first other one.

    What roles add to a message of the conversation (a hint, the judge's instructions) follows after an empty line.
    """
    texts: list[str] = []
    for message in messages:
        if message.role != "system":
            texts.append(message.content.partition("\n\n")[0])
            break
        texts.append(message.content)
    return "\0".join(texts).encode("utf-8", "surrogatepass")
