"""A judge's AL(k), mean AL, IR and their differences, corrected by people's labels of some of the replies.

`prediction_powered` has the method; here is what is estimated, from which labels, and where it is refused.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np
from pydantic import JsonValue
from scipy import stats

from interalign.eval.intervals import LEVEL, Floats, Interval
from interalign.eval.labelled_scores import LabelledScores, labelled_profiles, n_labels, shared, usable
from interalign.eval.prediction_powered import (
    Estimates,
    Fitted,
    Spread,
    TurnSums,
    estimates,
    fitted,
    judge_error,
    label_spread,
    labels_to_halve,
    line_of_turns,
    turn_sums,
)
from interalign.eval.transport import TransportAudit, transport_audit

LEAST_LABELS: Final = 30
"""Labels, of a candidate's replies or, for AL(k), of those at turn k, below which nothing is corrected."""
LEAST_PROFILES: Final = 10
"""Profiles that they are of at least."""


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
    checked = [usable(one) for one in candidates]
    return Corrected(
        candidates=tuple(_candidate(one, _unused(given, one)) for given, one in zip(candidates, checked, strict=True)),
        comparisons=tuple(
            _difference(*both) for both in combinations(checked, 2) if set(both[0].cases) & set(both[1].cases)
        ),
        audit=transport_audit([one for one in checked if _refusal(one) is None]),
    )


def _figure(found: Fitted, profiles: int, spread: Sequence[Spread] = ()) -> CorrectedFigure:
    """With an interval by Student's t for the profiles that have labels."""
    half = float(stats.t.ppf((1 + LEVEL) / 2, profiles - 1)) * math.sqrt(found.variance)
    halving = labels_to_halve(spread, found.variance) if spread else None
    return CorrectedFigure(found.value, (found.value - half, found.value + half), found.judge_weight, halving)


def _unused(given: LabelledScores, one: LabelledScores) -> tuple[str, ...]:
    """What is to be said of labels that `usable` left out."""
    unknown = int((np.isfinite(given.labels) & np.isfinite(given.scores)).sum()) - n_labels(one)
    if not unknown:
        return ()
    return (
        f"{one.name}: {unknown:,} labels are not used, because nobody knows with which probability their replies were "
        "chosen; `interalign labels RUN.db plan` draws replies",
    )


def _candidate(one: LabelledScores, notes: tuple[str, ...]) -> CorrectedCandidate:
    n, profiles, refused = n_labels(one), labelled_profiles(one), _refusal(one)
    nothing = (None,) * one.scores.shape[1]
    if refused is not None:
        return CorrectedCandidate(one.name, n, profiles, nothing, None, None, None, refused, notes)
    sums = turn_sums(one, sorted(set(one.profiles)))
    line = line_of_turns(sums)
    al = tuple(_turn(sums, turn, one) for turn in range(one.scores.shape[1]))
    level, slope = fitted(line.level), fitted(line.slope)
    error = fitted(judge_error(line), 0.0)
    return CorrectedCandidate(
        name=one.name,
        n_labels=n,
        n_profiles=profiles,
        al=al,
        al_mean=level and _figure(level, profiles, [label_spread(one, line, line.of_level, level.judge_weight)]),
        ir=slope and _figure(slope, profiles, [label_spread(one, line, line.of_slope, slope.judge_weight)]),
        error=error and _figure(error._replace(judge_weight=1.0), profiles),
        refused=None,
        notes=(*notes, *_notes(sums, al, one.name)),
    )


def _turn(sums: TurnSums, turn: int, one: LabelledScores) -> CorrectedFigure | None:
    """AL at the turn with index `turn`."""
    labelled = np.nonzero(np.isfinite(one.labels[:, turn]))[0].tolist()
    profiles = {one.profiles[case] for case in labelled}
    if len(labelled) < LEAST_LABELS or len(profiles) < LEAST_PROFILES:
        return None
    only = np.zeros_like(sums.n)
    only[:, turn] = 1.0
    found = fitted(estimates(sums, only, only))
    return found and _figure(found, len(profiles))


def _notes(sums: TurnSums, al: Sequence[CorrectedFigure | None], name: str) -> Iterator[str]:
    few = [str(turn) for turn, figure in enumerate(al, start=1) if figure is None and sums.present[0, turn - 1]]
    if few:
        yield (
            f"{name}: AL at turn {', '.join(few)} is not corrected: that takes {LEAST_LABELS} labels of "
            f"{LEAST_PROFILES} profiles at the turn"
        )


def _refusal(one: LabelledScores) -> str | None:
    n, profiles = n_labels(one), labelled_profiles(one)
    if n < LEAST_LABELS:
        return f"{one.name} is not corrected: {n:,} labels of its replies can be used, {LEAST_LABELS} are the least"
    if profiles < LEAST_PROFILES:
        return (
            f"{one.name} is not corrected: its labels are of {profiles:,} profiles, {LEAST_PROFILES} are the least; "
            "label replies to others"
        )
    return None


def _difference(a: LabelledScores, b: LabelledScores) -> CorrectedDifference:
    for one in (a, b):
        if refused := _refusal(one):
            return CorrectedDifference(a.name, b.name, 0, None, None, refused)
    a, b = shared(a, b)
    n = n_labels(a) + n_labels(b)
    for one in (a, b):
        if refused := _refusal(one):
            return CorrectedDifference(a.name, b.name, n, None, None, f"on the cases of both, {refused}")
    names, profiles = sorted(set(a.profiles)), labelled_profiles(a, b)
    lines = [line_of_turns(turn_sums(one, names)) for one in (a, b)]

    def figure(one: Estimates, other: Estimates, of_turn: Sequence[Floats]) -> CorrectedFigure | None:
        found = fitted(one.minus(other))
        if found is None:
            return None
        of_both = zip((a, b), lines, of_turn, strict=True)
        return _figure(found, profiles, [label_spread(*each, found.judge_weight) for each in of_both])

    return CorrectedDifference(
        a=a.name,
        b=b.name,
        n_labels=n,
        delta_al=figure(lines[0].level, lines[1].level, [line.of_level for line in lines]),
        delta_ir=figure(lines[0].slope, lines[1].slope, [line.of_slope for line in lines]),
        refused=None,
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
