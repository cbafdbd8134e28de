"""Scores of content, style and engagement beside the whole: the mean of each, with an interval over profiles."""

from collections.abc import Iterator

import numpy as np

from interalign.eval.intervals import (
    RESAMPLES,
    Interval,
    bootstrap_interval,
    mean_over_turns,
    profile_sums,
    resampled_curves,
)
from interalign.tree import ASPECTS, Aspect, Frozen, JudgedTree


class AspectFigures(Frozen):
    """One aspect of one candidate's replies."""

    candidate: str
    """As in `candidates`: a simulation's hinted replies are apart, under `NAME+hint`."""
    aspect: Aspect
    mean: float | None
    """Mean over the turns, of each the mean over its replies, as mean AL is of whole scores."""
    ci: Interval | None
    n: int
    missing: int
    """Replies with a score of the whole and none of this aspect."""


class AspectTally:
    """The aspects that one judge scored, tree by tree."""

    def __init__(self, judge: str | None, turns: int) -> None:
        self._judge = judge
        self._turns = turns
        self._profiles: dict[str, list[str]] = {}
        """Candidate -> profile of each row."""
        self._values: dict[str, list[dict[Aspect, list[list[float]]]]] = {}
        """Candidate -> a row a tree: aspect -> turn by turn the scores."""
        self._scored: dict[str, int] = {}

    def add(self, judged: JudgedTree, profile: str) -> None:
        """Count one tree, of a persona with this profile."""
        rows: dict[str, dict[Aspect, list[list[float]]]] = {}
        for score in judged.scores:
            if score.judge != self._judge or score.value is None:
                continue
            node = judged.tree.node(score.node)
            row = rows.setdefault(node.label, {aspect: [[] for _ in range(self._turns)] for aspect in ASPECTS})
            self._scored[node.label] = self._scored.get(node.label, 0) + 1
            for aspect, value in score.aspects.items():
                row[aspect][node.turn - 1].append(value)
        for label, row in rows.items():
            self._values.setdefault(label, []).append(row)
            self._profiles.setdefault(label, []).append(profile)

    def figures(self, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[AspectFigures, ...]:
        """Three figures a candidate, in the order first met; none if nobody was asked for aspects."""
        found = (each for label in self._values for each in self._of(label, resamples, seed))
        return tuple(found) if self._has_any() else ()

    def _has_any(self) -> bool:
        return any(values for rows in self._values.values() for row in rows for each in row.values() for values in each)

    def _of(self, label: str, resamples: int, seed: int) -> Iterator[AspectFigures]:
        for aspect in ASPECTS:
            turns = [row[aspect] for row in self._values[label]]
            means = np.array([[np.mean(values) if values else np.nan for values in row] for row in turns])
            n = sum(len(values) for row in turns for values in row)
            sums = profile_sums(means, self._profiles[label])
            drawn = mean_over_turns(resampled_curves(sums, resamples=resamples, seed=seed))
            yield AspectFigures(
                candidate=label,
                aspect=aspect,
                mean=_mean_over_turns(means) if n else None,
                ci=bootstrap_interval(drawn, len(sums.sums)),
                n=n,
                missing=self._scored[label] - n,
            )


def _mean_over_turns(means: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
    there = means[:, np.isfinite(means).any(axis=0)]
    return float(np.nanmean(there, axis=0).mean())
