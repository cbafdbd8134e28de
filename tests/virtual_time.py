"""An event loop whose clock is passed in: when nothing is ready, time jumps to the next timer. For asyncio code alone.

Threads and sockets take real time, of which this clock knows nothing; code that waits for them needs a real loop.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting, it moves the clock on by the time that it should have waited."""

    def __init__(self, clock: "VirtualTime") -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everything waits, and no timer is set: it would wait for ever")
        if not ready:
            self._clock.now += timeout or 0.0
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: "VirtualTime") -> None:
        self._clock = clock
        super().__init__(_JumpingSelector(clock))

    def time(self) -> float:
        return self._clock.now


class VirtualTime:
    """A clock, in seconds, and what runs by it: `clock()` is the time, and goes on from one `run` to the next."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """What `asyncio.run` returns, without the waiting."""
        with asyncio.Runner(loop_factory=lambda: _Loop(self)) as runner:
            return runner.run(main)
