"""Prediction-powered inference: a judge's figure over all replies, put right by people's labels of some.

PPI++ (Angelopoulos, Duchi and Zrnic 2023): the judge's figure over all replies, plus the mean difference between people
and judge over the labelled ones, the judge weighted (lambda) so that the variance is least. It differs from the paper
in two points: labels may be drawn with unequal probabilities and are weighted by one over them, divided by the sum of
these weights (Hajek), so that only their proportions matter; and the unit is a profile with all its replies, by a
jackknife that leaves out one profile at a time.

Mean AL and IR are level and slope of a line over the turns, fitted to the labelled replies with weights under which
every turn counts the same. If all replies were labelled, this would be the mean of AL(k) and its slope; so a few
labels scattered over the turns suffice, and a turn may have none.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from interalign.eval.intervals import Floats
from interalign.eval.labelled_scores import LabelledScores
from interalign.eval.metrics import FLAT


class TurnSums(NamedTuple):
    """Sums by turn, shape (1 + profiles, turns): over everything, then with one profile after the other left out."""

    present: Floats
    """Replies with a score."""
    judge: Floats
    """Their scores."""
    n: Floats
    """Labelled replies."""
    weight: Floats
    """Their weights, each 1 / probability."""
    people: Floats
    """Weighted labels."""
    same: Floats
    """Weighted scores of the judge for the same replies."""


def turn_sums(one: LabelledScores, names: Sequence[str]) -> TurnSums:
    """Profiles in the order of `names`, which holds each of them."""
    scored, used = np.isfinite(one.scores), np.isfinite(one.labels)
    scores = np.where(scored, one.scores, 0.0)
    weight = np.where(used, 1 / one.probabilities, 0.0)
    labels = np.where(used, one.labels, 0.0)
    tables = np.stack([scored, scores, used, weight, weight * labels, weight * scores], axis=1)
    place = {name: index for index, name in enumerate(names)}
    by_profile = np.zeros((len(names), *tables.shape[1:]))
    np.add.at(by_profile, [place[profile] for profile in one.profiles], tables)
    total = by_profile.sum(axis=0)
    return TurnSums(*np.moveaxis(np.concatenate([total[None], total - by_profile]), 1, 0))


class Estimates(NamedTuple):
    """Of one figure: over everything, then with one profile after the other left out; shape (1 + profiles,)."""

    people: Floats
    """By the labels alone."""
    same: Floats
    """By the judge, over the labelled replies."""
    judge: Floats
    """By the judge, over all replies."""

    def minus(self, other: "Estimates") -> "Estimates":
        """Of the difference of two figures, with the same profiles left out."""
        return Estimates(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


def estimates(sums: TurnSums, of_labelled: Floats, of_all: Floats) -> Estimates:
    """A figure that is a sum of mean scores by turn, times these coefficients of shape (1 + profiles, turns)."""
    return Estimates(
        people=(of_labelled * _ratio(sums.people, sums.weight, sums.n)).sum(axis=1),
        same=(of_labelled * _ratio(sums.same, sums.weight, sums.n)).sum(axis=1),
        judge=(of_all * _ratio(sums.judge, sums.present, sums.present)).sum(axis=1),
    )


class TurnLine(NamedTuple):
    """Mean AL and IR."""

    level: Estimates
    slope: Estimates
    of_level: Floats
    """What the mean label of each turn counts in mean AL, shape (turns,)."""
    of_slope: Floats


def line_of_turns(sums: TurnSums) -> TurnLine:
    """Mean AL and IR of one candidate."""
    met = sums.present > 0
    all_level, all_slope = _coefficients(met.astype(float), met)
    # Labels of a turn stand for all its replies, and every turn weighs the same: their weight over those replies.
    level, slope = _coefficients(_ratio(sums.weight, sums.present, sums.n), met)
    return TurnLine(estimates(sums, level, all_level), estimates(sums, slope, all_slope), level[0], slope[0])


def judge_error(line: TurnLine) -> Estimates:
    """Judge minus people over the labelled replies, to be weighted 0."""
    return Estimates(line.level.same - line.level.people, line.level.same, line.level.same)


def _coefficients(weights: Floats, met: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """By which the values of the turns give height, at the mean turn that is met, and slope of the weighted line.

    Both of the shape of `weights`, (rows, turns). NaN where the line is not defined: with weight at one turn only of
    several, or, for the slope, in a row that does not meet turns 1 to the last that the first row meets.
    """
    turns, total, n_met = np.arange(weights.shape[1]), weights.sum(axis=1)[:, None], met.sum(axis=1)[:, None]
    share = np.divide(weights, total, out=np.full_like(weights, np.nan), where=total > 0)
    centred = turns - _ratio((met * turns).sum(axis=1)[:, None], n_met, n_met)
    first, second = ((share * centred**power).sum(axis=1)[:, None] for power in (1, 2))
    spread = np.where(second - first**2 > FLAT, second - first**2, np.nan)
    slope = share * (centred - first) / spread
    alone = n_met == 1
    level = np.where(alone, share, share * (second - first * centred) / spread)
    gap = (met != (turns <= turns[met[0]].max(initial=-1))).any(axis=1)[:, None]
    return level, np.where(gap | alone, np.nan, slope)


def _ratio(above: Floats, below: Floats, count: npt.NDArray[Any]) -> Floats:
    """0 where nothing was counted; what is left there of a sum, after a profile was taken out, is rounding."""
    ratio: Floats = np.divide(above, below, out=np.zeros_like(above, dtype=float), where=count > 0)
    return ratio


class Fitted(NamedTuple):
    """A figure with its variance."""

    value: float
    variance: float
    judge_weight: float


def fitted(found: Estimates, judge_weight: float | None = None) -> Fitted | None:
    """The estimate, with lambda of the least variance if none is given; None where a profile left out leaves nothing.

    The jackknife chooses lambda anew without each profile: with one lambda for all, intervals of 30 labels hold the
    truth 92 instead of 95 % of the time (`bench/coverage.py`).
    """
    gap = found.judge - found.same
    if not np.isfinite(found.people + gap).all():
        return None
    weights = _least_variance(found.people, gap) if judge_weight is None else np.full(len(gap), judge_weight)
    values = found.people + weights * gap
    return Fitted(float(values[0]), jackknife(values, values), float(weights[0]))


def _least_variance(people: Floats, gap: Floats) -> Floats:
    """Lambda with the least variance of people + lambda * gap: over everything, then without each profile.

    Held within 0 and 1, as in PPI++; 0 where the judge adds nothing.
    """
    of_people, of_gap = (each[1:] - each[1:].mean() for each in (people, gap))
    products, squares = of_people * of_gap, of_gap**2
    above, below = (each.sum() - np.append(0.0, each) for each in (products, squares))
    best: Floats = np.divide(-above, below, out=np.zeros_like(below), where=below > FLAT**2)
    return best.clip(0.0, 1.0)


def jackknife(one: Floats, other: Floats) -> float:
    """Covariance of two figures, each given over everything and with one profile after the other left out."""
    units = len(one) - 1
    return float((units - 1) / units * ((one[1:] - one[1:].mean()) @ (other[1:] - other[1:].mean())))


class Spread(NamedTuple):
    """What the choice of labelled replies adds to a figure's variance; each of shape (labels,)."""

    squares: Floats
    """Squared deviation that each labelled reply brings in."""
    chances: Floats
    """With which it was drawn, such that their inverses sum to all replies."""


