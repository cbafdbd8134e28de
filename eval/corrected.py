"""A judge's figures corrected by people's labels of some of the replies: prediction-powered inference.

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
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue
from scipy import stats

from interalign.errors import MetricError
from interalign.eval.intervals import LEVEL, Floats, Interval
from interalign.eval.metrics import FLAT, Scores

LEAST_LABELS: Final = 30
"""Labels of a candidate's replies below which nothing of it is corrected."""
LEAST_PROFILES: Final = 10
"""Profiles with labelled replies below which nothing is corrected."""
LEAST_AT_TURN: Final = 20
"""Labels at one turn below which AL of that turn is not corrected."""
ALARM: Final = 0.05
"""p of the transport audit below which the judge's error is said to differ between candidates."""
POWER: Final = 0.8
"""Of the audit, for the difference that it says it would have found."""


class LabelledScores(NamedTuple):
    """One candidate's scores by the judge, and by people where there are any; tables of shape (cases, turns)."""

    name: str
    scores: Scores
    """By the judge, 1 to 5; NaN where missing."""
    labels: Scores
    """By people, 1 to 5, the mean where several labelled a reply; NaN where nobody did."""
    probabilities: Floats
    """With which the reply was drawn for labelling; NaN where unknown: such a label is not used. Looked at only where
    there is a label, and not at all if every reply with a score has one."""
    cases: Sequence[str]
    """By which candidates are paired."""
    profiles: Sequence[str]
    """Of each case."""


class CorrectedFigure(NamedTuple):
    """What people would have said of all replies, estimated."""

    value: float
    ci: Interval
    """95 %."""
    judge_weight: float
    """Lambda, 0 to 1: how far the judge's scores are used. At 0 they do not help, and the labels stand alone."""
    labels_to_halve: int | None = None
    """Labels in all, drawn as these were, with which the interval is half as wide. None: no number of labels does it,
    because most of its width comes from the profiles; and for AL(k), of which it is not told."""


class CorrectedCandidate(NamedTuple):
    """A candidate's corrected figures; None where there is none to give."""

    name: str
    n_labels: int
    """Labels that were used."""
    n_profiles: int
    """Profiles that they are of."""
    al: tuple[CorrectedFigure | None, ...]
    al_mean: CorrectedFigure | None
    ir: CorrectedFigure | None
    error: CorrectedFigure | None
    """By how much the judge's mean AL is above that of people, over the labelled replies (`judge_weight` is 1)."""
    refused: str | None
    """Why nothing was corrected."""
    notes: tuple[str, ...] = ()
    """What was not corrected, or not used, and why."""


class CorrectedDifference(NamedTuple):
    """Candidate a minus candidate b over the (case, turn) places where both have a score of the judge."""

    a: str
    b: str
    n_labels: int
    delta_al: CorrectedFigure | None
    delta_ir: CorrectedFigure | None
    refused: str | None


class TransportAudit(NamedTuple):
    """Is the judge's error the same for each candidate? If not, its raw differences between them are wrong."""

    p: float | None
    """Of no difference between the candidates' mean errors (Hotelling's T-squared over profiles); None: refused."""
    detectable: float | None
    """The difference of two candidates' errors, in points, that would have been found with a probability of 80 %."""
    verdict: str


class Corrected(NamedTuple):
    """All that labels correct."""

    candidates: tuple[CorrectedCandidate, ...]
    comparisons: tuple[CorrectedDifference, ...]
    """Of every two candidates that share cases."""
    audit: TransportAudit


def corrected(candidates: Sequence[LabelledScores]) -> Corrected:
    """Every candidate's figures, corrected by the labels of its own replies, and whether the judge errs alike for all.

    Labels of one candidate are never used for another: a model that was trained against this judge may have learnt to
    please it, so that its error is not that of others.

    Raises MetricError for tables of different shapes, a label outside 1..5 or a probability outside 0..1.
    """
    checked = [_checked(one) for one in candidates]
    return Corrected(
        candidates=tuple(map(_candidate, checked)),
        comparisons=tuple(
            _difference(*both) for both in combinations(checked, 2) if set(both[0].cases) & set(both[1].cases)
        ),
        audit=_audit([one for one in checked if _refusal(one) is None]),
    )


