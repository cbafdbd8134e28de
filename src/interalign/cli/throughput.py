"""How a run stands and how fast it goes. Nothing is written here, and only monotonic time counts."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from interalign.records import RunSummary

WINDOW: Final = 10.0
"""Seconds over which calls per second are taken."""


class Pace:
    """The pace of a run. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.run: RunSummary | None = None
        """How the run stood when it was last heard of; None before that."""
        self._clock = clock
        self._began = clock()
        self._first: tuple[float, RunSummary] | None = None
        self._paced: tuple[float, RunSummary] | None = None
        """When the pace was last begun to be taken: what is replayed from the record is no measure of it."""
        self._calls: deque[tuple[float, int]] = deque()

    def note(self, run: "RunSummary") -> None:
        """Take note of how the run stands. Cheap: an event loop calls it."""
        if run.trees == 0:
            return  # refused before anything was planned
        now = self._clock()
        self._first = self._first or (now, run)
        if self._paced is None or self.run is None or run.replayed > self.run.replayed:
            self._paced = (now, run)
        self._calls.append((now, run.calls))
        while len(self._calls) > 1 and self._calls[1][0] <= now - WINDOW:
            self._calls.popleft()
        self.run = run

    def elapsed(self) -> float:
        """Seconds since this object was made."""
        return self._clock() - self._began

    def calls_per_s(self) -> float:
        """Calls a second over the last WINDOW seconds or, in the beginning, since the first note."""
        if self.run is None:
            return 0.0
        since, calls = self._calls[0]
        passed = self._clock() - since
        return (self.run.calls - calls) / passed if passed > 0 else 0.0

    def newly_failed(self) -> dict[str, str]:
        """Tree -> reason of those that failed since the first note."""
        return {} if self._first is None or self.run is None else _newly_failed(self._first[1], self.run)

    def stopping(self) -> str | None:
        """Why the run stops; None while it goes on."""
        return None if self.run is None else self.run.stopping

    def eta(self) -> float | None:
        """Seconds to the end at the pace at which trees grow; None while no turn of one is done."""
        if self._paced is None or self.run is None:
            return None
        began, paced = self._paced
        grown = self.run.done - paced.done + len(_newly_failed(paced, self.run)) + self.run.under_way - paced.under_way
        left = self.run.trees - self.run.done - len(self.newly_failed()) - self.run.under_way
        if left <= 0:
            return 0.0
        return left * (self._clock() - began) / grown if grown > 0 else None


def _newly_failed(before: "RunSummary", now: "RunSummary") -> dict[str, str]:
    return {tree: reason for tree, reason in now.failed.items() if before.failed.get(tree) != reason}


class StepPace:
    """The pace of a training. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.done = 0
        """Optimisation steps done, those before a checkpoint it went on from included."""
        self.total = 0
        """Steps in all; 0 before the first note."""
        self.loss: float | None = None
        self._clock = clock
        self._began = clock()
        self._first: tuple[float, int] | None = None

    def note(self, done: int, total: int, loss: float | None) -> None:
        """Take note of a step that is done; `loss` is the last one that was logged."""
        # The first step is where the pace is taken from: it may come long after step 0, and it warms everything up.
        self._first = self._first or (self._clock(), done)
        self.done, self.total, self.loss = done, total, loss

    def elapsed(self) -> float:
        """Seconds since this object was made."""
        return self._clock() - self._began

    def eta(self) -> float | None:
        """Seconds to the last step at the pace of the steps since the first note; None while that was the only one."""
        if self._first is None:
            return None
        began, first = self._first
        if self.done >= self.total:
            return 0.0
        return (self.total - self.done) * (self._clock() - began) / (self.done - first) if self.done > first else None
