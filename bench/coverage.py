"""Do intervals cover the truth? Simulated evaluations by planted judges: raw figures beside those corrected by labels.

    python bench/coverage.py [--evaluations 500] [--labels 200] [--json FILE]

Each evaluation has two candidates on the same cases (60 profiles, two cases each, ten turns) and a judge with a fault:
`biased` adds half a point, `noisy` errs by a point either way, `length-loving` adds a quarter for each doubling of the
words, `favouring` adds half a point to one candidate only. People label replies of both, drawn as `interalign labels
plan` draws them: those more often for which two scores by the judge differ by more than a point. Truth is the mean over
all profiles that there could be. Coverage of 95 % intervals, and how often the transport audit alarms.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from interalign.eval.corrected import corrected
from interalign.eval.intervals import level_intervals
from interalign.eval.label_plan import UNSURE
from interalign.eval.labelled_scores import LabelledScores
from interalign.eval.transport import ALARM

PROFILES, PER_PROFILE, TURNS = 60, 2, 10
JUDGES = ("sound", "biased", "noisy", "length-loving", "favouring")
LEVELS, RISES = (2.6, 2.9), (0.02, 0.05)
"""Mean score at turn 1 and rise a turn of the two candidates: so far from 1 and 5 that hardly a score is cut there.

Where many are, a judge errs less for the better candidate, and an audit that alarms is right.
"""


class Drawn(NamedTuple):
    """One candidate in one evaluation."""

    truth: np.ndarray[Any, np.dtype[np.float64]]
    words: np.ndarray[Any, np.dtype[np.float64]]


def draw(which: int, profiles: int, rng: np.random.Generator, of_profile: Any = None) -> Drawn:
    """True scores and lengths of a candidate's replies, shape (cases, turns)."""
    own = rng.normal(0, 0.35, profiles) if of_profile is None else of_profile
    effect = np.repeat(own, PER_PROFILE)[:, None]
    words = rng.lognormal(np.log(30 if which == 0 else 60), 0.4, (profiles * PER_PROFILE, TURNS))
    latent = LEVELS[which] + RISES[which] * np.arange(TURNS) + effect + rng.normal(0, 0.45, words.shape)
    return Drawn(np.clip(latent, 1, 5), words)


def judged(judge: str, which: int, drawn: Drawn, rng: np.random.Generator) -> Any:
    """The judge's scores, whole points as a judge gives them."""
    error = rng.normal(0, 0.3, drawn.truth.shape)
    error += rng.choice([-1.0, 0.0, 1.0], drawn.truth.shape, p=[0.25, 0.5, 0.25]) if judge == "noisy" else 0.0
    error += 0.5 if judge == "biased" or (judge == "favouring" and which == 1) else 0.0
    error += 0.25 * np.log2(drawn.words / 30) if judge == "length-loving" else 0.0
    return np.clip(np.round(drawn.truth + error), 1, 5)


def truths() -> list[tuple[float, float]]:
    """Mean AL and IR of both candidates over very many profiles."""
    found = []
    for which in (0, 1):
        levels = draw(which, 200_000, np.random.default_rng(which)).truth.mean(axis=0)
        found.append((float(levels.mean()), float(np.polyfit(np.arange(TURNS), levels, 1)[0])))
    return found


def one_evaluation(judge: str, labels: int, rng: np.random.Generator) -> list[LabelledScores]:
    """Both candidates as the judge scored them, with people's labels of some replies."""
    profiles = [f"p{number // PER_PROFILE}" for number in range(PROFILES * PER_PROFILE)]
    cases = [f"c{number}" for number in range(len(profiles))]
    of_profile = rng.normal(0, 0.35, PROFILES)
    both = [draw(which, PROFILES, rng, of_profile) for which in (0, 1)]
    scores, again = ([judged(judge, which, both[which], rng) for which in (0, 1)] for _ in range(2))
    chances = planned(np.abs(np.stack(scores) - np.stack(again)) > 1, labels, rng)
    return [
        LabelledScores(
            name=f"m{which}",
            scores=scores[which],
            labels=np.where(np.isfinite(chances[which]), both[which].truth, np.nan),
            probabilities=chances[which],
            cases=cases,
            profiles=profiles,
        )
        for which in (0, 1)
    ]


def planned(unsure: Any, labels: int, rng: np.random.Generator) -> Any:
    """With which probability each reply was drawn, shape (candidates, cases, turns); NaN for those that were not.

    Systematic sampling with probabilities proportional to size, replies in the order of profile and candidate.
    """
    sizes = np.where(unsure, UNSURE, 1.0)
    chances = (sizes * labels / sizes.sum()).ravel()
    stratum = np.broadcast_to(np.arange(unsure.shape[1])[:, None] // PER_PROFILE * 2, unsure.shape[1:])
    order = np.argsort((stratum + np.arange(2)[:, None, None]).ravel() + rng.random(chances.size) / 2)
    passed = np.floor(np.cumsum(chances[order]) + rng.random())
    drawn = np.zeros(chances.size, dtype=bool)
    drawn[order] = np.diff(passed, prepend=0.0) > 0
    return np.where(drawn, chances, np.nan).reshape(unsure.shape)


def covers(interval: Any, value: float) -> bool:
    """Whether the interval is there and holds the value."""
    return interval is not None and interval[0] <= value <= interval[1]


def measure(judge: str, evaluations: int, labels: int) -> dict[str, list[bool]]:
    """Which intervals covered the truth, by figure, and whether the audit alarmed, evaluation by evaluation."""
    (level, rise), (other_level, other_rise) = truths()
    hits: dict[str, list[bool]] = {}
    for number in range(evaluations):
        rng = np.random.default_rng([JUDGES.index(judge), number])
        a, b = one_evaluation(judge, labels, rng)
        raw = level_intervals(a.scores, a.profiles, resamples=500)
        gap = level_intervals(a.scores - b.scores, a.profiles, resamples=500)
        found = corrected([a, b])
        mine, (difference,) = found.candidates[0], found.comparisons
        told = {
            "raw mean AL": covers(raw.al_mean, level),
            "corrected mean AL": covers(mine.al_mean and mine.al_mean.ci, level),
            "raw IR": covers(raw.ir, rise),
            "corrected IR": covers(mine.ir and mine.ir.ci, rise),
            "raw difference": covers(gap.al_mean, level - other_level),
            "corrected difference": covers(difference.delta_al and difference.delta_al.ci, level - other_level),
            "raw difference of IR": covers(gap.ir, rise - other_rise),
            "corrected difference of IR": covers(difference.delta_ir and difference.delta_ir.ci, rise - other_rise),
            "audit alarms": found.audit.p is not None and found.audit.p < ALARM,
        }
        for name, hit in told.items():
            hits.setdefault(name, []).append(hit)
    return hits


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--evaluations", type=int, default=500)
    options.add_argument("--labels", type=int, default=200, help="of both candidates together")
    options.add_argument("--json", type=Path)
    asked = options.parse_args()
    print(f"{asked.evaluations} evaluations a judge, {asked.labels} labels each; share [95 % interval]")
    print("judge | figure | share")
    figures = {}
    for judge in JUDGES:
        for name, hits in measure(judge, asked.evaluations, asked.labels).items():
            exact = stats.binomtest(sum(hits), len(hits)).proportion_ci()
            print(f"{judge} | {name} | {np.mean(hits):.3f} [{exact.low:.3f}, {exact.high:.3f}]")
            figures[f"{judge}, {name}"] = float(np.mean(hits))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
