"""Informative preference pairs a call, by branching policy, at equal numbers of calls, on the embedded world.

    python bench/policies.py [--seeds 6] [--calls 600] [--turns 5] [--out FOLDER]

Each policy grows trees of the same personas, and its first whole trees that fit into the calls are counted. A pair is
one that `export --format dpo` would write (the clearest of a turn; the judge's two orders agree) with a margin of at
least MARGINS; it is right if the true scores say the same. The judge errs: NOISE. Intervals are Student's over seeds,
those of differences paired by seed. The figures validate the pipeline; they say nothing about language models.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

import interalign as ia
from interalign.models.world import true_score
from interalign.preferences import Pair, pairs
from interalign.store import Store
from interalign.tree import JudgedTree

POLICIES = ("caterpillar", "full", "best", "beam:2", "adaptive")
NOISE = "noise=0.2&position_bias=0.2"
MARGINS = {"compare": 0.3, "score": 1.0}
"""Of net wins (1 is the largest), and of scores: a pair is informative from here on."""
TOLD_APART = 0.1
"""True scores that differ by less are a tie for the world's judge."""


class Grown(NamedTuple):
    """What one policy got for its calls."""

    calls: int
    turns: int
    informative: int
    right: int

    @property
    def figures(self) -> tuple[float, float, float]:
        """Informative pairs and right pairs per 100 calls, and the share of informative ones that are right."""
        share = self.right / self.informative if self.informative else float("nan")
        return 100 * self.informative / self.calls, 100 * self.right / self.calls, share


def grown(run: Path, policy: str, judging: str, seed: int, asked: argparse.Namespace) -> Grown:
    """The first trees of a run by this policy that fit into the calls."""
    spent, trees = 0, 2
    if run.exists():
        with Store.open(run) as store:
            trees = sum(store.count_trees().values())
    while spent < asked.calls:
        trees = max(trees + 1, round(1.05 * trees * asked.calls / spent)) if spent else trees
        done = ia.simulate(
            run,
            trees=trees,
            turns=asked.turns,
            policy=policy,
            judging=judging,
            judge=f"world:judge?{NOISE}",
            seed=seed,
        )
        spent = sum(used.calls for used in done.usage.values())
    with Store.open(run) as store:
        return counted(list(within(store, asked.calls)), judging)


def within(store: Store, calls: int) -> Iterator[tuple[Store, JudgedTree, int]]:
    """Whole trees in order, with the calls of each, as long as they fit; at least one."""
    spent = 0
    for judged in store.judged_trees():
        made = calls_of(judged)
        if spent and spent + made > calls:
            return
        spent += made
        yield store, judged, made


def calls_of(judged: JudgedTree) -> int:
    """The calls of a tree: one a message, one a note, and what the judge was asked. (The world is always readable.)"""
    notes = sum(note.name == "hint" for note in judged.annotations)
    return len(judged.tree.nodes) + notes + 2 * len(judged.verdicts) + len(judged.scores)


def counted(trees: Sequence[tuple[Store, JudgedTree, int]], judging: str) -> Grown:
    """The pairs of these trees."""
    found = [(store, judged, pair) for store, judged, _ in trees for pair in pairs(judged, "best-worst")]
    informative = [each for each in found if each[2].margin >= MARGINS[judging]]
    return Grown(
        calls=sum(made for *_, made in trees),
        turns=sum(len(judged.tree.turns()) for _, judged, _ in trees),
        informative=len(informative),
        right=sum(is_right(*each) for each in informative),
    )


def is_right(store: Store, judged: JudgedTree, pair: Pair) -> bool:
    """Whether the chosen reply is the better one in truth."""
    persona, talk = store.persona(judged.tree.persona), judged.tree.transcript(pair.prompt.id)
    chosen, rejected = (true_score(persona, talk, reply.text) for reply in (pair.chosen, pair.rejected))
    return chosen - rejected >= TOLD_APART


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by Student's t over seeds."""
    mean, half = float(np.mean(values)), 0.0
    if len(values) > 1:
        half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return mean, mean - half, mean + half


def shown(values: Sequence[float], sign: str = "") -> str:
    mean, low, high = interval(values)
    return f"{mean:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def table(judging: str, found: dict[str, list[Grown]]) -> str:
    """A row a policy."""
    first, *_ = found
    base = [each.figures for each in found[first]]
    rows = [
        f"\n{judging}, {len(base)} seeds, informative from a margin of {MARGINS[judging]:g}\n"
        f"| policy | calls a seed | turns | informative pairs / 100 calls | minus {first} | "
        f"right pairs / 100 calls | minus {first} | right of informative |\n|---|---|---|---|---|---|---|---|"
    ]
    for policy, runs in found.items():
        figures = [run.figures for run in runs]
        more, righter = ([a[which] - b[which] for a, b in zip(figures, base, strict=True)] for which in (0, 1))
        cells = (
            policy,
            f"{np.mean([run.calls for run in runs]):,.0f}",
            f"{np.mean([run.turns for run in runs]):,.0f}",
            shown([each[0] for each in figures]),
            "" if policy == first else shown(more, "+"),
            shown([each[1] for each in figures]),
            "" if policy == first else shown(righter, "+"),
            f"{np.mean([each[2] for each in figures]):.3f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--calls", type=int, default=600, help="of each policy and seed")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--judging", choices=[*MARGINS], nargs="+", default=[*MARGINS])
    parser.add_argument(
        "--policies", nargs="+", default=[*POLICIES], help="the first one is what others are set beside"
    )
    parser.add_argument("--out", type=Path, help="keep the runs in this folder, and go on with those that are there")
    asked = parser.parse_args()
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for judging in asked.judging:
            print(table(judging, measured(asked.out or Path(folder), judging, asked)), flush=True)


def measured(folder: Path, judging: str, asked: argparse.Namespace) -> dict[str, list[Grown]]:
    """What each policy got, seed by seed."""
    return {
        policy: [
            grown(folder / f"{judging}-{policy.replace(':', '')}-{seed}.db", policy, judging, seed, asked)
            for seed in range(asked.seeds)
        ]
        for policy in asked.policies
    }


if __name__ == "__main__":
    main()
