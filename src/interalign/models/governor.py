"""One governor a server: an AIMD window on the requests in flight, and a circuit breaker.

The window is halved once a round when the server throttles, and grows by half a request an answer: by half its size a
round, which is faster than TCP's one a round. Requests that hang are not counted against it. The breaker never refuses
a call; it only makes other servers come first, and after a cool-down that doubles with each failure lets one probe
through (half open).
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from math import inf
from time import monotonic

from interalign.models.faults import Transient

_INCREASE = 0.5
"""What the window grows by with each answer after it was cut."""
_FIRST_COOL_DOWN, _LONGEST_COOL_DOWN = 0.5, 30.0
"""Seconds for which a server that failed is asked only if there is no other; doubled with each failure."""
_SAMPLES, _ENOUGH_SAMPLES = 100, 20
"""Latencies that are kept, and how many of them an estimate needs."""
_CLASSES = 64
"""Latency classes that are kept at most."""
_LEAST_TIMEOUT = 5.0
"""Seconds that every attempt gets."""
_LEAST_SILENCE = 0.5
"""Seconds without an answer after which a request may count as hanging."""


class Governor:
    """Decides when the next request may go to a server. Only monotonic time counts."""

    def __init__(self, limit: int, longest_wait: float, clock: Callable[[], float] = monotonic) -> None:
        """`limit`: most requests in flight, at least 1. `longest_wait`: most seconds for which the server's own word
        (Retry-After) holds all requests back. `clock`: that of the event loop; asyncio's own is `time.monotonic`.
        """
        self._clock = clock
        self._longest_wait = longest_wait
        self._limit = float(limit)
        self._window = float(limit)
        self._held_until = 0.0
        self._window_cut_at = 0.0
        self._failed_until = 0.0
        self._cool_down = _FIRST_COOL_DOWN
        self._unhealthy = False
        """It failed, and has not answered since."""
        self._left = asyncio.Event()
        self._in_flight: list[float] = []
        """When the requests in flight were sent."""
        self._latencies: deque[float] = deque(maxlen=_SAMPLES)
        """Seconds that the last answers took."""
        self._latencies_by_class: dict[Hashable, deque[float]] = {}
        self.affinity_slack = limit // 4
        """Calls that this server may have more than the least loaded one and still get those with an affinity to it."""
        self.load = 0
        """Calls that wait for this server or are being answered by it."""
        self.last_answer = -inf
        """Monotonic time of the last answer of any kind; minus infinity: there was none yet."""
        self.asked_to_wait_until = -inf
        """Monotonic time up to which the server asked not to be called, however long that is."""

    @property
    def is_asked_to_wait(self) -> bool:
        """Whether the server asked not to be called now."""
        return self.asked_to_wait_until > self._clock()

    @property
    def cooling_until(self) -> float:
        """Monotonic time until which other servers should be asked if there are any; 0 for a healthy server.

        After the cool-down one call probes the server; until that call has ended, other servers still come first.
        """
        until = max(self._held_until, self._failed_until)
        return until if self._clock() < until or (self._unhealthy and self.load) else 0.0

    def attempt_timeout(self, latency_class: Hashable = None) -> float:
        """Seconds after which an attempt should be given up: five times the slowest of the last answers to calls of
        this class, at least 5; infinite while there are too few answers for an estimate.
        """
        latencies = self._latencies_by_class.get(latency_class, ())
        return max(_LEAST_TIMEOUT, 5 * max(latencies)) if len(latencies) >= _ENOUGH_SAMPLES else inf

    async def enter(self) -> float:
        """Wait until a request may be sent; returns the monotonic time of that, which `leave` needs."""
        self.load += 1
        try:
            while (wait := self._held_until - self._clock()) > 0 or self._is_full():
                if wait > 0:
                    await asyncio.sleep(wait * random.uniform(1.0, 1.1))  # jitter: not all at the same moment
                else:
                    await self._wait_for_capacity()
        except BaseException:
            self.load -= 1
            raise
        sent = self._clock()
        self._in_flight.append(sent)
        return sent

    def _is_full(self) -> bool:
        if len(self._in_flight) >= self._limit:
            return True
        return self._window < self._limit and self._live_requests() >= self._window

    def _live_requests(self) -> int:
        """Requests in flight without those that hang: silent for three times as long as the slowest of the last
        answers took. They say nothing about the server's load, so they must not fill a window that was cut.
        """
        if len(self._latencies) < _ENOUGH_SAMPLES:
            return len(self._in_flight)
        since = self._clock() - max(_LEAST_SILENCE, 3 * max(self._latencies))
        return sum(sent > since for sent in self._in_flight)

    async def _wait_for_capacity(self) -> None:
        """Wait until a request ends; with a window that was cut, at most until one may count as hanging."""
        self._left.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self._window == self._limit else _LEAST_SILENCE):
                await self._left.wait()

    def leave(self, sent: float) -> None:
        """The request sent at this time has ended."""
        self.load -= 1
        self._in_flight.remove(sent)
        self._left.set()

    def record_answer(self, sent: float, latency_class: Hashable = None) -> None:
        """A request of this class, sent at this time, was answered: the breaker closes and the window grows."""
        self.last_answer = self._clock()
        self._latencies.append(self.last_answer - sent)
        if latency_class not in self._latencies_by_class and len(self._latencies_by_class) == _CLASSES:
            self._latencies_by_class.clear()
        self._latencies_by_class.setdefault(latency_class, deque(maxlen=_SAMPLES)).append(self.last_answer - sent)
        self._cool_down, self._unhealthy, self.asked_to_wait_until = _FIRST_COOL_DOWN, False, -inf
        if self._window < self._limit:
            self._window = min(self._limit, self._window + _INCREASE)

    def record_fault(self, fault: Transient, sent: float) -> None:
        """The request sent at this monotonic time met this fault: hold requests back, cut the window, or cool down."""
        now = self._clock()
        if fault.unreachable:
            self.cool_down()
            return
        self.last_answer = now
        if fault.wait is not None:
            self.asked_to_wait_until = now + fault.wait
            self._held_until = max(self._held_until, now + min(fault.wait, self._longest_wait))
        elif fault.throttled and sent >= self._window_cut_at:
            # Once a round: refusals of requests that were sent before this cut carry no new information.
            self._window_cut_at = now
            self._window = max(1.0, self._live_requests() / 2)
        elif not fault.throttled:
            self.cool_down()

    def cool_down(self) -> None:
        """The server failed, was not reached or did not answer: other servers come first for a while."""
        self._unhealthy = True
        if self._clock() >= self._failed_until:  # once a round: requests that fail together are one failure
            self._failed_until = self._clock() + self._cool_down
            self._cool_down = min(_LONGEST_COOL_DOWN, 2 * self._cool_down)
