"""The clock of tests: it must fail where a real one would hang."""

import asyncio

import pytest
from virtual_time import VirtualTime

from interalign.models.governor import Governor


def test_waits_end_in_their_order_and_take_exactly_their_time() -> None:
    time, ended = VirtualTime(), []

    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)
        ended.append((seconds, time()))

    async def both() -> None:
        await asyncio.gather(wait(3600), wait(60), wait(0))

    time.run(both())
    assert ended == [(0, 1000.0), (60, 1060.0), (3600, 4600.0)]


def test_a_timeout_ends_what_waits_for_something_that_does_not_happen() -> None:
    async def wait() -> None:
        async with asyncio.timeout(60):
            await asyncio.Event().wait()

    time = VirtualTime()
    with pytest.raises(TimeoutError):
        time.run(wait())
    assert time() == 1060.0


def test_what_would_wait_for_ever_fails() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="for ever"):
        VirtualTime().run(wait())


def test_without_a_clock_a_governor_goes_by_that_of_the_event_loop() -> None:
    async def sent() -> tuple[float, float, float]:
        loop = asyncio.get_running_loop()
        return loop.time(), await Governor(1, 10).enter(), loop.time()

    before, at, after = asyncio.run(sent())
    assert before <= at <= after
