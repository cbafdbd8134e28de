"""How often intervals hold the truth, with a judge that errs, before and after people's labels correct it.

`python bench/coverage.py`: evaluations of two candidates are made of numbers, so that what people would say of every
reply is known; judges with one planted fault each score them; replies are drawn for labelling as `interalign labels
plan` draws them. Printed: how often nominal 95 % intervals hold the true value, raw and corrected, and how often the
transport audit raises an alarm. It validates the statistics; it says nothing about any language model.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from interalign.eval.corrected import CorrectedFigure, corrected
from interalign.eval.intervals import Interval, level_intervals
from interalign.eval.label_plan import UNSURE
from interalign.eval.labelled_scores import LabelledScores
from interalign.eval.metrics import slopes

Table = npt.NDArray[np.float64]
Rng = np.random.Generator
TURNS = np.arange(1, 11)
CASES = 2
"""Of each profile."""
MANY = 100_000
"""Profiles from which the true values are computed."""


class Replies(NamedTuple):
    """What one candidate said: tables of shape (profiles * CASES, turns)."""

    quality: Table
    """What people feel, before it becomes one of five grades."""
    length: Table
    """log2 of the number of words, from its mean."""
    favoured: float
    """1 for the candidate that a favouring judge favours."""


class World(NamedTuple):
    """How the two candidates differ."""

    better: float
    """Points by which the second is better at the first turn."""
    steeper: float
    """Points a turn by which it improves faster."""
    longer: float
    """Doublings by which its replies are longer at the last turn; at the first they are as long."""


ALIKE = World(0.0, 0.0, 0.0)
APART = World(0.2, 0.03, 1.0)
Judge = Callable[[Replies, Rng], Table]


def grades(values: Table) -> Table:
    return np.clip(np.round(values), 1, 5)


def exact(replies: Replies, rng: Rng) -> Table:
    return replies.quality + rng.normal(0, 0.5, replies.quality.shape)


def biased(replies: Replies, rng: Rng) -> Table:
    return grades(exact(replies, rng) + 0.7)


def noisy(replies: Replies, rng: Rng) -> Table:
    """Four of ten scores are drawn blindly."""
    blind = rng.random(replies.quality.shape) < 0.4
    return np.where(blind, rng.integers(1, 6, blind.shape), grades(exact(replies, rng)))


def length_loving(replies: Replies, rng: Rng) -> Table:
    return grades(exact(replies, rng) + 0.8 * replies.length)


def favouring(replies: Replies, rng: Rng) -> Table:
    return grades(exact(replies, rng) + 0.75 * replies.favoured)


JUDGES: Mapping[str, Judge] = {
    "biased": biased,
    "noisy": noisy,
    "length-loving": length_loving,
    "candidate-favouring": favouring,
}


def conversations(world: World, profiles: int, rng: Rng) -> tuple[Replies, Replies]:
    """Of both candidates with the same users: a profile and a case are easier or harder for both."""
    users = np.repeat(rng.normal(0, 0.4, (profiles, 1)), CASES, axis=0) + rng.normal(0, 0.3, (profiles * CASES, 1))
    found = []
    for second in (0.0, 1.0):
        own = np.repeat(rng.normal(0, 0.3, (profiles, 1)), CASES, axis=0)
        mean = 2.6 + 0.06 * (TURNS - 1) + second * (world.better + world.steeper * (TURNS - 1))
        quality = mean + users + own + rng.normal(0, 0.8, (profiles * CASES, len(TURNS)))
        length = rng.normal(second * world.longer * (TURNS - 1) / (len(TURNS) - 1), 0.6, quality.shape)
        found.append(Replies(quality, length, second))
    return found[0], found[1]


def truths(world: World) -> dict[str, float]:
    """The true figures, by MANY profiles."""
    a, b = (grades(each.quality).mean(axis=0) for each in conversations(world, MANY, np.random.default_rng(1)))
    [rate_a, rate_b] = slopes(np.stack([a, b]))
    figures = {"mean AL": b.mean(), "IR": rate_b, "AL(10)": b[-1], "delta AL": a.mean() - b.mean()}
    return {name: float(value) for name, value in (figures | {"delta IR": rate_a - rate_b}).items()}


def drawn(scores: Sequence[Table], n: int, rng: Rng, judge: Judge, said: Sequence[Replies]) -> list[Table]:
    """With which probability each reply was drawn; NaN where it was not. As `labels plan`: systematic, UNSURE times
    as likely where two answers of the judge are more than a point apart."""
    unsure = [np.abs(one - judge(replies, rng)) > 1 for one, replies in zip(scores, said, strict=True)]
    sizes = np.concatenate([np.where(each, UNSURE, 1.0).ravel() for each in unsure])
    chances = sizes * n / sizes.sum()
    order = np.argsort(np.tile(np.arange(len(chances) // 2) // (CASES * len(TURNS)), 2) + rng.random(len(chances)) / 2)
    points = np.floor(np.cumsum(chances[order]) - rng.random())
    taken = np.zeros(len(chances), dtype=bool)
    taken[order] = np.diff(points, prepend=-1.0) > 0
    both = np.where(taken, chances, np.nan).reshape(2, *scores[0].shape)
    return [both[0], both[1]]


class Evaluation(NamedTuple):
    """Intervals of one simulated evaluation, and what the audit said of it."""

    raw: Mapping[str, Interval | None]
    mended: Mapping[str, CorrectedFigure | None]
    alarm: bool


def evaluation(world: World, judge: Judge, profiles: int, n: int, rng: Rng) -> Evaluation:
    said = conversations(world, profiles, rng)
    scores = [judge(replies, rng) for replies in said]
    chances = drawn(scores, n, rng, judge, said)
    owners = [str(case // CASES) for case in range(profiles * CASES)]
    both = [
        LabelledScores(
            name=name,
            scores=score,
            labels=np.where(np.isfinite(chance), grades(replies.quality), np.nan),
            probabilities=chance,
            cases=list(map(str, range(profiles * CASES))),
            profiles=owners,
        )
        for name, score, chance, replies in zip("ab", scores, chances, said, strict=True)
    ]
    found = corrected(both)
    b, [pair] = found.candidates[1], found.comparisons
    alone, paired = level_intervals(scores[1], owners), level_intervals(scores[0] - scores[1], owners)
    raw = {"mean AL": alone.al_mean, "IR": alone.ir, "AL(10)": alone.al[-1], "delta AL": paired.al_mean}
    mended = {"mean AL": b.al_mean, "IR": b.ir, "AL(10)": b.al[-1], "delta AL": pair.delta_al}
    return Evaluation(
        raw | {"delta IR": paired.ir},
        mended | {"delta IR": pair.delta_ir},
        found.audit.p is not None and found.audit.p < 0.05,
    )


def holds(interval: Interval | None, truth: float) -> bool:
    return interval is not None and interval[0] <= truth <= interval[1]


def rows(name: str, world: World, found: Sequence[Evaluation]) -> Iterator[str]:
    for figure, truth in truths(world).items():
        mended = [one.mended[figure] for one in found]
        given = [one for one in mended if one is not None]
        raw = np.mean([holds(one.raw[figure], truth) for one in found])
        covers = f"{np.mean([holds(one.ci, truth) for one in given]):.1%}" if given else "refused"
        weight = f"{np.mean([one.judge_weight for one in given]):.2f}" if given else ""
        width = f"{np.mean([one.ci[1] - one.ci[0] for one in given]):.3f}" if given else ""
        off = f"{np.mean([one.value for one in given]) - truth:+.3f}" if given else ""
        yield f"| {name} | {figure} | {raw:.1%} | {covers} | {off} | {width} | {weight} |"


def alarms(found: Sequence[Evaluation]) -> str:
    return f"{np.mean([one.alarm for one in found]):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=500)
    parser.add_argument("--profiles", type=int, default=60)
    parser.add_argument("--labels", type=int, default=200, help="of both candidates together")
    parser.add_argument("--judge", choices=JUDGES, nargs="+", default=list(JUDGES))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    raised: dict[str, list[str]] = defaultdict(list)
    print(f"{asked.evaluations} evaluations, {asked.profiles} profiles with {CASES} cases, {asked.labels} labels\n")
    print("| judge | figure | raw covers | corrected covers | its error | its width | lambda |\n" + "|---" * 7 + "|")
    for name in asked.judge:
        for world in (APART, ALIKE):
            found = [
                evaluation(world, JUDGES[name], asked.profiles, asked.labels, rng) for _ in range(asked.evaluations)
            ]
            raised[name].append(alarms(found))
            if world is APART:
                print("\n".join(rows(name, world, found)))
    print("\n| judge | alarms of the audit, candidates that differ | candidates that do not |\n|---|---|---|")
    for name, shares in raised.items():
        print(f"| {name} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