def label_spread(one: LabelledScores, line: TurnLine, of_turn: Floats, judge_weight: float) -> Spread:
    """Of the figure that is the sum of the turns' mean labels times `of_turn`."""
    used = np.isfinite(one.labels)
    turn = np.nonzero(used)[1]
    weight = 1 / one.probabilities[used]
    by_turn = np.bincount(turn, weight, minlength=one.scores.shape[1])
    height, slope = (each.people[0] - judge_weight * each.same[0] for each in (line.level, line.slope))
    middle = np.nonzero(np.isfinite(one.scores).any(axis=0))[0].mean()
    line_at = height + (slope * (turn - middle) if np.isfinite(slope) else 0.0)
    residual = one.labels[used] - judge_weight * one.scores[used] - line_at
    effect = of_turn[turn] * weight / by_turn[turn] * residual
    chances = np.minimum(1.0, weight.sum() / np.isfinite(one.scores).sum() / weight)
    return Spread(effect**2, chances)


def labels_to_halve(spreads: Sequence[Spread], variance: float) -> int | None:
    """Labels, drawn with the same chances times a factor, at most 1, with which a quarter of `variance` is left.

    What is left when the labels' own part is taken out of the variance is the profiles', and stays.
    """
    squares, chances = (np.concatenate(parts) for parts in zip(*spreads, strict=True))

    def of_labels(factor: float) -> float:
        return float(squares @ np.maximum(0.0, 1 / factor - chances))

    goal = variance / 4 - max(0.0, variance - of_labels(1.0))
    if goal <= 0:
        return None
    low, high = 1.0, 1 / chances.min()
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if of_labels(middle) <= goal else (middle, high)
    return math.ceil(float((np.minimum(1.0, high * chances) / chances).sum()) - 1e-6)
