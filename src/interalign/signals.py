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
from typing import NoReturn

INTERRUPTED = "interrupted; what was finished is kept, run the same command again to go on"
STOPPING = "stopping: calls in flight get 10 s to finish; once more leaves at once, and is as safe"
LEFT = "left at once; run the same command again to go on"
WORDED: ContextVar[Callable[[str], str]] = ContextVar("format_last_line", default="interalign: {}".format)
"""How the last line of a process that leaves at once is written."""
OWN_PROCESS: ContextVar[bool] = ContextVar("own_process", default=False)
"""Whether this process is there for the run alone, as the command's is: then it may be left."""
_FORCED_EXIT = 13.0
"""Seconds after which a process that was to stop is left: the 10 s that calls get, and a moment to write them down."""
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
    asked, format_line, own_process = False, WORDED.get(), OWN_PROCESS.get()

    def begin_to_stop() -> None:
        stop(INTERRUPTED)
        if sys.stderr.isatty():  # a person waits, and would press Ctrl-C again
            _LOG.warning(STOPPING)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGHUP:
            return  # a shell forwards it after the terminal has sent it: not a second request
        if asked:
            _leave(format_line(LEFT))
        asked = True
        loop.call_soon_threadsafe(begin_to_stop)
        if own_process:
            _leave_later(format_line(INTERRUPTED))  # here too: the loop may be blocked

    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    handled = [number for number in _NUMBERS if not (ignored and number == signal.SIGHUP)]
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_if_it_takes_too_long(reason: str) -> None:
    """Leave a process of our own some 13 s from now if it is still there, whatever holds it up: a thread that does not
    end, a plug-in that blocks or refuses to be cancelled.
    """
    if OWN_PROCESS.get():
        _leave_later(WORDED.get()(reason))


def end_process(code: int) -> NoReturn:
    """End with this exit code; after a stop no thread is waited for, as a model may be at work in it for minutes."""
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if code == 3 and not all(thread.daemon for thread in others):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _leave_later(line: str) -> None:
    timer = threading.Timer(_FORCED_EXIT, _leave, [line])
    timer.daemon = True
    timer.start()


def _leave(line: str) -> None:
    """End at once, as a kill would: every reply on record is safe, and nothing is waited for."""
    cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"{cursor}{line}\n".encode())
    os._exit(3)
