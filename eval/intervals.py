"""Intervals and paired tests that treat the profile, not the case, as the independent unit.

Cases that share a profile are not independent, so what is resampled, and what changes sign under the null hypothesis,
is a whole profile with all its cases. Everything is seeded: the same scores give the same interval.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special  # not scipy.stats, 50 MB more, which only the permutation test needs

from interalign.errors import MetricError
from interalign.eval.metrics import Scores, slopes

Interval: TypeAlias = tuple[float, float]
"""Lower and upper end."""
Floats: TypeAlias = npt.NDArray[np.float64]

_AT_ONCE = 100
"""Resamples that are held at once, each a number a profile."""
RESAMPLES = 2_000
LEVEL = 0.95
FLIPS = 10_000
"""Sign patterns of the paired test: all of them up to 13 profiles (8,192), else this many drawn at random."""
DEFINED = 0.95
"""An interval is given only if at least this share of the resamples has the figure."""


class ProfileSums(NamedTuple):
    """Scores added up by profile: all that a resample of whole profiles needs."""

    sums: Floats
    """Shape (profiles, turns): sum of the scores of the profile's cases."""
    counts: Floats
    """Shape (profiles, turns): how many of them are there."""


class LevelIntervals(NamedTuple):
    """Intervals of one candidate's figures; None where there is none to give."""

    al: tuple[Interval | None, ...]
    """Of AL(k), each turn on its own."""
    al_mean: Interval | None
    ir: Interval | None


class PairedDifference(NamedTuple):
    """Candidate a minus candidate b, over the (case, turn) places where both have a score."""

    delta_al: float | None
    ci: Interval | None
    p: float | None
    """Two-sided, sign-flip permutation test of delta_al over profiles."""
    delta_ir: float | None
    """IR of the per-turn differences: IR(a) - IR(b) on the shared places."""
    delta_ir_ci: Interval | None
    n: int
    """Cases with at least one such place."""
    n_profiles: int


