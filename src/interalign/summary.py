"""How a run stands: what progress is told, and what a run returns."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from interalign.calls import ReplyCounts, Usage
from interalign.judged import JudgeCounts
from interalign.tree import Frozen

if TYPE_CHECKING:
    from interalign.store import Store


class Shortfalls(Frozen):
    """What a run has less of than its number of trees says."""

    judge: JudgeCounts | None
    """Of the judge whose verdicts are meant; None if none was asked."""
    replies: dict[str, ReplyCounts]
    """By role, over all calls in the file."""

    def __str__(self) -> str:
        """One line; empty if nothing fell short."""
        missing = self.judge is not None and self.judge.missing > 0
        parts = [
            f"{self.judge.missing} of {self.judge.asked} answers of judge {self.judge.judge} are missing"
            if self.judge is not None and missing
            else "",
            _by_role("asked again", {role: count.asked_again for role, count in self.replies.items()}),
            _by_role("cut at the length limit", {role: count.cut for role, count in self.replies.items()}),
        ]
        return "; ".join(part for part in parts if part)


def shortfalls(store: "Store", judge: str | None) -> Shortfalls:
    """What fell short in an open run, as this judge saw it."""
    return Shortfalls(judge=None if judge is None else store.judge_counts(judge), replies=store.reply_counts())


def _by_role(what: str, counts: Mapping[str, int]) -> str:
    said = ", ".join(f"{role} {count:,}" for role, count in counts.items() if count)
    return f"{what}: {said}" if said else ""


class RunSummary(Frozen):
    """How a run stands, or what came of it."""

    run: Path
    trees: int
    done: int
    failed: dict[str, str]
    """Tree id -> why it failed. Running the same command again tries just these again."""
    calls: int
    """Model calls made now; what the ledger already had is not among them."""
    replayed: int
    """Calls answered from the ledger."""
    in_flight: int = 0
    """Calls being answered at this moment."""
    stopping: str | None = None
    """Why no call is begun any more; None while the run goes on."""
    retried: int = 0
    """Requests that were sent again."""
    usage: dict[str, Usage] = {}
    """By role, over all calls in the file."""
    shortfalls: Shortfalls | None = None
    """Missing, cut and asked-again values; None while the run is going on."""
    usd: float | None = None
    """What all calls in the file cost; None without a price table."""


Progress = Callable[[RunSummary], None]
"""Told twice a second and at the end how the run stands."""
