"""Who blocks the event loop: code that works for seconds without an `await` halts all trees, not only its own."""

import asyncio
import gc
import logging
import sys
import threading
import time
from contextvars import Context, ContextVar
from weakref import WeakSet

from interalign.agents.source_lines import running_at

TOO_LONG = 5.0
"""Seconds without an answer of the event loop after which whoever keeps it is named."""


class Asked:
    """A plug-in while it is asked: known to its task, and to every task that it starts, through their context."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.warned = False


ASKED: ContextVar[Asked | None] = ContextVar("asked", default=None)
_watched: "WeakSet[asyncio.AbstractEventLoop]" = WeakSet()


def watch_this_loop() -> None:
    """From now on, until it is closed, a plug-in that blocks the running event loop is named in one warning.

    A thread does it, not a timer of the loop or a clock around the plug-in: so it is said while it happens, with the
    line, and a plug-in that never comes back is named too.
    """
    loop = asyncio.get_running_loop()
    if loop not in _watched:
        _watched.add(loop)
        threading.Thread(target=_watch, args=(loop, threading.get_ident()), name="watchdog", daemon=True).start()


def _watch(loop: asyncio.AbstractEventLoop, thread: int) -> None:
    while True:
        answered = threading.Event()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # it is closed
            return
        if not answered.wait(TOO_LONG):
            _name_who_blocks(loop, thread)
            while not answered.wait(TOO_LONG):
                if loop.is_closed():
                    return
        time.sleep(TOO_LONG / 10)


def _name_who_blocks(loop: asyncio.AbstractEventLoop, thread: int) -> None:
    task, frame = asyncio.current_task(loop), sys._current_frames().get(thread)
    asked = None if task is None else _context_of(task).get(ASKED)
    if asked is None or asked.warned or frame is None:
        return
    asked.warned = True
    logging.getLogger("interalign").warning(
        "%s has blocked the event loop, and so all trees, for %g s (%s); let it await, or do the work in a thread "
        "(asyncio.to_thread)",
        asked.label,
        TOO_LONG,
        running_at(frame),
    )


def _context_of(task: "asyncio.Task[object]") -> Context:
    if sys.version_info >= (3, 12):
        return task.get_context()
    # Python 3.11 has no other way to ask a task of another thread for its context.
    return next((held for held in gc.get_referents(task) if isinstance(held, Context)), Context())
