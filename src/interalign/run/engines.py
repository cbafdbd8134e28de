"""The engines: work on the trees of a run, done in this process, in worker processes or on Ray."""

from collections.abc import Awaitable, Callable

from interalign.config import EngineSettings
from interalign.config.engines import LOCAL
from interalign.run.session import Session
from interalign.run.tree_work import TreeWork
from interalign.run.workers import work_in_workers


async def work_on(
    session: Session, work: TreeWork, engine: EngineSettings, here: Callable[[], Awaitable[None]]
) -> None:
    """Have the trees worked on where these settings say; `here` does it in this process.

    Raises the first error of those that were at work, when all of them have ended.
    """
    left = session.trees - session.done
    if engine.engine != LOCAL and left:
        from interalign.run.ray_engine import work_on_ray

        await work_on_ray(session, work, engine)
    elif min(engine.workers, left) > 1:
        await work_in_workers(session, work, min(engine.workers, left))
    else:
        await here()
