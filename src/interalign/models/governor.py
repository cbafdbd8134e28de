"""One governor a server: all calls to it wait together, slow down together and recover together."""

import asyncio
import random
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from math import inf
from time import monotonic

from interalign.models.faults import Transient

_GROWTH = 0.5
"""Calls in flight won back per answer after a slow-down: half as many again each round."""
_FIRST_REST, _LONGEST_REST = 0.5, 30.0
"""Seconds that a server that fails is left alone if there are others; doubled each time."""
_REMEMBERED, _TELLING = 100, 20
"""Answers whose times are remembered, and how many of them tell what is usual."""
_KINDS = 64
"""Kinds of calls whose times are remembered at most."""
_LEAST_PATIENCE = 5.0
"""Seconds that every request gets."""
_LEAST_SILENCE = 0.5
"""Seconds from which a request without an answer may be one that never gets any."""


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
        self._is_ill = False
        """It failed, and has not answered since."""
        self._freed = asyncio.Event()
        self._sent: list[float] = []
        """When the requests in flight were sent."""
        self._lasted: deque[float] = deque(maxlen=_REMEMBERED)
        """Seconds that the last answers took."""
        self._lasted_by_kind: dict[Hashable, deque[float]] = {}
        self.slack = limit // 4
        """Calls that this server may have more than others before those are better placed to answer."""
        self.load = 0
        """Calls that wait for this server or are being answered by it."""
        self.last_answer = -inf
        """Monotonic time of the last answer of any kind; minus infinity: there was none yet."""
        self.asked_to_wait_until = -inf
        """Monotonic time until which the server wants to be left alone by its own word, however long that is."""

    @property
    def rests_until(self) -> float:
        """Monotonic time until which others should be asked if there are any; 0 for a server that is well.

        After a rest one call finds out whether it is well again; until that is known, others are still better.
        """
        until = max(self._opens, self._rests_until)
        return until if monotonic() < until or (self._is_ill and self.load) else 0.0

    def patience(self, kind: Hashable = None) -> float:
        """Seconds without an answer from which on none is to be expected: five times what the slowest of the last
        answers to calls of this kind took, and never less than 5; infinite while too few have come to tell.
        """
        lasted = self._lasted_by_kind.get(kind, ())
        return max(_LEAST_PATIENCE, 5 * max(lasted)) if len(lasted) >= _TELLING else inf

    async def enter(self) -> float:
        """Wait for a turn; the monotonic time at which it came, which is what `leave` has to be told afterwards."""
        self.load += 1
        try:
            while (wait := self._opens - monotonic()) > 0 or self._is_full():
                if wait > 0:
                    await asyncio.sleep(wait * random.uniform(1.0, 1.1))  # not all in the same moment
                else:
                    await self._room()
        except BaseException:
            self.load -= 1
            raise
        sent = monotonic()
        self._sent.append(sent)
        return sent

    def _is_full(self) -> bool:
        if len(self._sent) >= self._limit:
            return True
        return self._window < self._limit and self._answering() >= self._window

    def _answering(self) -> int:
        """Requests in flight, without those that have been silent for so long that they say nothing of the server's
        load: hanging ones must not fill what a slow-down has left.
        """
        if len(self._lasted) < _TELLING:
            return len(self._sent)
        since = monotonic() - max(_LEAST_SILENCE, 3 * max(self._lasted))
        return sum(sent > since for sent in self._sent)

    async def _room(self) -> None:
        """Wait until a request is over; while slowed down also until one may have fallen silent."""
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self._window == self._limit else _LEAST_SILENCE):
                await self._freed.wait()

    def leave(self, sent: float) -> None:
        """The request that entered at this time is over."""
        self.load -= 1
        self._sent.remove(sent)
        self._freed.set()

    def answered(self, sent: float, kind: Hashable = None) -> None:
        """The server answered a request of this kind, sent at this time, as it should: go a little faster again."""
        self.last_answer = monotonic()
        self._lasted.append(self.last_answer - sent)
        if kind not in self._lasted_by_kind and len(self._lasted_by_kind) == _KINDS:
            self._lasted_by_kind.clear()
        self._lasted_by_kind.setdefault(kind, deque(maxlen=_REMEMBERED)).append(self.last_answer - sent)
        self._rest, self._is_ill, self.asked_to_wait_until = _FIRST_REST, False, -inf
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
            self.asked_to_wait_until = now + fault.wait
            self._opens = max(self._opens, now + min(fault.wait, self._longest_wait))
        elif fault.throttled and sent >= self._cut:
            # Once a round: the other refusals of requests sent before this cut tell nothing new.
            self._cut = now
            self._window = max(1.0, self._answering() / 2)
        elif not fault.throttled:
            self.rest()

    def rest(self) -> None:
        """The server failed, was not reached or did not answer: others are asked first for a while."""
        self._is_ill = True
        if monotonic() >= self._rests_until:  # once a round: what fails together is one failure
            self._rests_until = monotonic() + self._rest
            self._rest = min(_LONGEST_REST, 2 * self._rest)
