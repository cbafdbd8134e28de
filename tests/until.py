"""Order by events: wait for what must have happened, not for a time in which it probably has."""

import asyncio
from collections.abc import Callable

LONG = 60.0
"""Seconds after which it will not happen any more."""


async def until(happened: Callable[[], object]) -> None:
    """Wait for something that no event tells: it happens in a thread or within the code under test."""
    async with asyncio.timeout(LONG):
        while not happened():  # noqa: ASYNC110  (that is what it is for)
            await asyncio.sleep(0.001)


async def rounds(number: int = 100) -> None:
    """Let all that is ready run, so often that what should not happen would have happened."""
    for _ in range(number):
        await asyncio.sleep(0)
