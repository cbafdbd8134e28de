"""Ctrl-C, `kill` and a terminal that is closed: the first one asks a run to stop, the second one leaves."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType

INTERRUPTED = "interrupted; what was finished is kept, run the same command again to go on"
STOPPING = "stopping: calls in flight get 10 s to finish; once more leaves at once, and is as safe"
LEFT = "left at once; run the same command again to go on"
WORDED: ContextVar[Callable[[str], str]] = ContextVar("worded", default="interalign: {}".format)
"""How the last line of a process that leaves at once is written."""
_LOG = logging.getLogger("interalign")
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def stopping_on_signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Call `stop` in the running event loop at the first SIGINT, SIGTERM or SIGHUP; leave the process at the second.

    Only in the main thread, where signals arrive; elsewhere (a notebook's kernel) nothing is changed. A SIGHUP that is
    ignored, as `nohup` has it, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    asked, worded = False, WORDED.get()

    def begin_to_stop() -> None:
        stop(INTERRUPTED)
        if sys.stderr.isatty():  # somebody waits, and would press the keys again
            _LOG.warning(STOPPING)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGHUP:
            return  # a shell hands it on after the terminal did: nobody is in a hurry
        if asked:
            _leave(worded(LEFT))
        asked = True
        loop.call_soon_threadsafe(begin_to_stop)

    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    heard = [number for number in _NUMBERS if not (ignored and number == signal.SIGHUP)]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(line: str) -> None:
    """End at once, as a kill would: every reply on record is safe, and nothing is waited for."""
    cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"{cursor}{line}\n".encode())
    os._exit(3)