def profile_sums(scores: Scores, profiles: Sequence[str]) -> ProfileSums:
    """Scores of shape (cases, turns) added up by the profile of each case, profiles in sorted order.

    Raises MetricError if there is not one profile a case.
    """
    if len(profiles) != len(scores):
        raise MetricError(f"{len(scores)} cases but {len(profiles)} profiles; name the profile of every case")
    names, index = np.unique(np.array(profiles, dtype=object), return_inverse=True)
    present = np.isfinite(scores)
    sums = np.zeros((len(names), scores.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, index, np.where(present, scores, 0.0))
    np.add.at(counts, index, present.astype(np.float64))
    return ProfileSums(sums, counts)


def level_intervals(
    scores: Scores, profiles: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> LevelIntervals:
    """Bootstrap intervals of AL(k), mean AL and IR of one candidate, scores of shape (cases, turns)."""
    sums = profile_sums(scores, profiles)
    units, turns = sums.sums.shape
    if units < 2:
        return LevelIntervals((None,) * turns, None, None)
    curves = resampled_curves(sums, resamples=resamples, seed=seed)
    return LevelIntervals(
        al=tuple(bootstrap_interval(curves[:, k], units) for k in range(turns)),
        al_mean=bootstrap_interval(mean_over_turns(curves), units),
        ir=bootstrap_interval(slopes(curves), units),
    )


def resampled_sums(units: Floats, *, seed: int = 0) -> Floats:
    """Sums over RESAMPLES draws, with replacement, of as many units as there are: shape (RESAMPLES, columns).

    `units`: what each profile, or conversation, adds, shape (units, columns).
    """
    count = len(units)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    sums: Floats = drawn @ units
    return sums


def resampled_curves(sums: ProfileSums, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """AL(k) of `resamples` draws of as many profiles as there are, with replacement, each with all its cases.

    Shape (resamples, turns); NaN at a turn of which the drawn profiles have no score.
    """
    units = len(sums.sums)
    generator, even = np.random.default_rng(seed), np.full(units, 1 / units)
    curves = []
    for first in range(0, resamples, _AT_ONCE):  # the same draws as all at once, which would not fit for many profiles
        drawn = generator.multinomial(units, even, size=min(_AT_ONCE, resamples - first))
        curves.append(_ratio(drawn @ sums.sums, drawn @ sums.counts))
    return np.concatenate(curves)


def mean_over_turns(curves: Floats) -> Floats:
    """Mean of each row over the turns that are defined, shape (rows,); NaN where none is."""
    present = np.isfinite(curves)
    return _ratio(np.where(present, curves, 0.0).sum(axis=1), present.sum(axis=1).astype(np.float64))


def bootstrap_interval(resampled: Floats, units: int, level: float = LEVEL) -> Interval | None:
    """Expanded percentile interval from resampled values, shape (resamples,), of a figure over `units` profiles.

    The percentiles are moved outwards by sqrt(units / (units - 1)) and Student's t with units - 1 degrees of freedom,
    because the plain ones are too narrow for few units (Hesterberg 2015); for many units they agree.
    None with fewer than two units (nothing to vary), or if over 5 % of the resamples lack the figure.
    """
    defined = resampled[np.isfinite(resampled)]
    if units < 2 or len(defined) < DEFINED * len(resampled):
        return None
    tail = special.ndtr(np.sqrt(units / (units - 1)) * special.stdtrit(units - 1, (1 - level) / 2))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(
    a: Scores, b: Scores, profiles: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedDifference:
    """How much better candidate a is than candidate b on the same cases: scores of shape (cases, turns), rows paired.

    A place counts only if both have a score there: a conversation that broke off for one candidate would otherwise
    compare early turns with late ones. Raises MetricError if the shapes differ.
    """
    if a.shape != b.shape:
        raise MetricError(f"a has scores of shape {a.shape}, b of {b.shape}; pair them by case first")
    gaps = a - b
    paired = [case for case, row in enumerate(np.isfinite(gaps)) if row.any()]
    sums = profile_sums(gaps[paired], [profiles[case] for case in paired])
    units = len(sums.sums)
    observed = _ratio(sums.sums.sum(axis=0), sums.counts.sum(axis=0))[None, :]
    curves = resampled_curves(sums, resamples=resamples, seed=seed) if units > 1 else observed
    return PairedDifference(
        delta_al=_number(mean_over_turns(observed)[0]),
        ci=bootstrap_interval(mean_over_turns(curves), units),
        p=sign_flip_p(_contributions(sums), seed=seed),
        delta_ir=_number(slopes(observed)[0]),
        delta_ir_ci=bootstrap_interval(slopes(curves), units),
        n=len(paired),
        n_profiles=units,
    )


def sign_flip_p(contributions: Floats, *, seed: int = 0) -> float | None:
    """Two-sided p of the sum of one contribution a profile, shape (profiles,), against a mean difference of zero.

    If the two candidates were alike, each profile's difference might as well have the other sign. p is the share of
    sign patterns whose sum is at least as extreme: of all patterns up to 13 profiles, else of 10,000 drawn ones (the
    observed one counted in, so p is never 0). With P profiles p cannot be under 2 / 2**P. None for fewer than two.
    """
    if len(contributions) < 2:
        return None
    from scipy import stats

    test = stats.permutation_test(
        (contributions,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm's adjustment of a family of p values: controls the chance of even one false finding. None stays None."""
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        adjusted[index] = highest
    return tuple(adjusted)


def _contributions(sums: ProfileSums) -> Floats:
    """What each profile adds to delta_al, shape (profiles,); flipping a profile's sign flips just its part."""
    counts = sums.counts.sum(axis=0)
    # At a turn that no case reached, every profile's sum is 0, and so is its share.
    shares: Floats = (sums.sums / np.maximum(counts, 1)).sum(axis=1) / max(np.count_nonzero(counts), 1)
    return shares


def _ratio(sums: Floats, counts: Floats) -> Floats:
    ratio: Floats = np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0)
    return ratio


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
