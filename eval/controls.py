"""Personal fit: scores under the own persona less scores of the same replies under another one."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from interalign.eval.intervals import Floats, Interval, bootstrap_interval, resampled_sums
from interalign.records import CONTROL
from interalign.tree import Frozen, JudgedTree


class ControlFigures(Frozen):
    """One candidate's replies, each scored for the user it was meant for and for another one."""

    candidate: str
    n: int
    """Replies with both scores."""
    own: float
    """Mean score for the user it was meant for."""
    other: float
    """Mean score of the same replies for another one: what anybody might like."""
    fit: float
    """`own` - `other`: what is personal."""
    ci: Interval | None
    """95 % bootstrap interval of `fit` over profiles."""


class ControlTally:
    """Counts controls tree by tree."""

    def __init__(self, judge: str | None) -> None:
        self._judge = judge
        self._sums: dict[str, dict[str, Floats]] = defaultdict(dict)

    def add(self, judged: JudgedTree, profile: str) -> None:
        """Count one tree, of a persona with this profile."""
        own = {score.node: score.value for score in judged.scores if score.judge == self._judge}
        for note in judged.annotations:
            if (note.name, note.by) == (CONTROL, self._judge) and isinstance(note.value, Mapping):
                one, other = own.get(note.node), note.value.get("score")
                if one is not None and isinstance(other, int | float):
                    sums = self._sums[judged.tree.node(note.node).by]
                    sums[profile] = sums.get(profile, np.zeros(3)) + np.array([one, other, 1.0])

    def figures(self) -> tuple[ControlFigures, ...]:
        """The figures of all trees that were added, a candidate each; empty without a control."""
        return tuple(_figures(candidate, list(sums.values())) for candidate, sums in self._sums.items())


def _figures(candidate: str, sums: Iterable[Floats]) -> ControlFigures:
    units = np.stack(list(sums))
    own, other, n = units.sum(axis=0)
    drawn = resampled_sums(units)
    interval = bootstrap_interval((drawn[:, 0] - drawn[:, 1]) / drawn[:, 2], len(units))
    return ControlFigures(
        candidate=candidate, n=int(n), own=own / n, other=other / n, fit=(own - other) / n, ci=interval
    )
