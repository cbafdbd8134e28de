"""The transport audit: is a judge's error the same for each candidate?

A judge that is wrong by as much for all of them still says who is better; one that favours a candidate does not.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from scipy import stats

from interalign.eval.intervals import Floats
from interalign.eval.labelled_scores import LabelledScores, labelled_profiles
from interalign.eval.metrics import FLAT
from interalign.eval.prediction_powered import jackknife, judge_error, line_of_turns, turn_sums

ALARM: Final = 0.05
"""p below which the judge's error is said to differ between candidates."""
POWER: Final = 0.8
"""For the difference that the audit says it would have found."""


class TransportAudit(NamedTuple):
    """Is the judge's error the same for each candidate? If not, its raw differences between them are wrong."""

    p: float | None
    """Of no difference between the candidates' mean errors (Hotelling's T-squared over profiles); None: refused."""
    detectable: float | None
    """The difference of two candidates' errors, in points, that would have been found with a probability of 80 %."""
    verdict: str


def transport_audit(candidates: Sequence[LabelledScores]) -> TransportAudit:
    """Of candidates with labels enough."""
    if len(candidates) < 2:
        return TransportAudit(
            None, None, "whether the judge errs alike for all candidates is not known: it takes labels of two of them"
        )
    names = sorted({profile for one in candidates for profile in one.profiles})
    errors = np.stack([judge_error(line_of_turns(turn_sums(one, names))).people for one in candidates], axis=1)
    if not np.isfinite(errors).all():
        return TransportAudit(None, None, "whether the judge errs alike for all candidates cannot be said")
    units = labelled_profiles(*candidates)
    gaps = errors[:, 1:] - errors[:, :1]
    p = _hotelling(gaps, units)
    widest = max(jackknife(gap, gap) for gap in _gaps(errors))
    detectable = float(stats.t.ppf(1 - ALARM / 2, units - 1) + stats.t.ppf(POWER, units - 1)) * math.sqrt(widest)
    told = ", ".join(f"{one.name} {error:+.2f}" for one, error in zip(candidates, errors[0], strict=True))
    return TransportAudit(p, detectable, _audit_verdict(p, detectable, told))


def _gaps(errors: Floats) -> Iterator[Floats]:
    for one, other in combinations(errors.T, 2):
        yield one - other


def _hotelling(gaps: Floats, units: int) -> float:
    """p of all gaps 0: their values and replicates, shape (1 + profiles, gaps); Hotelling's T-squared."""
    count = gaps.shape[1]
    covariance = np.array([[jackknife(one, other) for other in gaps.T] for one in gaps.T])
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
