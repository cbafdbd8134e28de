"""One governor a server: all calls to it wait together, slow down together and recover together."""

import asyncio
import random
from time import monotonic

from interalign.models.faults import Transient

_GROWTH = 0.5
"""Calls in flight won back per answer after a slow-down: half as many again each round."""
_FIRST_REST, _LONGEST_REST = 0.5, 30.0
"""Seconds that a server that cannot be reached is left alone if there are others; doubled each time."""


class Governor:
    """When the next request may go to a server. Only monotonic time counts."""

    def __init__(self, limit: int, longest_wait: float) -> None:
        """`limit`: most requests in flight, at least 1. `longest_wait`: seconds that a server may make all wait."""
        self._longest_wait = longest_wait
        self._limit = float(limit)
        self._window = float(limit)
        self._opens = 0.0
        self._cut = 0.0
        self._rests_until = 0.0
        self._rest = _FIRST_REST
        self._freed = asyncio.Event()
        self._in_flight = 0
        self.load = 0
        """Calls that wait for this server or are being answered by it."""
        self.last_answer = -1.0
        """Monotonic time of the last answer of any kind; below 0: there was none yet."""

    @property
    def is_resting(self) -> bool:
        """Whether another server should be asked if there is one."""
        return monotonic() < max(self._opens, self._rests_until)

    async def enter(self) -> None:
        """Wait for a turn; every `enter` that returned is followed by one `leave`."""
        self.load += 1
        try:
            while (wait := self._opens - monotonic()) > 0 or self._in_flight >= self._window:
                if wait > 0:
                    await asyncio.sleep(wait * random.uniform(1.0, 1.1))  # not all in the same moment
                else:
                    self._freed.clear()
                    await self._freed.wait()
        except BaseException:
            self.load -= 1
            raise
        self._in_flight += 1

    def leave(self) -> None:
        """The request that entered is over."""
        self.load -= 1
        self._in_flight -= 1
        self._freed.set()

    def answered(self) -> None:
        """The server answered as it should: go a little faster again."""
        self.last_answer = monotonic()
        self._rest = _FIRST_REST
        if self._window < self._limit:
            self._window = min(self._limit, self._window + _GROWTH)

    def heed(self, fault: Transient, sent: float) -> None:
        """What a fault of a request sent at this monotonic time means for all."""
        now = monotonic()
        if fault.unreachable:
            self.rest()
            return
        self.last_answer = now
        if fault.wait is not None:
            self._opens = max(self._opens, now + min(fault.wait, self._longest_wait))
        elif fault.throttled and sent >= self._cut:
            # Once a round: the other refusals of requests sent before this cut tell nothing new.
            self._cut = now
            self._window = max(1.0, self._in_flight / 2)

    def rest(self) -> None:
        """The server was not reached or did not answer: others are asked first for a while."""
        self._rests_until = monotonic() + self._rest
        self._rest = min(_LONGEST_REST, 2 * self._rest)
