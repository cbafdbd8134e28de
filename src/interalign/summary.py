"""How a run stands: what progress is told, and what a run returns."""

from collections.abc import Callable
from pathlib import Path

from interalign.calls import Usage
from interalign.tree import Frozen


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
    usd: float | None = None
    """What all calls in the file cost; None without a price table."""

    @property
    def reasons(self) -> dict[str, list[str]]:
        """Why trees failed: reason -> their ids, the reason of most trees first."""
        found: dict[str, list[str]] = {}
        for tree, reason in sorted(self.failed.items()):
            found.setdefault(reason, []).append(tree)
        return dict(sorted(found.items(), key=lambda one: -len(one[1])))


Progress = Callable[[RunSummary], None]
"""Told twice a second and at the end how the run stands."""
