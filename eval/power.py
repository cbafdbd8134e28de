"""How many cases would show a difference between two candidates, from the scores of an evaluation that was made."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from pydantic import JsonValue
from scipy import stats

from interalign.errors import ConfigError
from interalign.eval.intervals import Interval
from interalign.eval.results import CandidateScores

LEVEL: Final = 0.05
"""Of the two-sided test."""
POWER: Final = 0.8
MOST: Final = 10_000_000
"""Profiles beyond which nothing is looked for."""


class PowerFigures(NamedTuple):
    """What it takes to show a difference in mean AL between two candidates on the same cases."""

    a: str
    b: str | None
    """None for a file with one candidate: another one on the same cases, its scores not related to those of `a`."""
    delta: float
    observed: float | None
    """Mean AL of a minus that of b in this file; None without b."""
    sd: float
    """Standard deviation, over profiles, of a profile's mean difference; estimated from `n_profiles`."""
    n_profiles: int
    n_cases: int
    power: float
    """Of a file as large as this one, for `delta`."""
    detectable: float
    """The difference that a file as large as this one shows with the power asked for."""
    profiles: int
    """Profiles that show `delta` with the power asked for, each with as many cases as here."""
    profiles_ci: tuple[int, int]
    """The same for the ends of the 95 % interval of `sd`."""
    cases: int
    """`profiles` times the cases that a profile has here, rounded up."""


def power_figures(candidates: Sequence[CandidateScores], delta: float, power: float = POWER) -> list[PowerFigures]:
    """For every two candidates with cases in common, or for the only one there is.

    A profile is the unit, as in `report`: its mean difference over cases and turns where both have a score. Paired t
    test at LEVEL, two-sided, by the noncentral t distribution; the sign-flip test of `report` has about the same power.

    Raises ConfigError for a `delta` or `power` that cannot be one, or fewer than two profiles in common.
    """
    if not (math.isfinite(delta) and delta > 0):
        raise ConfigError(f"--delta {delta:g}: a difference in mean AL to be shown is above 0, such as 0.2")
    if not LEVEL < power < 1:
        raise ConfigError(f"--power {power:g}: a probability between {LEVEL:g} and 1, such as 0.8")
    if not candidates:
        raise ConfigError("the file has no scores; evaluate at least one candidate to the end first")
    if len(candidates) == 1:
        return [_figures(candidates[0], None, delta, power)]
    return [_figures(a, b, delta, power) for a, b in combinations(candidates, 2)]


def _figures(a: CandidateScores, b: CandidateScores | None, delta: float, power: float) -> PowerFigures:
    cases = [case for case in a.scores if b is None or case in b.scores]
    by_profile: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        by_profile[a.profile_of[case]] += _differences(a, b, case)
    means = np.array([np.mean(values) for values in by_profile.values() if values])
    if len(means) < 2:
        with_b = "" if b is None else f" and {b.name}"
        raise ConfigError(f"{a.name}{with_b}: {len(means)} profile(s) with scores; two are the least that vary")
    sd, units = float(np.std(means, ddof=1)), len(means)
    if b is None:
        sd *= math.sqrt(2)
    needed = _profiles(delta, sd, power)
    low, high = _sd_interval(sd, units)
    return PowerFigures(
        a=a.name,
        b=None if b is None else b.name,
        delta=delta,
        observed=None if b is None else float(np.mean(means)),
        sd=sd,
        n_profiles=units,
        n_cases=len(cases),
        power=_power(delta, sd, units),
        detectable=_detectable(sd, units, power),
        profiles=needed,
        profiles_ci=(_profiles(delta, low, power), _profiles(delta, high, power)),
        cases=math.ceil(needed * len(cases) / units),
    )


def _differences(a: CandidateScores, b: CandidateScores | None, case: str) -> Iterator[float]:
    """Of one case: a minus b at every turn where both have a score; the scores of `a` themselves without b."""
    others = [0.0] * a.turns if b is None else b.scores[case]
    for one, other in zip(a.scores[case], others, strict=True):
        if one is not None and other is not None:
            yield one - other


def _power(delta: float, sd: float, units: int) -> float:
    """Of the paired t test with so many profiles."""
    if sd == 0:
        return 1.0
    critical = stats.t.ppf(1 - LEVEL / 2, units - 1)
    shift = delta * math.sqrt(units) / sd
    if shift > 30:  # certain; the distribution's own code loses itself there
        return 1.0
    return float(stats.nct.sf(critical, units - 1, shift) + stats.nct.cdf(-critical, units - 1, shift))


def _profiles(delta: float, sd: float, power: float) -> int:
    """The fewest profiles, at least two, with at least this power; MOST if it takes more."""
    low, high = 2, 2
    while _power(delta, sd, high) < power:
        if high >= MOST:
            return MOST
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(delta, sd, middle) >= power else (middle + 1, high)
    return low


def _detectable(sd: float, units: int, power: float) -> float:
    """By bisection: power grows with the difference."""
    low, high = 0.0, 5.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle, sd, units) >= power else (middle, high)
    return high


def _sd_interval(sd: float, units: int) -> Interval:
    """95 % interval of a standard deviation of normal values, by the chi-squared distribution."""
    below, above = stats.chi2.ppf([0.975, 0.025], units - 1)
    return sd * math.sqrt((units - 1) / below), sd * math.sqrt((units - 1) / above)


def as_json(found: Sequence[PowerFigures]) -> list[JsonValue]:
    """What `interalign power --json` prints."""
    return [{**one._asdict(), "profiles_ci": list(one.profiles_ci)} for one in found]


def power_lines(found: Sequence[PowerFigures], power: float = POWER) -> Iterator[str]:
    """What `interalign power` prints."""
    for one in found:
        name = f"{one.a} against {one.b or 'another candidate, unrelated'}"
        observed = "" if one.observed is None else f", difference {one.observed:+.2f}"
        yield f"{name}: {one.n_cases:,} cases of {one.n_profiles:,} profiles here{observed}, profile sd {one.sd:.2f}"
        yield (
            f"  a difference of {one.delta:g} in mean AL is shown here with a probability of {one.power:.0%}, one of "
            f"{one.detectable:.2f} with {power:.0%}"
        )
        yield (
            f"  to show {one.delta:g} with {power:.0%}: {one.profiles:,} profiles "
            f"[{one.profiles_ci[0]:,}, {one.profiles_ci[1]:,}], {one.cases:,} cases as they are here"
        )
    yield f"paired t test over profiles, two-sided, level {LEVEL:g}; intervals 95 %, for the standard deviation alone"
