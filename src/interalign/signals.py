"""Ctrl-C and `kill`: the first one asks a run to stop, the second one leaves."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = "interrupted; what was finished is kept, run the same command again to go on"
_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def stopping_on_signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Call `stop` in the running event loop at the first SIGINT or SIGTERM; leave the process at the second.

    Only in the main thread, where signals arrive; elsewhere (a notebook's kernel) nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            _leave()
        asked = True
        loop.call_soon_threadsafe(stop, INTERRUPTED)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave() -> None:
    """End at once, as a kill would: every reply on record is safe, and nothing is waited for."""
    cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
    os.write(2, f"{cursor}interalign: left at once; run the same command again to go on\n".encode())
    os._exit(3)