def _checked(one: LabelledScores) -> LabelledScores:
    """With labels and probabilities only where both can be used, and probabilities 1 where everything is labelled."""
    _refuse_bad(one)
    scored, labelled = np.isfinite(one.scores), np.isfinite(one.labels)
    chances = np.ones_like(one.scores) if (labelled | ~scored).all() else one.probabilities
    used = scored & labelled & np.isfinite(chances)
    return one._replace(labels=np.where(used, one.labels, np.nan), probabilities=np.where(used, chances, np.nan))


def _refuse_bad(one: LabelledScores) -> None:
    shape, cases = one.scores.shape, len(one.cases)
    if not shape == one.labels.shape == one.probabilities.shape or not shape[0] == cases == len(one.profiles):
        raise MetricError(
            f"{one.name}: scores of shape {shape}, labels {one.labels.shape}, probabilities {one.probabilities.shape}, "
            f"{cases} cases and {len(one.profiles)} profiles; pass a row a case of each"
        )
    if len(set(one.cases)) < cases:
        raise MetricError(f"{one.name}: two cases have the same name; give each its own")
    if (bad := one.labels[(one.labels < 1) | (one.labels > 5)]).size:
        raise MetricError(f"{one.name}: a label is 1 to 5, got {bad[0]:g}")
    chances = one.probabilities
    if (bad := chances[(chances <= 0) | (chances > 1)]).size:
        raise MetricError(f"{one.name}: a probability is above 0 and at most 1, got {bad[0]:g}")


class _Sums(NamedTuple):
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


def _sums(one: LabelledScores, names: Sequence[str]) -> _Sums:
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
    return _Sums(*np.moveaxis(np.concatenate([total[None], total - by_profile]), 1, 0))


