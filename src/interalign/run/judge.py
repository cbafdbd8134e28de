"""Judging the finished trees of a run again, by another judge: nothing is generated anew."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from interalign.config import EngineSettings, Runtime
from interalign.records import Progress, RunSummary, TreeRecord
from interalign.run.engines import work_on
from interalign.run.judging import judge_here, judge_role, unjudged
from interalign.run.session import Session, open_session, refuse_unjudgeable
from interalign.run.tree_work import TreeWork, judging


async def run_judging(
    path: Path,
    judge: str,
    runtime: Runtime,
    progress: Progress | None = None,
    engine: EngineSettings = EngineSettings(),  # noqa: B008  (frozen)
) -> RunSummary:
    """Judge every finished tree of which this judge has no readable answer yet, in the way the run was judged."""
    refuse_unjudgeable(path, "judge", judge, runtime)
    async with open_session(path, runtime, progress) as session:
        session.count()
        session.share_budget()
        role = judge_role(session, judge)
        session.count_to_judge()
        here = partial(judge_here, session, judge, role)
        if engine.is_shared:
            await work_on(session, _shared(session, judge), engine, here)
        else:
            await here()
        return session.outcome(judge)


def _shared(session: Session, judge: str) -> TreeWork:
    """To have every tree that waits for this judge judged elsewhere."""
    waiting = {record.id for record in session.store.walk_trees("done") if unjudged(session, record, judge)}
    session.done = session.trees - len(waiting)

    def trees() -> Iterator[TreeRecord]:
        return (record for record in session.store.walk_trees("done") if record.id in waiting)

    return judging(session, "judge", judge, trees)
