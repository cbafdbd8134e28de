"""Whether a ranking of candidates stands under another simulated user: Kendall's tau, and the pairs that flip.

Kendall's tau-b of the candidates' mean AL under two users, over the cases that every candidate has under both. Its
interval comes from the bootstrap over profiles of `intervals`: one draw of profiles for all candidates and both users.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from interalign.eval import metrics
from interalign.eval.intervals import (
    RESAMPLES,
    Floats,
    Interval,
    bootstrap_interval,
    mean_over_turns,
    profile_sums,
    resampled_curves,
)
from interalign.eval.results import CandidateScores, PairUnderUsers, SimulatorSwap
from interalign.records import split_case


def simulator_swaps(
    by_user: Mapping[str, Sequence[CandidateScores]], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[SimulatorSwap, ...]:
    """Every two users, the earlier one first, under whom two candidates of the same names met the same cases.

    `by_user`: the candidates by the user that they talked to; a case has the same id and profile under all users. All
    have the same number of turns.
    """
    found = (_swap(one, other, by_user, resamples, seed) for one, other in combinations(by_user, 2))
    return tuple(each for each in found if each is not None)


def scores_by_user(candidates: Sequence[CandidateScores], users: Sequence[str]) -> dict[str, list[CandidateScores]]:
    """The scores of an evaluation with these users apart by user, cases under the ids that all users share."""
    return {
        user: [_met_by(each, number, len(users)) for each in candidates] for number, user in enumerate(users, start=1)
    }


def _met_by(candidate: CandidateScores, number: int, users: int) -> CandidateScores:
    mine = {case: name for case in candidate.scores for name, by in [split_case(case, users)] if by == number}
    return candidate.model_copy(
        update={
            "scores": {name: candidate.scores[case] for case, name in mine.items()},
            "profile_of": {name: candidate.profile_of[case] for case, name in mine.items()},
            "ended": {name: candidate.ended[case] for case, name in mine.items() if case in candidate.ended},
        }
    )


def kendall_tau(one: Floats, other: Floats) -> Floats:
    """Tau-b of two rows of values, shape (..., candidates), along the last axis; NaN where a row is all ties or NaN."""
    first, second = np.triu_indices(one.shape[-1], 1)
    signs = [np.sign(values[..., first] - values[..., second]) for values in (one, other)]
    concordance = (signs[0] * signs[1]).sum(axis=-1)
    untied = np.sqrt(np.prod([(each**2).sum(axis=-1) for each in signs], axis=0))
    tau: Floats = np.divide(concordance, untied, out=np.full(np.shape(untied), np.nan), where=untied > 0)
    return tau


def swap_lines(swap: SimulatorSwap) -> Iterator[str]:
    """The swap in words: both rankings, tau, and each pair that flips."""
    for user, ranking, levels in zip(swap.users, swap.rankings, swap.al_mean, strict=True):
        shown = ", ".join(f"{name} {_number(level)}" for name, level in zip(ranking, levels, strict=True))
        yield f"Ranking under user {user}: {shown}"
    tau = "undefined" if swap.tau is None else f"{swap.tau:.2f}{_ends(swap.ci)}"
    yield f"Kendall's tau of both rankings: {tau}; {swap.n:,} cases of {swap.n_profiles:,} profiles"
    flips = [pair for pair in swap.pairs if pair.flips]
    for pair in flips:
        under = " and ".join(
            f"{_number(delta, '+z.2f')}{_ends(ci)} under {user}"
            for user, delta, ci in zip(swap.users, pair.delta_al, pair.ci, strict=True)
        )
        says = "neither interval has 0 in it" if pair.clear else "chance alone can do that"
        yield f"  {pair.a} - {pair.b} flips: {under}; {says}"
    if not flips:
        yield "  no pair of candidates flips"


def _swap(
    one: str, other: str, by_user: Mapping[str, Sequence[CandidateScores]], resamples: int, seed: int
) -> SimulatorSwap | None:
    sides = [{each.name: each for each in by_user[user]} for user in (one, other)]
    names = [name for name in sides[0] if name in sides[1]]
    met = [side[name] for side in sides for name in names]
    cases = [case for case in met[0].scores if all(case in each.scores for each in met)] if met else []
    if len(names) < 2 or not cases:
        return None
    turns = min(each.reached for each in met)  # a turn that one of them never has cannot be compared
    profiles = [met[0].profile_of[case] for case in cases]
    sums = [
        profile_sums(metrics.score_matrix([each.scores[case] for case in cases], each.turns)[:, :turns], profiles)
        for each in met
    ]
    units = len(sums[0].sums)
    observed = np.array([mean_over_turns(_curve(each.sums, each.counts))[0] for each in sums])
    # One seed: the same profiles are drawn for every candidate under both users.
    drawn = np.array([mean_over_turns(resampled_curves(each, resamples=resamples, seed=seed)) for each in sums])
    levels, samples = observed.reshape(2, -1), drawn.reshape(2, len(names), -1)
    ranked = [_ranked(names, side) for side in levels]
    return SimulatorSwap(
        users=(one, other),
        rankings=(tuple(name for name, _ in ranked[0]), tuple(name for name, _ in ranked[1])),
        al_mean=(tuple(level for _, level in ranked[0]), tuple(level for _, level in ranked[1])),
        tau=_defined(float(kendall_tau(levels[0], levels[1]))),
        ci=bootstrap_interval(kendall_tau(samples[0].T, samples[1].T), units),
        n=len(cases),
        n_profiles=units,
        pairs=tuple(_pair(names, i, j, levels, samples, units) for i, j in combinations(range(len(names)), 2)),
    )


def _pair(names: Sequence[str], i: int, j: int, levels: Floats, samples: Floats, units: int) -> PairUnderUsers:
    first, second = (float(side[i] - side[j]) for side in levels)
    gaps = samples[:, i] - samples[:, j]
    ends = (bootstrap_interval(gaps[0], units), bootstrap_interval(gaps[1], units))
    flips = first * second < 0
    return PairUnderUsers(
        a=names[i],
        b=names[j],
        delta_al=(_defined(first), _defined(second)),
        ci=ends,
        flips=flips,
        clear=flips and all(end is not None and end[0] * end[1] > 0 for end in ends),
        shift=_defined(first - second),
        shift_ci=bootstrap_interval(gaps[0] - gaps[1], units),
    )


def _curve(sums: Floats, counts: Floats) -> Floats:
    totals, n = sums.sum(axis=0), counts.sum(axis=0)
    curve: Floats = np.divide(totals, n, out=np.full(len(n), np.nan), where=n > 0)[None, :]
    return curve


def _ranked(names: Sequence[str], levels: Floats) -> list[tuple[str, float | None]]:
    """Names with their levels, the best first and those without any last."""
    best = np.argsort(-levels, kind="stable")  # NaN comes last
    return [(names[i], _defined(float(levels[i]))) for i in best]


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def _ends(interval: Interval | None) -> str:
    return "" if interval is None else f" [{interval[0]:z.2f}, {interval[1]:z.2f}]"
