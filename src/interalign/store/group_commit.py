"""Group commit: all queued writes share one transaction and one fsync, for which a thread waits.

Unlike in a database server, statements run in the event loop; only COMMIT runs in the thread.
"""

import asyncio
import concurrent.futures
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from interalign.errors import StopError
from interalign.store.run_file import as_ours

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""SQL to run inside the transaction; the waiter gets its value after the commit."""

_COMMIT_INTERVAL = 0.015
"""Seconds between two commits while more replies are expected: fewer than a hundred fsyncs a second are enough."""
_POLL_INTERVAL = 0.001
"""Seconds between two checks whether a commit, or another program's transaction, has ended."""
_BUSY_TIMEOUT = 10.0
"""Seconds for which another program may keep the file locked."""


@dataclass(slots=True)
class _QueuedWrite:
    work: Work[Any]
    future: "asyncio.Future[Any] | concurrent.futures.Future[Any]"
    settled: Callable[[], object] | None = None
    result: Any = None
    error: Exception | None = None


class GroupCommitWriter:
    """Under load one fsync serves many waiters, idle it serves one at once.

    Statements only change pages in memory, so they run where they are submitted: to hand the interpreter from thread to
    thread costs more than they take. The commit waits for the disk, so it has a thread of its own.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, complete: Callable[[], None], forget: Callable[[], None]
    ) -> None:
        """`complete` is called before a commit, to carry out what was deferred; `forget` after a rollback, to drop that
        and what was cached from the transaction.
        """
        self._connection = connection
        self._path = path
        self._complete = complete
        self._forget = forget
        self._queue: deque[_QueuedWrite] = deque()
        self._transaction = threading.Lock()
        """Held from BEGIN to the end of COMMIT, by one thread and then the other."""
        self._committing = False
        self._scheduled_on: asyncio.AbstractEventLoop | None = None
        """The event loop on which the next transaction is scheduled."""
        self._busy_since = 0.0
        """Monotonic time since when another program holds the write lock; 0: none does."""
        self._failure: str | None = None
        self._closed = False
        self._last_commit = 0.0
        self.commits = 0
        """Transactions committed so far."""
        self.expects_more: Callable[[], bool] = lambda: False
        """Whether further replies are expected; then it pays to delay the commit for them."""
        self._connection.execute("PRAGMA busy_timeout = 0")  # SQLite would wait in the middle of the event loop
        self._committer = ThreadPoolExecutor(1, thread_name_prefix=f"interalign commits {path.name}")

    def submit(self, work: Work[T], settled: Callable[[], object] | None = None) -> "asyncio.Future[T]":
        """Queue work from a coroutine; the future is done once it is committed. StopError once writing has failed.

        `settled` is called in the loop when the work was committed or has failed, also if the future was cancelled.
        """
        self.refuse_if_stopped()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.append(_QueuedWrite(work, future, settled))
        self._schedule(loop, self._delay())
        return future

    def run(self, work: Work[T]) -> T:
        """Do work now, with what is queued, and wait for its commit. StopError once writing has failed."""
        self.refuse_if_stopped()
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._queue.append(_QueuedWrite(work, future))
        self._flush()
        return future.result()

    def close(self) -> None:
        """Commit what is queued, checkpoint the write-ahead log, end the thread; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._flush()
            self._committer.shutdown()
            self._checkpoint_and_close()

    @property
    def can_write(self) -> bool:
        """False once writing has failed or the file was closed."""
        return self._failure is None and not self._closed

    def refuse_if_stopped(self) -> None:
        """StopError once writing has failed or the file was closed."""
        if not self.can_write:
            raise StopError(self._failure or f"{self._path} was closed; open it again to go on")

    # In the event loop ------------------------------------------------------------------------------

    def _schedule(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        """Begin a transaction in so many seconds, unless one is scheduled on this loop already."""
        if self._scheduled_on is not loop:
            self._scheduled_on = loop
            loop.call_later(delay, self._begin, loop)

    def _delay(self) -> float:
        """Seconds to delay the next commit so that others share it."""
        return max(self._last_commit + _COMMIT_INTERVAL - time.monotonic(), 0.0) if self.expects_more() else 0.0

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled_on = None
        if self._closed:  # `close` has written everything
            return
        if self._committing:  # the event loop must not wait for the disk
            self._schedule(loop, _COMMIT_INTERVAL if self.expects_more() else _POLL_INTERVAL)
            return
        writes: list[_QueuedWrite] = []
        self._transaction.acquire()
        try:
            if self._is_busy():
                self._schedule(loop, _POLL_INTERVAL)
            else:
                writes = self._take()
                self._committing = self._execute(writes)
        finally:
            if not self._committing:
                self._transaction.release()
        if self._committing:
            self._committer.submit(self._end, writes)
        else:
            self._notify(writes)

    def _resolve(self, writes: Sequence[_QueuedWrite]) -> None:
        for write in writes:
            if write.settled is not None:
                write.settled()
            if write.future.done():  # the waiter was cancelled
                continue
            if write.error is None:
                write.future.set_result(write.result)
            else:
                write.future.set_exception(write.error)

    # In the committing thread -----------------------------------------------------------------------

    def _end(self, writes: Sequence[_QueuedWrite]) -> None:
        self._commit(writes)
        self._committing = False
        self._transaction.release()
        self._notify(writes)

    def _notify(self, writes: Sequence[_QueuedWrite]) -> None:
        """Resolve the futures: all those of one event loop in one callback."""
        by_loop: dict[asyncio.AbstractEventLoop | None, list[_QueuedWrite]] = {}
        for write in writes:
            loop = write.future.get_loop() if isinstance(write.future, asyncio.Future) else None
            by_loop.setdefault(loop, []).append(write)
        for loop, waiting in by_loop.items():
            if loop is None:
                self._resolve(waiting)
                continue
            with suppress(RuntimeError):  # the loop is closed, so nothing awaits it; the work is committed
                loop.call_soon_threadsafe(self._resolve, waiting)

    # In either --------------------------------------------------------------------------------------

    def _take(self) -> list[_QueuedWrite]:
        """All that is queued by now."""
        return [self._queue.popleft() for _ in range(len(self._queue))]

    def _flush(self) -> None:
        """Write what is queued, in this thread."""
        with self._transaction:
            writes = self._take()
            if writes and self._execute(writes):
                self._commit(writes)
        self._notify(writes)

    def _execute(self, writes: Sequence[_QueuedWrite]) -> bool:
        """Run the writes in an open transaction; True if they are ready to be committed. If one raises, each gets a
        transaction of its own, so that only that one fails. An interrupt puts them all back into the queue.
        """
        if self._failure is not None:
            self._refuse(writes)
            return False
        try:
            while self._is_busy():
                time.sleep(_POLL_INTERVAL)
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN IMMEDIATE")
            for write in writes:
                write.result = write.work(self._connection)
            self._complete()
        except sqlite3.Error as error:
            self._fail(writes, error)
            return False
        except Exception as error:  # noqa: BLE001 - it is raised where the write was submitted
            self._roll_back()
            if len(writes) == 1:
                writes[0].error = error
            else:
                for write in writes:
                    if self._execute([write]):
                        self._commit([write])
            return False
        except BaseException:  # KeyboardInterrupt, for example
            self._roll_back()
            self._queue.extendleft(reversed(writes))
            raise
        return True

    def _is_busy(self) -> bool:
        """Whether another program holds the write lock; if not, a transaction is open now. Never waits.

        After 10 s it says no, and the next BEGIN raises SQLite's error.
        """
        if self._connection.in_transaction or self._failure is not None:
            return False
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            self._busy_since = self._busy_since or time.monotonic()
            return error.sqlite_errorcode == sqlite3.SQLITE_BUSY and time.monotonic() - self._busy_since < _BUSY_TIMEOUT
        self._busy_since = 0.0
        return False

    def _commit(self, writes: Sequence[_QueuedWrite]) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(writes, error)
            return
        self.commits += 1
        self._last_commit = time.monotonic()

    def _fail(self, writes: Sequence[_QueuedWrite], error: sqlite3.Error) -> None:
        """Writing has failed for good: what was not committed is lost, and every later write is refused."""
        self._failure = str(as_ours(self._path, error))
        with suppress(sqlite3.Error):
            self._roll_back()
        self._refuse(writes)

    def _roll_back(self) -> None:
        self._forget()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _refuse(self, writes: Sequence[_QueuedWrite]) -> None:
        for write in writes:
            write.error = StopError(self._failure)

    def _checkpoint_and_close(self) -> None:
        # A reader may hold the file, or the disk be full: then the log stays beside it, and nothing is lost.
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            # Back to one plain file, which can be copied, and read from a read-only folder.
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
