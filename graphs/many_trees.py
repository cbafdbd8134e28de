"""Many trees at once: each on its own feet, so that one bad tree never stops the others."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from interalign.errors import BadContentError, FailedTreeError, InteralignError, StopError

Job = tuple[str, Callable[[], Awaitable[None]]]
"""A tree's id and the work on it."""
Finish = Callable[[str, Exception | None], Awaitable[None]]
"""Told of each tree that ended: its id and why it failed (None: it is done)."""


async def each_tree(jobs: Iterable[Job], finish: Finish, *, at_once: int) -> None:
    """Do the work on all trees, at most `at_once` in progress. Raises StopError when no tree can go on.

    A tree that fails on its own is reported to `finish` with the reason; the others go on.
    """
    slots = asyncio.Semaphore(at_once)

    async def one(tree: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await finish(tree, await _outcome(work))
        finally:
            slots.release()

    with _new_garbage_only():
        async with unwrapped(), asyncio.TaskGroup() as group:
            for tree, work in jobs:
                await slots.acquire()  # here, not in the task: a plan of millions must not become millions of tasks
                group.create_task(one(tree, work))


@contextmanager
def _new_garbage_only() -> Iterator[None]:
    """Let the garbage collector leave alone what is there already: modules and graphs, some 300,000 objects.

    Looking through them time and again took a tenth of a run's CPU.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _outcome(work: Callable[[], Awaitable[None]]) -> Exception | None:
    """None when the tree is done, else why it failed; whatever concerns all trees is raised."""
    try:
        async with unwrapped():
            await work()
    except (FailedTreeError, BadContentError) as error:
        return error
    return None


@asynccontextmanager
async def unwrapped() -> AsyncIterator[None]:
    """Task groups raise groups of errors: one of them says what to do, a stop before a failed tree."""
    try:
        yield
    except BaseExceptionGroup as group:
        leaves = list(_leaves(group))
        ours = [error for error in leaves if isinstance(error, InteralignError)]
        foreign = [error for error in leaves if not isinstance(error, InteralignError)]
        stops = [error for error in ours if isinstance(error, StopError)]
        raise (foreign or stops or ours)[0] from None


def _leaves(error: BaseException) -> Iterable[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
