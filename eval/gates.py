"""Limits that a report must keep, for a build that is to fail where a model got worse."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from interalign.errors import ConfigError
from interalign.eval.results import (
    CandidateComparison,
    CandidateScores,
    Report,
    SimulatorSwap,
    candidate_scores,
    comparisons,
)
from interalign.eval.run_report import scored_cases
from interalign.eval.simulator_swap import scores_by_user, simulator_swaps
from interalign.store import Store

_MEASURES = {"al": "mean AL", "ir": "IR"}


def missed_limits(report: Report, limits: Sequence[str]) -> Iterator[str]:
    """One line a candidate and limit (`al=3.5`, `ir=0.05`) that is not reached; a figure that is missing is not.

    Raises ConfigError for a limit that is none.
    """
    for limit in limits:
        name, value = _limit(limit)
        for each in report.candidates:
            found = each.al_mean if name == "al" else each.ir
            if found is None or found < value:
                shown = "missing" if found is None else f"{found:.3g}"
                yield f"{each.name}: {_MEASURES[name]} is {shown}, under {value:g}"


def _limit(text: str) -> tuple[str, float]:
    name, sign, given = text.partition("=")
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if name not in _MEASURES or not sign or not math.isfinite(value):
        raise ConfigError(f"--fail-under {text!r}: expected al=X or ir=X with a number, such as al=3.5")
    return name, value


def scores_in(run: Path) -> tuple[CandidateScores, ...]:
    """The scores of all candidates of an evaluation; ConfigError if the file holds none."""
    with Store.open(run) as store:
        if store.run is None or store.run.kind != "evaluation":
            raise ConfigError(f"{run} is no evaluation; compare files that `interalign evaluate` wrote")
        found = candidate_scores(scored_cases(store), store.run.begun_with.turns, store.newest_judge())
        return tuple(each for each in found if each.scores)


def swaps(runs: Sequence[Path]) -> tuple[SimulatorSwap, ...]:
    """Whether the ranking of candidates stands between the users of these evaluations; empty if all have one user.

    A name that two files have under one user is left out: it could be either. Raises ConfigError as `compared` does.
    """
    found: dict[str, list[CandidateScores]] = {}
    for run in runs:
        for user, candidates in _scores_by_user(run).items():
            found.setdefault(user, []).extend(candidates)
    for one, other in combinations([each for candidates in found.values() for each in candidates], 2):
        _refuse_other_people(one, other)
    return simulator_swaps({user: _named_once(candidates) for user, candidates in found.items()})


def _named_once(candidates: Sequence[CandidateScores]) -> list[CandidateScores]:
    names = Counter(each.name for each in candidates)
    return [each for each in candidates if names[each.name] == 1]


def _scores_by_user(run: Path) -> dict[str, list[CandidateScores]]:
    with Store.open(run) as store:
        users = () if store.run is None else store.run.begun_with.users
    return scores_by_user(scores_in(run), users)


def compared(runs: Sequence[Path]) -> tuple[CandidateComparison, ...]:
    """All candidates of several evaluations in pairs, by the cases that both have; named `FILE:NAME` where names recur.

    Raises ConfigError for files of which two share no case, or that differ in the number of turns.
    """
    found = [(run, each) for run in runs for each in scores_in(run)]
    names = [each.name for _, each in found]
    named = [
        each.model_copy(update={"name": f"{run.stem}:{each.name}"}) if names.count(each.name) > 1 else each
        for run, each in found
    ]
    return _in_pairs(named)


def worse_than(run: Path, base: Path) -> Iterator[str]:
    """One line for each candidate whose mean AL is lower than that of its namesake in `base`, the interval below 0.

    Where both files have one candidate, these are compared whatever their names. Raises ConfigError if there is none
    to compare with.
    """
    mine, theirs = scores_in(run), {each.name: each for each in scores_in(base)}
    if len(mine) == len(theirs) == 1:
        theirs = {mine[0].name: next(iter(theirs.values()))}
    common = [each for each in mine if each.name in theirs]
    if not common:
        raise ConfigError(f"{run} and {base} have no candidate of one name; name them alike with NAME=MODEL")
    for each in common:
        [difference] = _in_pairs([each, theirs[each.name].model_copy(update={"name": f"{each.name} before"})])
        if difference.ci is None:
            raise ConfigError(f"{each.name}: too few cases in common with {base} for an interval")
        if difference.ci[1] < 0:
            low, high = difference.ci
            yield f"{each.name}: mean AL {difference.delta_al:+.2f} [{low:+.2f}, {high:+.2f}] against {base}"


def _refuse_other_people(one: CandidateScores, other: CandidateScores) -> None:
    """ConfigError if a case of both is not the same person: its name alone would pair strangers."""
    for case, profile in one.profile_of.items():
        if other.profile_of.get(case, profile) != profile:
            raise ConfigError(
                f"case {case} of {one.name} is another person than that of {other.name}; evaluate both with the same "
                "--cases and --seed"
            )


def _in_pairs(candidates: Sequence[CandidateScores]) -> tuple[CandidateComparison, ...]:
    if len({each.turns for each in candidates}) > 1:
        raise ConfigError("the evaluations differ in --turns; compare such as have the same number")
    for one, other in combinations(candidates, 2):
        _refuse_other_people(one, other)
    found = comparisons(candidates)
    for pair in found:
        if not pair.n:
            raise ConfigError(f"{pair.a} and {pair.b} have no case in common; evaluate both with the same --cases")
    return found
