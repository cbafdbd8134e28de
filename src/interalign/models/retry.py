"""The one retry layer: a total deadline a call, full-jitter backoff, and the server's governor obeyed."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from time import monotonic
from typing import Protocol, TypeVar

from interalign.errors import InteralignError, StopError
from interalign.models.call_state import sent_to, waiting
from interalign.models.error_body import without_numbers
from interalign.models.faults import Transient
from interalign.models.governor import Governor

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.25, 8.0
"""Seconds: the first wait is drawn from 0 to the first, doubled each time up to the second."""
_ALIKE = 3
"""Answers that are none, all the same, after which a call is not sent again."""


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


class RetryUselessError(Exception):
    """No further attempt can succeed in time, and no other server can take over. `last` is the last fault."""

    def __init__(self, last: Transient) -> None:
        super().__init__(str(last))
        self.last = last

    def as_stop(self, server: str) -> StopError:
        """What it means for the run."""
        if self.last.no_answer:
            return StopError(
                f"{server} gave the same answer {_ALIKE} times, and it is no chat completion ({self}); mend the server "
                "or --base-url, and run the same command again"
            )
        return StopError(
            f"{server} asks to wait {self.last.wait:g} s, longer than --deadline ({self}); run the same command again "
            "after that time, or raise --deadline"
        )


async def answered(
    servers: Sequence[S],
    ask: Callable[[S], Awaitable[T]],
    deadline: float,
    retrying: Callable[[], None] = lambda: None,
    kind: Hashable = None,
    talk: int = 0,
) -> T:
    """What `ask` returns, asked of one server after the other until it raises no Transient any more.

    `deadline` is the total in seconds, waiting for a turn included. One attempt gets half of what is left of it, but
    never less than an eighth of the total; where the server has shown how long it takes, a first attempt gets no more
    than its patience, the next one after a hang twice as much. No backoff takes more than a quarter of what is left: a
    server that hangs twice in a row leaves time for a third attempt. A wait that the server asks for replaces the
    backoff only as far as it goes: one that always says `Retry-After: 0` is not to be asked without end.

    `kind` tells calls of one server apart that take different times (a judge's, a user's): each has a patience of its
    own, since a request that is given up too early is paid for twice. `talk` is a number that calls with a common
    beginning share: they go to the same server, see `best_placed`.

    Raises DeadlineError when the time is over, RetryUselessError when every server wants to be left alone for longer
    than a call may take, or one has sent the same three times that is no answer, and whatever else `ask` raises.
    `retrying` is told of every repetition.
    """
    attempts, hangs, last, end = 0, 0, None, monotonic() + deadline
    strange = Counter[str]()
    try:
        async with asyncio.timeout(deadline):
            while True:
                server = best_placed(servers, talk)
                attempts += 1
                try:
                    share = max((end - monotonic()) / 2, deadline / 8)
                    return await _attempt(server, ask, min(share, 2**hangs * server.governor.patience(kind)), kind)
                except Transient as fault:
                    last, hangs = fault, hangs + fault.silent
                    kept = without_numbers(str(fault))
                    strange[kept] += fault.no_answer
                    if _is_useless(fault, strange[kept], servers, deadline):
                        raise RetryUselessError(fault) from None
                # The last quarters are not to become ever shorter: a server in trouble would be asked ever faster.
                longest = max((end - monotonic()) / 4, deadline / 32)
                with waiting:
                    await asyncio.sleep(min(backoff(attempts), longest) - (last.wait or 0.0))
                retrying()
    except TimeoutError:
        raise DeadlineError(attempts, last) from None


def _is_useless(fault: Transient, alike: int, servers: Sequence[Governed], deadline: float) -> bool:
    """Whether to try again is no use: no server can be asked in time, or none is left that answers as it should."""
    if fault.no_answer:
        return alike >= _ALIKE and all(server.governor.rests_until > 0 for server in servers)
    if (fault.wait or 0.0) <= deadline:
        return False
    return all(server.governor.asked_to_wait_until > monotonic() for server in servers)


async def _attempt(server: S, ask: Callable[[S], Awaitable[T]], seconds: float, kind: Hashable) -> T:
    governor = server.governor
    with waiting:
        sent = await governor.enter()
    sent_to(server)
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
        governor.answered(sent, kind)
        raise
    finally:
        governor.leave(sent)
    governor.answered(sent, kind)
    return found


def best_placed(servers: Sequence[S], talk: int) -> S:
    """The least loaded server, or the one at the place `talk` (modulo their number) if it has hardly more to do: it
    has read the beginning of this conversation already, and its prefix cache spares reading it again.
    """
    least = least_loaded(servers)
    known = servers[talk % len(servers)].governor
    if known.rests_until == 0 and known.load <= least.governor.load + known.slack:
        return servers[talk % len(servers)]
    return least


def least_loaded(servers: Sequence[S]) -> S:
    """The server with the fewest calls, of those that are well if there are any; else the one that rested longest."""
    if len(servers) == 1:
        return servers[0]
    return min(servers, key=lambda server: (server.governor.rests_until, server.governor.load))


def backoff(attempt: int) -> float:
    """Seconds to wait after the attempt with this number (from 1): full jitter."""
    return random.uniform(0.0, min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** (attempt - 1)))
