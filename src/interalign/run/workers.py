"""`--workers N`: processes that work on a share of the trees each, in a file of its own, which is then brought back.

So every file has one writer. The files lie in `RUN.db.workers` until they are merged; after a kill at any moment the
next command on the run brings back what is there.
"""

import asyncio
import json
import logging
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from interalign.config import Runtime
from interalign.errors import InteralignError, StopError
from interalign.records import RunSummary
from interalign.run.session import Session
from interalign.run.tree_work import TreeWork
from interalign.run.worker_orders import WorkerEnding, orders_for
from interalign.store.worker_files import folder_of, gather

_LONGEST_LINE = 2**26
"""Bytes of a message at most: it names every failed tree."""
_LOG = logging.getLogger("interalign")


async def work_in_workers(session: Session, work: TreeWork, workers: int) -> None:
    """Have all trees worked on in so many processes. When all have ended, raises the first error of theirs."""
    files = work.split(session.store, workers)
    runtime = runtime_of_one(session, workers)
    try:
        await _work(session, [orders_for(file, work.orders, runtime) for file in files])
    finally:
        gather(session.store)
        count_again(session, work)


def runtime_of_one(session: Session, workers: int) -> Runtime:
    """Each has its part of the calls in flight; the limits they share."""
    if session.budget is not None and session.budget_file is None:
        folder = folder_of(session.store.path)
        folder.mkdir(exist_ok=True)
        session.share_budget(folder / "shared.budget")
    if session.budget is not None:
        session.settle_spent()  # calls of unfinished trees are in the workers' files now
        session.budget.close()
    shared = None if session.budget_file is None else str(session.budget_file.absolute())
    concurrency = -(-session.runtime.concurrency // workers)
    return session.runtime.model_copy(update={"concurrency": concurrency, "budget": shared})


def count_again(session: Session, work: TreeWork) -> None:
    """What the workers have done is the run's own now; of themselves the calls that they made remain."""
    for part in session.parts.values():
        session.done += part.done
        session.failed.update(part.failed)
    if work.count is not None:
        work.count()
    gone = {"done": 0, "failed": {}, "usage": {}, "usd": 0.0, "in_flight": 0}
    session.parts = {number: part.model_copy(update=gone) for number, part in session.parts.items()}
    session.register_spent()


async def _work(session: Session, orders: Sequence[Mapping[str, Any]]) -> None:
    processes: list[Process] = []
    try:
        for told in orders:
            processes.append(await _started(told))  # noqa: PERF401  (those begun are known)
        errors: list[InteralignError] = []
        listening = [_listen(session, number, process, errors) for number, process in enumerate(processes, start=1)]
        tasks = [asyncio.ensure_future(each) for each in listening]
        try:
            await session.ledger.unless_stopped(_until_an_error(tasks, errors))
        except StopError:
            await _stop(processes, tasks)
            raise
        await _stop(processes, tasks)
        if errors:
            raise errors[0]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _until_an_error(tasks: "Sequence[asyncio.Future[None]]", errors: Sequence[InteralignError]) -> None:
    """Wait until all workers are done, or one has ended with an error."""
    for task in asyncio.as_completed([asyncio.shield(task) for task in tasks]):
        await task
        if errors:
            return


async def _stop(processes: Sequence[Process], tasks: "Sequence[asyncio.Future[None]]") -> None:
    """Have those that are still at work stop as at Ctrl-C, and wait for them."""
    for process in processes:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
    await asyncio.wait(tasks)


async def _started(orders: Mapping[str, Any]) -> Process:
    """A worker, told what to do. It ends at once when its standard input does, as when this process is killed."""
    words = (sys.executable, "-m", "interalign.run.worker")
    # It begins with SIGINT blocked, so that one that comes while it is still importing waits until it can be handled.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        # A session of its own: Ctrl-C reaches this process alone, which then has its workers stop.
        process = await asyncio.create_subprocess_exec(
            *words, stdin=PIPE, stdout=PIPE, limit=_LONGEST_LINE, start_new_session=True
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert process.stdin is not None
    told = {"folder": str(Path.cwd()), "path": sys.path, **orders}
    process.stdin.write(json.dumps(told).encode() + b"\n")
    await process.stdin.drain()
    return process


async def _listen(session: Session, number: int, process: Process, errors: list[InteralignError]) -> None:
    """Hear how a worker stands until it ends, and if its share is not done by then, why."""
    assert process.stdout is not None
    end: dict[str, Any] | None = None
    async for line in process.stdout:
        said: dict[str, Any] = json.loads(line)
        if "summary" in said:
            session.parts[number] = RunSummary.model_validate(said["summary"])
        elif "log" in said:
            _LOG.log(said["level"], "%s", said["log"])
        else:
            end = said
    error = error_of_worker(number, end, await process.wait())
    if error is not None:
        errors.append(error)


def error_of_worker(number: int, end: dict[str, Any] | None, code: int) -> InteralignError | None:
    """Why a worker ended, by the last that it said and its exit code; None if its share is done."""
    if end is None:
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        how += " (out of memory?)" if code == -signal.SIGKILL else ""
        return StopError(f"worker {number} ended {how}; what was finished is kept, run the same command again to go on")
    return WorkerEnding(end["end"], end["code"]).error
