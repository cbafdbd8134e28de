"""The state of one call (a context variable), set by the model during the call and read by the ledger.

A run that stops gives a request that was sent time to be answered; a call that is still queued ends at once.
"""

from collections.abc import Callable
from contextvars import ContextVar

from interalign.records import AgentRecord


class CallState:
    """The state of one call."""

    def __init__(self) -> None:
        self.waiting = False
        """No request is in flight: it is queued, or waits before a retry."""
        self.is_queued: Callable[[], bool] | None = None
        """Says the same for a model that has a queue of its own; None: there is no such queue."""
        self.sends = 0
        """Requests sent so far."""
        self.server = ""
        """The address of the last request; empty if none was sent to a server."""
        self.agent: AgentRecord | None = None
        """What an agent leaves to be kept with its reply."""

    @property
    def only_waits(self) -> bool:
        """Whether it can be ended without losing a request in flight."""
        return self.waiting or (self.is_queued is not None and self.is_queued())

    def begin_to_wait(self) -> None:
        """Note that it waits from now on. A subclass may end the call here by raising CancelledError."""
        self.waiting = True

    def release_slot(self) -> None:
        """The role behind this call asks somebody else: it waits, and is not among the calls in flight."""
        self.begin_to_wait()

    async def regain_slot(self) -> None:
        """The answer is here. Wait for a place, unless the role waits for further answers."""

    def forget_slot(self) -> None:
        """The role does not wait for that answer any more. It goes on as it is: who is cancelled must not wait."""


CALL: ContextVar[CallState | None] = ContextVar("call", default=None)
"""The call that the running task makes, known to every task that it starts."""


class _Waiting:
    """`with waiting:` around an `await` during which no request of the call is in flight."""

    def __enter__(self) -> None:
        state = CALL.get()
        if state is not None:
            state.begin_to_wait()

    def __exit__(self, *error: object) -> None:
        state = CALL.get()
        if state is not None:
            state.waiting = False


waiting = _Waiting()


def sent_to(server: object) -> None:
    """Note that a request goes out to this server, whose address is its `url` if it has one."""
    state = CALL.get()
    if state is not None:
        state.sends += 1
        state.server = str(getattr(server, "url", ""))


def queued_while(is_queued: Callable[[], bool]) -> None:
    """Note that the call is in a queue of the model as long as this returns True."""
    state = CALL.get()
    if state is not None:
        state.is_queued = is_queued
