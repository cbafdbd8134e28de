"""The one retry layer: a total deadline a call, full-jitter backoff, and the server's governor obeyed."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Protocol, TypeVar

from interalign.errors import InteralignError
from interalign.models.faults import Transient
from interalign.models.governor import Governor

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.25, 8.0
"""Seconds: the first wait is drawn from 0 to the first, doubled each time up to the second."""


class Governed(Protocol):
    """Something that is asked through a governor."""

    @property
    def governor(self) -> Governor:
        """The governor that all its calls share."""
        ...


S = TypeVar("S", bound=Governed)
T = TypeVar("T")


class DeadlineError(Exception):
    """No attempt succeeded in time. `last` is the last fault, None if no request was sent."""

    def __init__(self, attempts: int, last: Transient | None) -> None:
        super().__init__(f"asked {attempts} times, last: {last or 'still waiting for a turn'}")
        self.attempts = attempts
        self.last = last


async def answered(
    servers: Sequence[S],
    ask: Callable[[S], Awaitable[T]],
    deadline: float,
    retrying: Callable[[], None] = lambda: None,
) -> T:
    """What `ask` returns, asked of the least loaded server until it raises no Transient any more.

    `deadline` is the total in seconds, waiting for a turn included. One attempt gets half of what is left of it, but
    never less than an eighth of the total; where the server has shown how long it takes, a first attempt gets no more
    than its patience, the next one after a hang twice as much. No backoff takes more than a quarter of what is left: a
    server that hangs twice in a row leaves time for a third attempt.

    Raises DeadlineError when the time is over, and whatever else `ask` raises. `retrying` is told of every repetition.
    """
    attempts, hangs, last, end = 0, 0, None, monotonic() + deadline
    try:
        async with asyncio.timeout(deadline):
            while True:
                server = least_loaded(servers)
                attempts += 1
                try:
                    share = max((end - monotonic()) / 2, deadline / 8)
                    return await _attempt(server, ask, min(share, 2**hangs * server.governor.patience()))
                except Transient as fault:
                    last, hangs = fault, hangs + fault.silent
                if last.wait is None:  # else the governor makes everybody wait
                    await asyncio.sleep(min(backoff(attempts), (end - monotonic()) / 4))
                retrying()
    except TimeoutError:
        raise DeadlineError(attempts, last) from None


async def _attempt(server: S, ask: Callable[[S], Awaitable[T]], seconds: float) -> T:
    governor = server.governor
    sent = await governor.enter()
    try:
        async with asyncio.timeout(seconds):
            found = await ask(server)
    except TimeoutError:
        governor.rest()
        raise Transient(f"no answer within {seconds:g} s", silent=True) from None
    except Transient as fault:
        governor.heed(fault, sent)
        raise
    except InteralignError:
        governor.answered(sent)
        raise
    finally:
        governor.leave(sent)
    governor.answered(sent)
    return found


def least_loaded(servers: Sequence[S]) -> S:
    """The server with the fewest calls, of those that are well if there are any."""
    if len(servers) == 1:
        return servers[0]
    return min(servers, key=lambda server: (server.governor.is_resting, server.governor.load))


def backoff(attempt: int) -> float:
    """Seconds to wait after the attempt with this number (from 1): full jitter."""
    return random.uniform(0.0, min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** (attempt - 1)))
