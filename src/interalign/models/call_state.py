"""What one call is doing right now, told by the model while the call lasts, read by the ledger that made it.

A run that stops gives a request that was sent time to be answered; a call that only waits for its turn ends at once.
"""

from collections.abc import Callable
from contextvars import ContextVar


class CallState:
    """One call on its way to an answer."""

    # The values at first are those of the class: there is one object a call.
    waiting: bool = False
    """Nothing of it is at a server: it waits for its turn, or to be sent again."""
    is_queued: Callable[[], bool] | None = None
    """Says the same for a model that has a queue of its own; None: there is no such queue."""
    sends: int = 0
    """Requests sent so far."""
    server: str = ""
    """The address of the last request; empty if none was sent to a server."""

    @property
    def only_waits(self) -> bool:
        """Whether it can be ended without losing anything that is on its way."""
        return self.waiting or (self.is_queued is not None and self.is_queued())

    def begin_to_wait(self) -> None:
        """Note that it waits from now on. Who makes calls may end it here instead, by raising CancelledError."""
        self.waiting = True


CALL: ContextVar[CallState | None] = ContextVar("call", default=None)
"""The call that the running task makes, known to every task that it starts."""


class _Waiting:
    """`with waiting:` around an `await` in which nothing of the call is at a server."""

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
    """Note that the call waits in a queue of the model's own as long as this says so."""
    state = CALL.get()
    if state is not None:
        state.is_queued = is_queued
