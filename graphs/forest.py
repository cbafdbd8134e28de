"""Many trees at once: each on its own feet, so that one bad tree never stops the others."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from interalign.errors import BadContentError, FailedTreeError, InteralignError, StopError
from interalign.graphs.tree import Growth, grow_tree
from interalign.graphs.turn import Conversation

Finish = Callable[[str, str | None], Awaitable[None]]
"""Told of each tree that ended: its id and why it failed (None: it is done)."""


async def grow_forest(plans: Iterable[tuple[Conversation, Growth]], finish: Finish, *, at_once: int) -> None:
    """Grow all trees, at most `at_once` in progress. Raises StopError when no tree can go on.

    A tree that fails on its own is reported to `finish` with the reason; the others go on.
    """
    room = asyncio.Semaphore(at_once)

    async def one(conversation: Conversation, growth: Growth) -> None:
        try:
            reason = await _outcome(conversation, growth)
            await finish(conversation.tree, reason)
        finally:
            room.release()

    async with unwrapped(), asyncio.TaskGroup() as group:
        for conversation, growth in plans:
            await room.acquire()  # here, not in the task: a plan of millions must not become millions of tasks
            group.create_task(one(conversation, growth))


async def _outcome(conversation: Conversation, growth: Growth) -> str | None:
    """None when the tree is done, else why it failed; whatever concerns all trees is raised."""
    try:
        async with unwrapped():
            await grow_tree(conversation, growth)
    except (FailedTreeError, BadContentError) as error:
        return str(error)
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
