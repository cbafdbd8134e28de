"""The one thread that writes a run file: it takes what is queued, commits it as one transaction, tells the waiters."""

import asyncio
import concurrent.futures
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from interalign.errors import StopError
from interalign.runfile import as_ours

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""SQL to run inside the writer's transaction; its value goes to the waiter after the commit."""

_APART = 0.008
"""Seconds between two commits while more replies are on their way: some hundred fsyncs a second are enough."""


@dataclass(slots=True)
class _Job:
    work: Work[Any]
    future: "asyncio.Future[Any] | concurrent.futures.Future[Any]"
    settled: Callable[[], object] | None = None
    result: Any = None
    error: Exception | None = None


class Writer:
    """Group commit: under load one fsync serves many waiters, idle it serves one at once."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, complete: Callable[[], None], forget: Callable[[], None]
    ) -> None:
        """Both are called in the writer's thread.

        `complete`: before a commit, to do what the transaction's jobs have put off. `forget`: after a rollback, to drop
        that and what was cached from the transaction.
        """
        self._connection = connection
        self._path = path
        self._complete = complete
        self._forget = forget
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._failure: str | None = None
        self._closed = False
        self._last_commit = 0.0
        self.commits = 0
        """Transactions committed so far."""
        self.more_to_come: Callable[[], bool] = lambda: False
        """Says whether other replies are on their way; then it pays to wait a moment for them."""
        self._thread = threading.Thread(target=self._serve, name=f"interalign writer of {path.name}", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T], settled: Callable[[], object] | None = None) -> "asyncio.Future[T]":
        """Queue work from a coroutine; the future is done once it is committed. StopError once writing has failed.

        `settled` is called in the loop when the work was committed or has failed, also if the future was cancelled.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put(_Job(work, future, settled))
        return future

    def run(self, work: Work[T]) -> T:
        """Do work now and wait for its commit. StopError once writing has failed."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._put(_Job(work, future))
        return future.result()

    def close(self) -> None:
        """Commit what is queued, fold the log into the file, end the thread; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def refuse_if_stopped(self) -> None:
        """StopError once writing has failed or the file was closed."""
        if self._closed or self._failure is not None:
            raise StopError(self._failure or f"{self._path} was closed; open it again to go on")

    def _put(self, job: _Job) -> None:
        self.refuse_if_stopped()
        self._queue.put(job)

    def _serve(self) -> None:
        ended = False
        while not ended:
            taken = list(self._take())
            jobs = [job for job in taken if job is not None]
            self._commit(jobs)
            _tell(jobs)
            ended = None in taken
        self._finish()

    def _take(self) -> Iterator[_Job | None]:
        """All that is queued by now, at least one; None is the end mark and the last of all."""
        job = self._queue.get()
        self._linger()
        yield job
        while not self._queue.empty():
            yield self._queue.get()

    def _linger(self) -> None:
        pause = self._last_commit + _APART - time.monotonic()
        if pause > 0 and self.more_to_come():
            time.sleep(pause)

    def _commit(self, jobs: Sequence[_Job]) -> None:
        """One transaction for all jobs. If one of them is at fault, each gets its own and only that one fails."""
        if self._failure is not None:
            self._refuse(jobs)
            return
        try:
            self._transaction(jobs)
        except sqlite3.Error as error:
            self._failure = str(as_ours(self._path, error))
            self._refuse(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the one who queued the job
            if len(jobs) == 1:
                jobs[0].error = error
                return
            for job in jobs:
                self._commit([job])

    def _refuse(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            job.error = StopError(self._failure)

    def _transaction(self, jobs: Sequence[_Job]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for job in jobs:
                job.result = job.work(self._connection)
            self._complete()
            self._connection.execute("COMMIT")
        except BaseException:
            self._forget()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self.commits += 1
        self._last_commit = time.monotonic()

    def _finish(self) -> None:
        # A reader may hold the file, or the disk be full: then the log stays beside the file and nothing is lost.
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            # Back to one plain file, which can be copied, and read from a read-only folder.
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()


def _tell(jobs: Sequence[_Job]) -> None:
    """Resolve the waiters: those of an event loop in one wake-up of that loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        if isinstance(job.future, asyncio.Future):
            by_loop.setdefault(job.future.get_loop(), []).append(job)
        else:
            _resolve([job])
    for loop, waiting in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more, and the work is committed
            loop.call_soon_threadsafe(_resolve, waiting)


def _resolve(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.settled is not None:
            job.settled()
        if job.future.done():  # the waiter was cancelled
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)