class _Estimates(NamedTuple):
    """Of one figure: over everything, then with one profile after the other left out; shape (1 + profiles,)."""

    people: Floats
    """By the labels alone."""
    same: Floats
    """By the judge, over the labelled replies."""
    judge: Floats
    """By the judge, over all replies."""

    def minus(self, other: "_Estimates") -> "_Estimates":
        return _Estimates(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


def _estimates(sums: _Sums, of_labelled: Floats, of_all: Floats) -> _Estimates:
    """A figure that is a sum of mean scores by turn, times these coefficients of shape (1 + profiles, turns)."""
    return _Estimates(
        people=(of_labelled * _ratio(sums.people, sums.weight, sums.n)).sum(axis=1),
        same=(of_labelled * _ratio(sums.same, sums.weight, sums.n)).sum(axis=1),
        judge=(of_all * _ratio(sums.judge, sums.present, sums.present)).sum(axis=1),
    )


class _Line(NamedTuple):
    """Mean AL and IR."""

    level: _Estimates
    slope: _Estimates
    of_level: Floats
    """What the mean label of each turn counts in mean AL, shape (turns,)."""
    of_slope: Floats


def _line(sums: _Sums) -> _Line:
    met = sums.present > 0
    all_level, all_slope = _coefficients(met.astype(float), met)
    # Labels of a turn stand for all its replies, and every turn weighs the same: their weight over those replies.
    level, slope = _coefficients(_ratio(sums.weight, sums.present, sums.n), met)
    return _Line(_estimates(sums, level, all_level), _estimates(sums, slope, all_slope), level[0], slope[0])


def _coefficients(weights: Floats, met: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """By which the values of the turns give height, at the mean turn that is met, and slope of the weighted line.

    Both of the shape of `weights`, (rows, turns). NaN where the line is not defined: with weight at one turn only of
    several, or, for the slope, in a row that does not meet turns 1 to the last that the first row meets.
    """
    turns = np.arange(weights.shape[1])
    centred = turns - _ratio((met * turns).sum(axis=1), met.sum(axis=1), met.sum(axis=1))[:, None]
    one, first, second = ((weights * centred**power).sum(axis=1)[:, None] for power in range(3))
    spread = one * second - first**2
    spread = np.where(spread > FLAT, spread, np.nan)
    slope = weights * (one * centred - first) / spread
    level = weights * (second - first * centred) / spread
    alone = met.sum(axis=1)[:, None] == 1
    level = np.where(alone, weights / np.where(one > 0, one, np.nan), level)
    gap = (met != (turns <= turns[met[0]].max(initial=-1))).any(axis=1)[:, None]
    return level, np.where(gap | alone, np.nan, slope)


def _ratio(above: Floats, below: Floats, count: npt.NDArray[Any]) -> Floats:
    """0 where nothing was counted; what is left there of a sum, after a profile was taken out, is rounding."""
    ratio: Floats = np.divide(above, below, out=np.zeros_like(above, dtype=float), where=count > 0)
    return ratio


class _Fitted(NamedTuple):
    """A figure with its variance."""

    value: float
    variance: float
    judge_weight: float


def _fitted(found: _Estimates, judge_weight: float | None = None) -> _Fitted | None:
    """The estimate, with lambda of the least variance if none is given; None where a profile left out leaves nothing.

    Lambda is held within 0 and 1, as in PPI++.
    """
    gap = found.judge - found.same
    if not np.isfinite(found.people + gap).all():
        return None
    if judge_weight is None:
        variance = _jackknife(gap, gap)
        judge_weight = 1.0 if variance < FLAT**2 else min(1.0, max(0.0, -_jackknife(found.people, gap) / variance))
    values = found.people + judge_weight * gap
    return _Fitted(float(values[0]), _jackknife(values, values), judge_weight)


def _jackknife(one: Floats, other: Floats) -> float:
    """Covariance of two figures, each given over everything and with one profile after the other left out."""
    units = len(one) - 1
    return float((units - 1) / units * ((one[1:] - one[1:].mean()) @ (other[1:] - other[1:].mean())))


def _figure(found: _Fitted, profiles: int, spread: Sequence["_Spread"] = ()) -> CorrectedFigure:
    """With an interval by Student's t for the profiles that have labels."""
    half = float(stats.t.ppf((1 + LEVEL) / 2, profiles - 1)) * math.sqrt(found.variance)
    halving = _labels_to_halve(spread, found.variance) if spread else None
    return CorrectedFigure(found.value, (found.value - half, found.value + half), found.judge_weight, halving)


class _Spread(NamedTuple):
    """What the choice of labelled replies adds to a figure's variance; each of shape (labels,)."""

    squares: Floats
    """Squared deviation that each labelled reply brings in."""
    chances: Floats
    """With which it was drawn, such that their inverses sum to all replies."""


def _spread(one: LabelledScores, line: _Line, of_turn: Floats, judge_weight: float) -> _Spread:
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
    return _Spread(effect**2, chances)


def _labels_to_halve(spreads: Sequence[_Spread], variance: float) -> int | None:
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


def _refusal(one: LabelledScores) -> str | None:
    used = np.isfinite(one.labels)
    n, profiles = int(used.sum()), _labelled_profiles(one)
    if n < LEAST_LABELS:
        return f"{one.name} is not corrected: {n:,} of its replies were labelled, {LEAST_LABELS} are the least"
    if profiles < LEAST_PROFILES:
        return (
            f"{one.name} is not corrected: its labels are of {profiles:,} profiles, {LEAST_PROFILES} are the least; "
            "label replies to others"
        )
    return None


def _labelled_profiles(*candidates: LabelledScores) -> int:
    return len(_labelled(candidates))


def _labelled(candidates: Sequence[LabelledScores]) -> set[str]:
    return {
        profile
        for one in candidates
        for profile, labels in zip(one.profiles, one.labels, strict=True)
        if np.isfinite(labels).any()
    }


def _candidate(one: LabelledScores) -> CorrectedCandidate:
    n, profiles, refused = int(np.isfinite(one.labels).sum()), _labelled_profiles(one), _refusal(one)
    nothing = (None,) * one.scores.shape[1]
    if refused is not None:
        return CorrectedCandidate(one.name, n, profiles, nothing, None, None, None, refused)
    sums = _sums(one, sorted(set(one.profiles)))
    line = _line(sums)
    al = tuple(_turn(sums, turn, one) for turn in range(one.scores.shape[1]))
    level, slope = _fitted(line.level), _fitted(line.slope)
    error = _fitted(_error(line), 0.0)
    return CorrectedCandidate(
        name=one.name,
        n_labels=n,
        n_profiles=profiles,
        al=al,
        al_mean=level and _figure(level, profiles, [_spread(one, line, line.of_level, level.judge_weight)]),
        ir=slope and _figure(slope, profiles, [_spread(one, line, line.of_slope, slope.judge_weight)]),
        error=error and _figure(error._replace(judge_weight=1.0), profiles),
        refused=None,
        notes=tuple(_notes(sums, al, one.name)),
    )


def _turn(sums: _Sums, turn: int, one: LabelledScores) -> CorrectedFigure | None:
    """AL at the turn with index `turn`."""
    labelled = np.isfinite(one.labels[:, turn])
    profiles = {profile for profile, is_one in zip(one.profiles, labelled, strict=True) if is_one}
    if labelled.sum() < LEAST_AT_TURN or len(profiles) < LEAST_PROFILES:
        return None
    only = np.zeros_like(sums.n)
    only[:, turn] = 1.0
    found = _fitted(_estimates(sums, only, only))
    return found and _figure(found, len(profiles))


def _notes(sums: _Sums, al: Sequence[CorrectedFigure | None], name: str) -> Iterator[str]:
    few = [str(turn) for turn, figure in enumerate(al, start=1) if figure is None and sums.present[0, turn - 1]]
    if few:
        yield (
            f"{name}: AL at turn {', '.join(few)} is not corrected: that takes {LEAST_AT_TURN} labels of "
            f"{LEAST_PROFILES} profiles at the turn"
        )


def _error(line: _Line) -> _Estimates:
    """Judge minus people over the labelled replies, to be weighted 0."""
    return _Estimates(line.level.same - line.level.people, line.level.same, line.level.same)


def _difference(a: LabelledScores, b: LabelledScores) -> CorrectedDifference:
    for one in (a, b):
        if refused := _refusal(one):
            return CorrectedDifference(a.name, b.name, 0, None, None, refused)
    a, b = _shared(a, b)
    n = int(np.isfinite(a.labels).sum() + np.isfinite(b.labels).sum())
    for one in (a, b):
        if refused := _refusal(one):
            return CorrectedDifference(a.name, b.name, n, None, None, f"on the cases of both, {refused}")
    names, profiles = sorted(set(a.profiles)), _labelled_profiles(a, b)
    lines = [_line(_sums(one, names)) for one in (a, b)]

    def figure(one: _Estimates, other: _Estimates, of_turn: Sequence[Floats]) -> CorrectedFigure | None:
        found = _fitted(one.minus(other))
        if found is None:
            return None
        of_both = zip((a, b), lines, of_turn, strict=True)
        return _figure(found, profiles, [_spread(*each, found.judge_weight) for each in of_both])

    return CorrectedDifference(
        a=a.name,
        b=b.name,
        n_labels=n,
        delta_al=figure(lines[0].level, lines[1].level, [line.of_level for line in lines]),
        delta_ir=figure(lines[0].slope, lines[1].slope, [line.of_slope for line in lines]),
        refused=None,
    )


def _shared(a: LabelledScores, b: LabelledScores) -> tuple[LabelledScores, LabelledScores]:
    """Both on the cases that they share, with what is of a place where the other has no score left out."""
    order = {case: index for index, case in enumerate(b.cases)}
    cases = [case for case in a.cases if case in order]
    of_a = _rows(a, [index for index, case in enumerate(a.cases) if case in order])
    of_b = _rows(b, [order[case] for case in cases])._replace(profiles=of_a.profiles)
    either = np.isfinite(of_a.scores) & np.isfinite(of_b.scores)
    return _masked(of_a, either), _masked(of_b, either)


def _rows(one: LabelledScores, rows: Sequence[int]) -> LabelledScores:
    return LabelledScores(
        name=one.name,
        scores=one.scores[rows],
        labels=one.labels[rows],
        probabilities=one.probabilities[rows],
        cases=[one.cases[row] for row in rows],
        profiles=[one.profiles[row] for row in rows],
    )


def _masked(one: LabelledScores, where: npt.NDArray[np.bool_]) -> LabelledScores:
    return one._replace(
        scores=np.where(where, one.scores, np.nan),
        labels=np.where(where, one.labels, np.nan),
        probabilities=np.where(where, one.probabilities, np.nan),
    )


def _audit(candidates: Sequence[LabelledScores]) -> TransportAudit:
    """Of candidates with labels enough."""
    if len(candidates) < 2:
        return TransportAudit(
            None, None, "whether the judge errs alike for all candidates is not known: it takes labels of two of them"
        )
    names = sorted({profile for one in candidates for profile in one.profiles})
    errors = np.stack([_error(_line(_sums(one, names))).people for one in candidates], axis=1)
    if not np.isfinite(errors).all():
        return TransportAudit(None, None, "whether the judge errs alike for all candidates cannot be said")
    units = len(_labelled(candidates))
    gaps = errors[:, 1:] - errors[:, :1]
    p = _hotelling(gaps, units)
    widest = max(_jackknife(gap, gap) for gap in _gaps(errors))
    detectable = float(stats.t.ppf(1 - ALARM / 2, units - 1) + stats.t.ppf(POWER, units - 1)) * math.sqrt(widest)
    told = ", ".join(f"{one.name} {error:+.2f}" for one, error in zip(candidates, errors[0], strict=True))
    return TransportAudit(p, detectable, _audit_verdict(p, detectable, told))


def _gaps(errors: Floats) -> Iterator[Floats]:
    for one, other in combinations(errors.T, 2):
        yield one - other


def _hotelling(gaps: Floats, units: int) -> float:
    """p of all gaps 0: their values and replicates, shape (1 + profiles, gaps); Hotelling's T-squared."""
    count = gaps.shape[1]
    covariance = np.array([[_jackknife(one, other) for other in gaps.T] for one in gaps.T])
    # Where the judge is always right nothing varies: the ridge makes equal errors p = 1, and others p = 0.
    squared = float(gaps[0] @ np.linalg.solve(covariance + FLAT**2 * np.eye(count), gaps[0]))
    return float(stats.f.sf(squared * (units - count) / (count * (units - 1)), count, units - count))


def _audit_verdict(p: float, detectable: float, told: str) -> str:
    errors = f"judge minus people: {told}"
    if p < ALARM:
        return (
            f"the judge's error differs between candidates (p {p:.2g}; {errors}): do not compare them by its scores, "
            "only by the corrected figures"
        )
    return (
        f"no difference between the judge's errors was found (p {p:.2f}; {errors}); one of {detectable:.2f} points "
        f"would have been found with {POWER:.0%}"
    )


def as_json(found: Corrected) -> dict[str, JsonValue]:
    """For `report --json`: figures as `{"value", "ci", "judge_weight", "labels_to_halve"}` or null."""
    return {
        "candidates": [_plain(one) for one in found.candidates],
        "comparisons": [_plain(one) for one in found.comparisons],
        "audit": _plain(found.audit),
    }


def _plain(value: Any) -> JsonValue:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
