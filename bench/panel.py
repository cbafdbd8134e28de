"""What a panel brings: one judge, a majority and a panel weighed by accuracy, beside the truth of the embedded world.

    python bench/panel.py [--trees 100] [--turns 3]

Grows trees of the world, has noisy world judges compare their replies in both orders, each with chance of its own,
weighs the judges on one half of the profiles and counts on the other half: of the pairs whose true scores differ, how
many are labelled right, and how many wrong; of the true ties, how many get a label. `unweighted answers` counts single
answers as the weighted panel does, with a weight of 1 each. 95 % intervals over profiles. The world validates the
method; it says nothing about how good or how independent language models are as judges.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import interalign as ia
from interalign.agents.answers import parse_verdict
from interalign.eval.intervals import Floats, bootstrap_interval, resampled_sums
from interalign.eval.panel_weights import weight_of
from interalign.models.world import judge, true_score
from interalign.models.world.people import person_of
from interalign.models.world.truth import TIE
from interalign.panel import majority, weighted
from interalign.seeds import addressed_rng
from interalign.tree import JudgedTree, Node, Outcome, Presentation, Verdict

PANELS = {
    "three alike": (0.3, 0.3, 0.3),
    "three unlike": (0.1, 0.3, 0.5),
    "five, three of them poor": (0.2, 0.2, 0.7, 0.7, 0.7),
    "one good, four near coins": (0.2, 0.9, 0.9, 0.9, 0.9),
}
"""Panel -> the share of each member's answers that a coin decides."""
COMPARED = (
    ("weighted", "majority"),
    ("weighted", "unweighted answers"),
    ("majority", "best member"),
    ("weighted", "best member"),
)
Label = Callable[[Sequence[Verdict]], Verdict]


class Asked(NamedTuple):
    """One pair of replies."""

    profile: tuple[str, ...]
    truth: Outcome
    votes: tuple[Verdict, ...]
    """What each member says, in the order of the panel."""


def grown(run: Path, trees: int, turns: int) -> list[tuple[JudgedTree, ia.Persona]]:
    """Trees of the world, with their personas."""
    ia.simulate(run, trees=trees, turns=turns, branch=3, candidate=["world:average", "world:attentive"])
    with ia.open_run(run) as store:
        personas = store.personas()
        return [(judged, personas[judged.tree.persona]) for judged in store.judged_trees()]


def asked(trees: Sequence[tuple[JudgedTree, ia.Persona]], noises: Sequence[float]) -> Iterator[Asked]:
    """Every pair of siblings, compared by every member."""
    for judged, persona in trees:
        for one in judged.by_judge("world:judge").verdicts:
            a, b = judged.tree.node(one.a), judged.tree.node(one.b)
            talk = judged.tree.transcript(a.parent or "")
            gap = true_score(persona, talk, a.text) - true_score(persona, talk, b.text)
            truth: Outcome = "tie" if abs(gap) < TIE else "a" if gap > 0 else "b"
            texts = [message.content for message in talk if message.role == "user"]
            members = enumerate(noises)
            votes = tuple(_vote(persona, texts, a, b, number, noise, judged.tree.id) for number, noise in members)
            yield Asked(persona.profile, truth, votes)


def _vote(persona: ia.Persona, texts: Sequence[str], a: Node, b: Node, number: int, noise: float, tree: str) -> Verdict:
    def order(first: Node, second: Node) -> Presentation:
        rng = addressed_rng(number, tree, first.id, second.id)
        said = judge.compare(person_of(persona), texts, first.text, second.text, judge.Faults(noise=noise), rng)
        return Presentation(first=first.id, second=second.id, replies=(), value=parse_verdict(said))

    return Verdict(judge=str(number), a=a.id, b=b.id, orders=(order(a, b), order(b, a)))


def weights_of(pairs: Sequence[Asked]) -> dict[str, float]:
    """The weights of all members by their answers to these pairs."""
    found = {}
    for member in range(len(pairs[0].votes)):
        right = [
            {"a": each.votes[member].a, "b": each.votes[member].b}.get(each.truth) == order.winner
            for each in pairs
            for order in each.votes[member].orders
        ]
        found[str(member)] = weight_of(sum(right) / len(right), len(right))
    return found


def counted(pairs: Sequence[Asked], label: Label) -> Floats:
    """A row a profile: pairs that differ, of them right, of them wrong; true ties, of them labelled."""
    rows: dict[tuple[str, ...], Floats] = {}
    for each in pairs:
        said, differs = label(each.votes).outcome, each.truth != "tie"
        hits = [differs, differs and said == each.truth, differs and said not in ("tie", each.truth)]
        row = np.array([*hits, not differs, not differs and said != "tie"], float)
        rows[each.profile] = rows.get(each.profile, np.zeros(5)) + row
    return np.array(list(rows.values()))


def share(rows: Floats, part: int, whole: int) -> str:
    """A share in percent with its interval; a dash where there is nothing to have a share of."""
    sums, drawn = rows.sum(axis=0), resampled_sums(rows)
    return _shown(sums[part] / sums[whole], _ratio(drawn[:, part], drawn[:, whole]), len(rows)) if sums[whole] else "-"


def gain(one: Floats, other: Floats) -> str:
    """How many points more of the pairs that differ the first labels right than the second, paired by profile."""
    both = np.hstack([one, other])
    sums, drawn = both.sum(axis=0), resampled_sums(both)
    return _shown((sums[1] - sums[6]) / sums[0], _ratio(drawn[:, 1] - drawn[:, 6], drawn[:, 0]), len(one), "+")


def _ratio(parts: Floats, wholes: Floats) -> Floats:
    ratio: Floats = np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)
    return ratio


def _shown(value: float, drawn: Floats, units: int, sign: str = "") -> str:
    ends = bootstrap_interval(drawn, units)
    return f"{100 * value:{sign}.1f}" + (f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else "")


def main() -> None:
    """Print a table a panel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trees = grown(Path(folder) / "run.db", given.trees, given.turns)
    for name, noises in PANELS.items():
        pairs = list(asked(trees, noises))
        half = sorted({each.profile for each in pairs})[::2]
        fitted = [each for each in pairs if each.profile in half]
        held_out = [each for each in pairs if each.profile not in half]
        weights = weights_of(fitted)
        best = max(weights, key=lambda member: weights[member])
        ways: dict[str, Label] = {
            "best member": lambda votes, best=best: votes[int(best)],
            "majority": majority,
            "unweighted answers": lambda votes: weighted(votes, {vote.judge: 1.0 for vote in votes}),
            "weighted": lambda votes, weights=weights: weighted(votes, weights),
        }
        rows = {way: counted(held_out, label) for way, label in ways.items()}
        shown = ", ".join(f"{noise:g} -> {weights[str(number)]:.2f}" for number, noise in enumerate(noises))
        print(f"\n{name}; noise -> weight: {shown}; {len(held_out):,} pairs of {len(rows['majority'])} profiles")
        print("| | right, % | wrong, % | true ties labelled, % |\n|---|---|---|---|")
        for way, found in rows.items():
            print(f"| {way} | {share(found, 1, 0)} | {share(found, 2, 0)} | {share(found, 4, 3)} |")
        for one, other in COMPARED:
            print(f"right, {one} - {other}: {gain(rows[one], rows[other])} points")


if __name__ == "__main__":
    main()
