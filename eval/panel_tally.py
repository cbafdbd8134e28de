"""A panel's record: each member's own, what the panel made of the hint, and how far its members agree."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from interalign.eval.intervals import RESAMPLES
from interalign.eval.tallies import Agreement, JudgeFigures, JudgeTally, PanelTies
from interalign.panel import PANEL
from interalign.tree import JudgedTree


class PanelTally:
    """Counted tree by tree; the trees hold the panel's words beside its members' (`panel.with_panel`)."""

    def __init__(self, members: Sequence[str]) -> None:
        self._members = {name: JudgeTally(name) for name in members}
        self._panel = JudgeTally(PANEL)
        self._ties = Counter[str]()
        self._met = {pair: Counter[tuple[Hashable, Hashable]]() for pair in combinations(members, 2)}

    def add(self, judged: JudgedTree, profile: str) -> None:
        """Count one tree, of a persona with this profile."""
        self._panel.add(judged, profile)
        for tally in self._members.values():
            tally.add(judged, profile)
        said = {name: _readable(judged.by_judge(name)) for name in self._members}
        self._ties.update(_kinds_of_ties(judged, said.values()))
        for (a, b), met in self._met.items():
            met.update((said[a][about], said[b][about]) for about in said[a].keys() & said[b].keys())

    def figures(self, *, turns: int, resamples: int = RESAMPLES, seed: int = 0) -> JudgeFigures:
        """The panel's figures: questions are those to all members; how pairs and scores were judged is in theirs."""
        members = tuple(tally.figures(turns=turns, resamples=resamples, seed=seed) for tally in self._members.values())
        panel = self._panel.figures(turns=turns, resamples=resamples, seed=seed)
        return panel.model_copy(
            update={
                "others": tuple(name for name in panel.others if name not in self._members),
                "asked": sum(member.asked for member in members),
                "missing": sum(member.missing for member in members),
                "re_asked": sum(member.re_asked for member in members),
                "comparisons": None,
                "scores": None,
                "members": members,
                "ties": PanelTies(**{kind: self._ties[kind] for kind in PanelTies.model_fields})
                if self._ties
                else None,
                "agreement": tuple(agreement(a, b, met) for (a, b), met in self._met.items()),
            }
        )


def _kinds_of_ties(judged: JudgedTree, said: Iterable[Mapping[Hashable, Hashable]]) -> Iterator[str]:
    """What each verdict of the panel counts as, under the names of `PanelTies`."""
    members = list(said)
    for verdict in judged.by_judge(PANEL).verdicts:
        if verdict.outcome != "missing":
            yield "n"
        if verdict.outcome == "tie":
            preferred = {each.get((verdict.a, verdict.b)) for each in members}
            yield from ("ties", "split" if {"a", "b"} <= preferred else "undecided")


def agreement(a: str, b: str, met: Counter[tuple[Hashable, Hashable]]) -> Agreement:
    """How often two judges say the same, and Cohen's kappa: the share above what their habits alone would give.

    `met`: how often one said this and the other that. Kappa is not weighted: 4 and 5 differ as much as 1 and 5.
    """
    n = met.total()
    if not n:
        return Agreement(a=a, b=b, n=0, same=None, kappa=None)
    same = sum(times for (one, other), times in met.items() if one == other) / n
    ones, others = (_shares(((pair[side], times) for pair, times in met.items()), n) for side in (0, 1))
    by_chance = sum(share * others.get(value, 0.0) for value, share in ones.items())
    kappa = None if by_chance > 1 - 1e-12 else (same - by_chance) / (1 - by_chance)
    return Agreement(a=a, b=b, n=n, same=same, kappa=kappa)


def _shares(values: Iterable[tuple[Hashable, int]], n: int) -> dict[Hashable, float]:
    counts = Counter[Hashable]()
    for value, times in values:
        counts[value] += times
    return {value: times / n for value, times in counts.items()}


def _readable(judged: JudgedTree) -> dict[Hashable, Hashable]:
    """What one judge said, missing answers left out: pair -> outcome, reply -> score."""
    said: dict[Hashable, Hashable] = {}
    said.update(((word.a, word.b), word.outcome) for word in judged.verdicts if word.outcome != "missing")
    said.update((word.node, word.value) for word in judged.scores if word.value is not None)
    return said
