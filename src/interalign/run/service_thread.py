"""A coroutine that answers another thread's requests, in a thread with an event loop of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from interalign.errors import ConfigError
from interalign.signals import INTERRUPTED

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class Entrance(Generic[Q, A]):
    """Where the other thread asks."""

    loop: asyncio.AbstractEventLoop
    queue: "asyncio.Queue[tuple[Q, Future[A]] | BaseException | None]"
    stop: Callable[[str], None]

    def ask(self, request: Q) -> A:
        """The answer, which is waited for; raises what answering raised."""
        answer: Future[A] = Future()
        self.loop.call_soon_threadsafe(self.queue.put_nowait, (request, answer))
        return answer.result()

    def end(self, error: BaseException | None) -> None:
        """Let the coroutine come to its end; with an error what it is about is stopped first."""
        if error is not None:
            self.loop.call_soon_threadsafe(self.stop, INTERRUPTED)
        self.loop.call_soon_threadsafe(self.queue.put_nowait, error)


class Requests(Generic[Q, A]):
    """The requests as the coroutine sees them."""

    def __init__(self, begun: "Future[Entrance[Q, A]]") -> None:
        self._begun = begun

    async def answered(self, answer: Callable[[Q], Awaitable[A]], stop: Callable[[str], None]) -> None:
        """Answer one after the other until the other thread has no more; `stop` is told if it ends with an error.

        Raises that error if it is a ConfigError: then nothing was started, and nothing should be left behind.
        """
        entrance: Entrance[Q, A] = Entrance(asyncio.get_running_loop(), asyncio.Queue(), stop)
        self._begun.set_result(entrance)
        while isinstance(asked := await entrance.queue.get(), tuple):
            request, into = asked
            try:
                into.set_result(await answer(request))
            except BaseException as error:  # noqa: BLE001  (handed to the thread that asked)
                into.set_exception(error)
        if isinstance(asked, ConfigError):
            raise asked


class ServiceThread(Generic[Q, A]):
    """The thread."""

    def __init__(self, serve: Callable[[Requests[Q, A]], Awaitable[None]]) -> None:
        """`serve` awaits `Requests.answered` once it is ready to answer; what it raises before `start` raises."""
        self._serve = serve
        self._begun: Future[Entrance[Q, A]] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="interalign-service", daemon=True)

    def start(self) -> Callable[[Q], A]:
        """Begin; the function that asks."""
        self._thread.start()
        return self._begun.result().ask

    def end(self, error: BaseException | None) -> None:
        """End, because of this error if there is one; raises what the end itself raised, unless there was an error."""
        self._begun.result().end(error)
        self._thread.join()
        if error is None:
            self._ended.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:  # noqa: BLE001  (handed to the thread that began)
            waiting: Future[Any] = self._ended if self._begun.done() else self._begun
            waiting.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _all(self) -> None:
        await self._serve(Requests(self._begun))
