"""Group commit: what is queued is written as one transaction, and a thread waits for the disk."""

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
"""SQL to run inside the writer's transaction; its value goes to the waiter after the commit."""

_APART = 0.015
"""Seconds between two commits while more replies are on their way: some hundred fsyncs a second are enough."""
_POLL = 0.001
"""Seconds between two looks at a commit under way, or at another program's transaction."""
_PATIENCE = 10.0
"""Seconds that another program may keep the file to itself."""


@dataclass(slots=True)
class _Job:
    work: Work[Any]
    future: "asyncio.Future[Any] | concurrent.futures.Future[Any]"
    settled: Callable[[], object] | None = None
    result: Any = None
    error: Exception | None = None


class Writer:
    """Under load one fsync serves many waiters, idle it serves one at once.

    Statements only reach the page cache, and are carried out where the work comes from: two threads that share one
    interpreter spend more on handing it over than the statements take. The commit waits for the disk, so it has a
    thread of its own.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, complete: Callable[[], None], forget: Callable[[], None]
    ) -> None:
        """`complete` is called before a commit, to do what the transaction's jobs have put off; `forget` after a
        rollback, to drop that and what was cached from the transaction.
        """
        self._connection = connection
        self._path = path
        self._complete = complete
        self._forget = forget
        self._queue: deque[_Job] = deque()
        self._transaction = threading.Lock()
        """Held from BEGIN to the end of COMMIT, by one thread and then the other."""
        self._committing = False
        self._planned: asyncio.AbstractEventLoop | None = None
        """The loop that will begin the next transaction."""
        self._locked_out = 0.0
        """Since when some other program has been writing to the file, monotonic; 0: it is not."""
        self._failure: str | None = None
        self._closed = False
        self._last_commit = 0.0
        self.commits = 0
        """Transactions committed so far."""
        self.more_to_come: Callable[[], bool] = lambda: False
        """Says whether other replies are on their way; then it pays to wait a moment for them."""
        self._connection.execute("PRAGMA busy_timeout = 0")  # SQLite would wait in the middle of the event loop
        self._committer = ThreadPoolExecutor(1, thread_name_prefix=f"interalign commits {path.name}")

    def submit(self, work: Work[T], settled: Callable[[], object] | None = None) -> "asyncio.Future[T]":
        """Queue work from a coroutine; the future is done once it is committed. StopError once writing has failed.

        `settled` is called in the loop when the work was committed or has failed, also if the future was cancelled.
        """
        self.refuse_if_stopped()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.append(_Job(work, future, settled))
        self._plan(loop, self._pause())
        return future

    def run(self, work: Work[T]) -> T:
        """Do work now, with what is queued, and wait for its commit. StopError once writing has failed."""
        self.refuse_if_stopped()
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._queue.append(_Job(work, future))
        self._write_now()
        return future.result()

    def close(self) -> None:
        """Commit what is queued, fold the log into the file, end the thread; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._write_now()
            self._committer.shutdown()
            self._finish()

    @property
    def can_write(self) -> bool:
        """False once writing has failed or the file was closed."""
        return self._failure is None and not self._closed

    def refuse_if_stopped(self) -> None:
        """StopError once writing has failed or the file was closed."""
        if not self.can_write:
            raise StopError(self._failure or f"{self._path} was closed; open it again to go on")

    # In the event loop ------------------------------------------------------------------------------

    def _plan(self, loop: asyncio.AbstractEventLoop, pause: float) -> None:
        """Let the loop begin a transaction in so many seconds, unless it is going to anyway."""
        if self._planned is not loop:
            self._planned = loop
            loop.call_later(pause, self._begin, loop)

    def _pause(self) -> float:
        """Seconds to wait for others to share the next commit."""
        return max(self._last_commit + _APART - time.monotonic(), 0.0) if self.more_to_come() else 0.0

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._planned = None
        if self._closed:  # and all was written
            return
        if self._committing:  # the loop must not wait for the disk
            self._plan(loop, _APART if self.more_to_come() else _POLL)
            return
        jobs: list[_Job] = []
        self._transaction.acquire()
        try:
            if self._is_locked_out():
                self._plan(loop, _POLL)
            else:
                jobs = self._take()
                self._committing = self._carried_out(jobs)
        finally:
            if not self._committing:
                self._transaction.release()
        if self._committing:
            self._committer.submit(self._end, jobs)
        else:
            self._tell(jobs)

    def _resolve(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            if job.settled is not None:
                job.settled()
            if job.future.done():  # the waiter was cancelled
                continue
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)

    # In the committing thread -----------------------------------------------------------------------

    def _end(self, jobs: Sequence[_Job]) -> None:
        self._commit(jobs)
        self._committing = False
        self._transaction.release()
        self._tell(jobs)

    def _tell(self, jobs: Sequence[_Job]) -> None:
        """Resolve the waiters: those of an event loop in one wake-up of that loop."""
        by_loop: dict[asyncio.AbstractEventLoop | None, list[_Job]] = {}
        for job in jobs:
            loop = job.future.get_loop() if isinstance(job.future, asyncio.Future) else None
            by_loop.setdefault(loop, []).append(job)
        for loop, waiting in by_loop.items():
            if loop is None:
                self._resolve(waiting)
                continue
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more, and the work is committed
                loop.call_soon_threadsafe(self._resolve, waiting)

    # In either --------------------------------------------------------------------------------------

    def _take(self) -> list[_Job]:
        """All that is queued by now."""
        return [self._queue.popleft() for _ in range(len(self._queue))]

    def _write_now(self) -> None:
        """Write what is queued, in this thread."""
        with self._transaction:
            jobs = self._take()
            if jobs and self._carried_out(jobs):
                self._commit(jobs)
        self._tell(jobs)

    def _carried_out(self, jobs: Sequence[_Job]) -> bool:
        """Whether the jobs are in an open transaction, ready to be committed. If one of them is at fault, each gets a
        transaction of its own and only that one fails; what nobody can foresee leaves them all in the queue.
        """
        if self._failure is not None:
            self._refuse(jobs)
            return False
        try:
            while self._is_locked_out():
                time.sleep(_POLL)
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                job.result = job.work(self._connection)
            self._complete()
        except sqlite3.Error as error:
            self._fail(jobs, error)
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the one who queued the job
            self._roll_back()
            if len(jobs) == 1:
                jobs[0].error = error
            else:
                for job in jobs:
                    if self._carried_out([job]):
                        self._commit([job])
            return False
        except BaseException:  # an interrupt from the keyboard, say
            self._roll_back()
            self._queue.extendleft(reversed(jobs))
            raise
        return True

    def _is_locked_out(self) -> bool:
        """Whether some other program is writing to the file; if not, a transaction is open. Never waits.

        After 10 s it is an error, which the next BEGIN will meet.
        """
        if self._connection.in_transaction or self._failure is not None:
            return False
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            self._locked_out = self._locked_out or time.monotonic()
            return error.sqlite_errorcode == sqlite3.SQLITE_BUSY and time.monotonic() - self._locked_out < _PATIENCE
        self._locked_out = 0.0
        return False

    def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(jobs, error)
            return
        self.commits += 1
        self._last_commit = time.monotonic()

    def _fail(self, jobs: Sequence[_Job], error: sqlite3.Error) -> None:
        """Writing is over: what was not committed stays so."""
        self._failure = str(as_ours(self._path, error))
        with suppress(sqlite3.Error):
            self._roll_back()
        self._refuse(jobs)

    def _roll_back(self) -> None:
        self._forget()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _refuse(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            job.error = StopError(self._failure)

    def _finish(self) -> None:
        # A reader may hold the file, or the disk be full: then the log stays beside the file and nothing is lost.
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            # Back to one plain file, which can be copied, and read from a read-only folder.
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
