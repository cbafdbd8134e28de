"""A chain of steps, each of which says how far it is and, in one line, what came out: the demo, and rounds."""

from collections.abc import Callable
from typing import NamedTuple

from interalign.records import RunSummary

Advance = Callable[[float], None]
"""Told how much of a step is done, 0 to 1."""


class Step(NamedTuple):
    """One step of a chain."""

    title: str
    run: Callable[[Advance], str]
    """Does it and says in one line what came out."""


def growing(advance: Advance) -> Callable[[RunSummary], None]:
    """The progress of a run as that of a step."""
    return lambda run: advance((run.done + len(run.failed)) / run.trees)


def training(advance: Advance) -> Callable[[int, int, float | None], None]:
    """The progress of a training run as that of a step."""
    return lambda done, total, loss: advance(done / total)


def calls_made(run: RunSummary) -> str:
    """How many model calls a run has just made, in words."""
    return f"{run.calls:,} model calls" if run.calls or not run.done else "no new call: the ledger had them all"
