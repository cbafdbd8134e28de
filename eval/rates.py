"""How often something is so among items that belong to profiles: a share with an interval that resamples profiles."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from interalign.eval.intervals import Floats, Interval, bootstrap_interval, resampled_sums

Profile = Hashable
"""What makes items dependent: those of one profile are resampled together."""


class Rate(NamedTuple):
    """In how many of `n` something is so, with a 95 % interval over profiles; exact binomial where all or none are."""

    hits: int
    n: int
    share: float | None
    """None where n is 0."""
    ci: Interval | None
    """None with fewer than two profiles."""


def rate_over_profiles(items: Sequence[tuple[Profile, bool]]) -> Rate:
    """The share of the items that are so, with its interval over profiles."""
    count, n = sum(hit for _, hit in items), len(items)
    if not n:
        return Rate(0, 0, None, None)
    sums: dict[Profile, list[int]] = {}
    for profile, hit in items:
        mine = sums.setdefault(profile, [0, 0])
        mine[0] += hit
        mine[1] += 1
    return Rate(count, n, count / n, _interval(count, n, np.array([sums[each] for each in sums], float)))


def _interval(count: int, n: int, units: Floats) -> Interval | None:
    if len(units) < 2:
        return None
    if count in (0, n):  # a resample shows nothing else then
        from scipy import stats

        exact = stats.binomtest(count, n).proportion_ci()
        return float(exact.low), float(exact.high)
    sums = resampled_sums(units)
    return bootstrap_interval(sums[:, 0] / sums[:, 1], len(units))
