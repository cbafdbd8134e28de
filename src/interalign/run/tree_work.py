"""Work on single trees of an open run that other processes can share: growing them, or judging stored ones.

What an engine maps over: a tree's result depends on its tree alone, so that it does not matter who works on it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from interalign.config import RunSettings
from interalign.records import TreeRecord
from interalign.run.session import Session
from interalign.store import Store
from interalign.store.worker_files import split, split_one, split_one_to_judge, split_to_judge


@dataclass(frozen=True)
class TreeWork:
    """What is to be done with trees of a run."""

    orders: Mapping[str, Any]
    """What a process is told that does it with the trees of a file, as JSON; `worker_orders` carries it out."""
    trees: Callable[[], Iterator[TreeRecord]]
    """The trees that wait for it, by index, from the first one each time."""
    split: Callable[[Store, int], list[Path]]
    """Files with a share of these trees for each of so many processes."""
    split_one: Callable[[Store, int, Sequence[TreeRecord]], Path]
    """A file of this number with these trees alone."""
    count: Callable[[], None] | None = None
    """Counts trees by what the run's file says of them; None: it does not say whether the work on them is done."""


def growing(session: Session, settings: RunSettings) -> TreeWork:
    """To grow the trees that are not done; the run keeps the plan of them meanwhile."""
    shard = getattr(settings, "shard", None)
    orders = {
        "kind": type(settings).__name__,
        "settings": {**settings.model_dump(mode="json"), "shard": None if shard is None else str(shard)},
        "trusted": [judge for judge in settings.judges if session.store.has_readable(judge)],
    }
    trees = partial(session.store.walk_trees, "planned", "failed")
    return TreeWork(orders, trees, split, split_one, count=session.count)


def judging(session: Session, kind: str, judge: str, trees: Callable[[], Iterator[TreeRecord]]) -> TreeWork:
    """To have these finished trees judged, or audited, by a judge; the run keeps them meanwhile."""
    trusted = [judge] if session.store.has_readable(judge) else []
    orders = {"kind": kind, "judge": judge, "trusted": trusted}
    return TreeWork(orders, trees, partial(_split_to_judge, trees), split_one_to_judge)


def _split_to_judge(trees: Callable[[], Iterator[TreeRecord]], run: Store, workers: int) -> list[Path]:
    return split_to_judge(run, workers, trees)
