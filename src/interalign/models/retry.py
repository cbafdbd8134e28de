"""The one retry layer: a total deadline a call, exponential backoff with full jitter, failover between servers.

Calls go to the least loaded healthy server, but those with a common beginning (the same affinity key) stay with one
server, whose prefix cache holds it, while that one has hardly more to do. Each attempt goes through the server's
governor.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Protocol, TypeVar

from interalign.errors import InteralignError, StopError
from interalign.models.call_state import sent_to, waiting
from interalign.models.error_body import without_numbers
from interalign.models.faults import Transient
from interalign.models.governor import Governor

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.25, 8.0
"""Seconds: the first wait is drawn from 0 to the first, doubled each time up to the second."""
_SAME_ANSWERS = 3
"""Identical answers that are no chat completion after which a call is not sent again."""


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
                f"{server} gave the same answer {_SAME_ANSWERS} times, and it is no chat completion ({self}); mend "
                "the server or --base-url, and run the same command again"
            )
        return StopError(
            f"{server} asks to wait {self.last.wait:g} s, longer than --deadline ({self}); run the same command again "
            "after that time, or raise --deadline"
        )


async def ask_until_answered(
    servers: Sequence[S],
    ask: Callable[[S], Awaitable[T]],
    deadline: float,
    retrying: Callable[[], None] = lambda: None,
    latency_class: Hashable = None,
    affinity_key: int = 0,
) -> T:
    """What `ask` returns, tried on one server after the other until it raises no Transient.

    `deadline` is the total in seconds, waiting in the governor's queue included. One attempt gets half of what is left
    of it, but never less than an eighth of the total; once the server's latency is known, a first attempt gets no more
    than the governor's `attempt_timeout`, the next one after a hang twice as much. No backoff takes more than a quarter
    of what is left, so that a server that hangs twice in a row leaves time for a third attempt. A wait that the server
    asks for is subtracted from the backoff, no more: a server that always says `Retry-After: 0` still gets a backoff.

    `latency_class` separates calls of one server that take different times (a judge's, a user's): each class has its
    own attempt timeout, since a request that is given up too early is paid for twice. `affinity_key` is a number that
    calls with a common beginning share: they go to the same server, see `pick_server`.

    Raises DeadlineError when the time is over, RetryUselessError when every server asks to wait longer than a call may
    take, or has sent three times the same thing that is no chat completion, and whatever else `ask` raises. `retrying`
    is called before every repetition.
    """
    now = asyncio.get_running_loop().time
    attempts, hangs, last, end = 0, 0, None, now() + deadline
    non_answers = Counter[str]()
    try:
        async with asyncio.timeout(deadline):
            while True:
                server = pick_server(servers, affinity_key)
                attempts += 1
                try:
                    share = max((end - now()) / 2, deadline / 8)
                    usual = 2**hangs * server.governor.attempt_timeout(latency_class)
                    return await _attempt(server, ask, min(share, usual), latency_class)
                except Transient as fault:
                    last, hangs = fault, hangs + fault.silent
                    text = without_numbers(str(fault))
                    non_answers[text] += fault.no_answer
                    if _is_useless(fault, non_answers[text], servers, deadline):
                        raise RetryUselessError(fault) from None
                # With a lower bound: quarters of what is left would shrink, and a failing server be asked ever faster.
                longest = max((end - now()) / 4, deadline / 32)
                with waiting:
                    await asyncio.sleep(min(backoff(attempts), longest) - (last.wait or 0.0))
                retrying()
    except TimeoutError:
        raise DeadlineError(attempts, last) from None


def _is_useless(fault: Transient, same_answers: int, servers: Sequence[Governed], deadline: float) -> bool:
    """Whether another attempt cannot succeed: no server can be asked in time, or no healthy one is left."""
    if fault.no_answer:
        return same_answers >= _SAME_ANSWERS and all(server.governor.cooling_until > 0 for server in servers)
    if (fault.wait or 0.0) <= deadline:
        return False
    return all(server.governor.is_asked_to_wait for server in servers)


async def _attempt(server: S, ask: Callable[[S], Awaitable[T]], seconds: float, latency_class: Hashable) -> T:
    governor = server.governor
    with waiting:
        sent = await governor.enter()
    sent_to(server)
    try:
        async with asyncio.timeout(seconds):
            answer = await ask(server)
    except TimeoutError:
        governor.cool_down()
        raise Transient(f"no answer within {seconds:g} s", silent=True) from None
    except Transient as fault:
        governor.record_fault(fault, sent)
        raise
    except InteralignError:
        governor.record_answer(sent, latency_class)  # a refusal is an answer, too
        raise
    finally:
        governor.leave(sent)
    governor.record_answer(sent, latency_class)
    return answer


def pick_server(servers: Sequence[S], affinity_key: int) -> S:
    """The server number `affinity_key` (modulo their number) if it is healthy and has hardly more to do than the least
    loaded one, which is the answer otherwise. Its prefix cache holds the beginning that the calls of this key share.
    """
    least = least_loaded(servers)
    preferred = servers[affinity_key % len(servers)]
    governor = preferred.governor
    if governor.cooling_until == 0 and governor.load <= least.governor.load + governor.affinity_slack:
        return preferred
    return least


def least_loaded(servers: Sequence[S]) -> S:
    """The healthy server with the fewest calls; if none is healthy, the one whose cool-down ends first."""
    if len(servers) == 1:
        return servers[0]
    return min(servers, key=lambda server: (server.governor.cooling_until, server.governor.load))


def backoff(attempt: int) -> float:
    """Seconds to wait after the attempt with this number (from 1): full jitter."""
    return random.uniform(0.0, min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** (attempt - 1)))
