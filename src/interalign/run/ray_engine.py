"""`--engine ray`: stateless tasks work on a batch of trees each; this process alone writes the run file.

Back-pressure: a batch is split off the run when a task can take it, and merged when it comes back, so that neither
memory nor the number of files grows with the run. A batch whose worker was lost is tried again, and replays what is on
record in its file. Files lie in `RUN.db.workers`, as those of worker processes do; what is left there after a kill, the
next command brings back.
"""

import asyncio
import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from interalign.config import EngineSettings
from interalign.config.engines import ray_address
from interalign.errors import ConfigError, InteralignError, StopError
from interalign.files import put_run_file
from interalign.records import RunSummary, TreeRecord
from interalign.run.ray_cluster import ray_cluster
from interalign.run.ray_task import GrownBatch, batch_orders, grow_batch, packed, unpacked
from interalign.run.session import Session
from interalign.run.tree_work import TreeWork
from interalign.run.worker_orders import orders_for
from interalign.run.workers import count_again, runtime_of_one
from interalign.store.worker_files import gather, gather_one, recover

_ATTEMPTS: Final = 5
"""How often a batch is begun whose worker is lost each time."""
_ROUNDS: Final = 4
"""Batches a task slot has at least, so that all end at about the same time."""
_TREES_A_CALL: Final = 16
"""Trees of a batch at most, for each call a task may have in flight: one is done before half of them would be lost."""
_LONGEST_STOP: Final = 15.0
"""Seconds that tasks get to stop cleanly: calls in flight have 10."""
_LOG = logging.getLogger("interalign")


async def work_on_ray(session: Session, work: TreeWork, engine: EngineSettings) -> None:
    """Have all trees worked on in Ray tasks. When all have ended, raises the first error of theirs."""
    asked = engine.asked_workers
    try:
        with ray_cluster(ray_address(engine.engine), asked) as ray:
            at_once = asked or max(1, int(ray.cluster_resources().get("CPU", 1)))
            tasks = RayTasks(session, work, ray, min(at_once, session.trees - session.done))
            await tasks.work_on_all()
    finally:
        gather(session.store)
        count_again(session, work)


class RayTasks:
    """The tasks of a run."""

    def __init__(self, session: Session, work: TreeWork, ray: Any, at_once: int) -> None:
        self._session = session
        self._work = work
        self._ray = ray
        self._at_once = at_once
        self._runtime = runtime_of_one(session, at_once)
        self._task = ray.remote(num_cpus=1, max_retries=0)(grow_batch)
        self._run = secrets.token_hex(8)
        self._refs: set[Any] = set()
        self._errors: list[InteralignError] = []

    async def work_on_all(self) -> None:
        """Keep so many tasks at work until every tree was tried, one has an error or the run is stopped."""
        trees = self._session.trees - self._session.done
        size = max(1, min(-(-trees // (_ROUNDS * self._at_once)), _TREES_A_CALL * self._runtime.concurrency))
        at_work: set[asyncio.Task[None]] = set()
        try:
            for number, batch in enumerate(batches(self._work.trees(), size), start=1):
                at_work.add(asyncio.create_task(self._outcome_of(number, batch)))
                while len(at_work) >= self._at_once:
                    at_work = await self._until_one_ends(at_work)
            while at_work:
                at_work = await self._until_one_ends(at_work)
        finally:
            await self._stop(at_work)
        if self._errors:
            raise self._errors[0]

    async def _until_one_ends(self, at_work: "set[asyncio.Task[None]]") -> "set[asyncio.Task[None]]":
        """Those that are left; the first error is raised."""
        self._session.note = f"{len(at_work)} Ray tasks"
        await self._session.ledger.unless_stopped(asyncio.wait(at_work, return_when=asyncio.FIRST_COMPLETED))
        for ended in [task for task in at_work if task.done()]:
            at_work.discard(ended)
            ended.result()
        return at_work

    async def _outcome_of(self, number: int, batch: Sequence[TreeRecord]) -> None:
        """Have a batch worked on, again if its worker is lost, and merge it."""
        file = self._work.split_one(self._session.store, number, batch)
        told = batch_orders(orders_for(file, self._work.orders, self._runtime), f"{self._run}-{number}")
        for attempt in range(1, _ATTEMPTS + 1):
            grown = await self._outcome(told, file)
            if grown is not None:
                self._merge(file, grown)
                return
            recover(file)
            _LOG.warning("a Ray worker was lost; attempt %d at its batch, of %s, begins", attempt + 1, batch[0].id)
        raise StopError(
            f"{_ATTEMPTS} Ray workers in a row were lost over the batch that begins with tree {batch[0].id} (out of "
            "memory?); what was finished is kept, run the same command again to go on"
        )

    async def _outcome(self, told: dict[str, Any], file: Path) -> GrownBatch | None:
        """What came of a task; None if its worker was lost."""
        errors = self._ray.exceptions
        ref = self._task.remote(told, packed(file))
        self._refs.add(ref)
        try:
            return GrownBatch(*await asyncio.wrap_future(ref.future()))
        except errors.TaskCancelledError:
            raise StopError("interrupted") from None  # the reason is known where it was cancelled
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError):
            return None
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            raise ConfigError(
                f"a Ray task could not begin ({_last_line(error)}); install the same interalign on every machine of "
                "the cluster"
            ) from error
        except errors.RayError as error:  # above all LocalRayletDiedError: without it this process has no Ray any more
            raise StopError(
                f"Ray failed ({_last_line(error)}); what was finished is kept, run the same command again to go on"
            ) from error
        finally:
            self._refs.discard(ref)

    def _merge(self, file: Path, grown: GrownBatch) -> None:
        for level, text in grown.log:
            _LOG.log(level, "%s", text)
        if grown.content is not None:
            put_run_file(file, unpacked(grown.content))
        gather_one(self._session.store, file)
        if grown.summary is not None:
            self._count(RunSummary.model_validate(grown.summary))
        if grown.ending.error is not None:
            raise grown.ending.error

    def _count(self, batch: RunSummary) -> None:
        """The batch's trees are in the run now; of its summary the calls that were made remain."""
        session = self._session
        session.done += batch.done
        session.failed.update(batch.failed)
        made = batch.model_copy(update={"done": 0, "failed": {}, "usage": {}, "usd": 0.0, "in_flight": 0})
        session.parts[0] = session.parts[0].with_part(made) if 0 in session.parts else made

    async def _stop(self, at_work: "set[asyncio.Task[None]]") -> None:
        """Have the tasks that are still at work stop as at Ctrl-C, and merge what they have."""
        for ref in self._refs:
            with suppress(Exception):
                self._ray.cancel(ref, force=False)
        if at_work:
            await asyncio.wait(at_work, timeout=_LONGEST_STOP)
        for task in at_work:
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)


def _last_line(error: Exception) -> str:
    """Of what Ray says: before it stands the traceback of another process."""
    return str(error).strip().rpartition("\n")[2] or type(error).__name__


def batches(trees: Iterable[TreeRecord], size: int) -> Iterator[list[TreeRecord]]:
    """These trees, so many at a time, each once: those of earlier batches may come again, having failed."""
    batch: list[TreeRecord] = []
    last = -1
    for record in trees:
        if record.index <= last:
            continue
        last = record.index
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
