"""What a judge's verdicts make of the replies of one turn, in one word each."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from interalign.tree import Node, Score, Verdict, net_wins

Kind = Literal["chosen", "rejected", "tie", "missing", "unpaired", "unjudged"]


class Mark(NamedTuple):
    """How one reply stands among its siblings.

    `chosen` and `rejected` are the two replies that `interalign export` makes a pair of by default. `tie`: the judge
    gave all replies of the turn the same value. `unpaired`: it has a value, but is not in that
    pair. `missing`: the
    judge was asked, and no answer could be read. `unjudged`: it was not asked.
    """

    kind: Kind
    score: int | None = None
    """1 to 5, if the judge scored the reply."""
    net: int | None = None
    """Comparisons won minus comparisons lost, if the judge compared it."""

    @property
    def label(self) -> str:
        """The mark in words; empty where the score alone says it."""
        if self.kind == "unpaired":
            return "no pair" if self.score is None else ""
        return "not judged" if self.kind == "unjudged" else self.kind

    @property
    def figure(self) -> str:
        """The mark in at most two characters: the score, the net wins of an unpaired reply, or nothing."""
        if self.score is not None:
            return str(self.score)
        return f"{self.net:+d}" if self.net is not None and self.kind == "unpaired" else ""


def marks(replies: Sequence[Node], verdicts: Sequence[Verdict], scores: Sequence[Score]) -> dict[str, Mark]:
    """Reply id -> its mark, from what one judge said. A missing answer is missing: it is no tie and no loss."""
    ids = [reply.id for reply in replies]
    given = {score.node: score.value for score in scores if score.node in ids}
    among = [verdict for verdict in verdicts if verdict.a in ids and verdict.b in ids]
    asked = {*given, *(node for verdict in among for node in (verdict.a, verdict.b))}
    points = {node: value for node, value in given.items() if value is not None}
    wins = {} if points else _wins(ids, among)
    kinds = _kinds([reply for reply in replies if reply.id in (points or wins)], points or wins, unique=not points)
    absent: dict[str, Kind] = {node: "missing" if node in asked else "unjudged" for node in ids}
    return {node: Mark(kinds.get(node, absent[node]), points.get(node), wins.get(node)) for node in ids}


def _wins(ids: Sequence[str], verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Net wins of the replies that took part in at least one comparison that could be read."""
    read = [verdict for verdict in verdicts if verdict.outcome != "missing"]
    compared = {node for verdict in read for node in (verdict.a, verdict.b)}
    return {node: wins for node, wins in net_wins(ids, read).items() if node in compared}


def _kinds(replies: Sequence[Node], values: Mapping[str, int], *, unique: bool) -> dict[str, Kind]:
    """The mark of each reply that has a value; with `unique` a shared first or last place gives no pair."""
    kinds: dict[str, Kind] = {reply.id: "unpaired" for reply in replies}
    able = [reply for reply in replies if reply.text.strip()]
    if len(able) < 2:
        return kinds
    ranked = [values[reply.id] for reply in able]
    high, low = max(ranked), min(ranked)
    if high == low:
        return {**kinds, **{reply.id: "tie" for reply in able}}
    best, worst = able[ranked.index(high)], able[ranked.index(low)]
    shared = ranked.count(high) > 1 or ranked.count(low) > 1
    if best.text.strip() == worst.text.strip() or (unique and shared):
        return kinds
    return {**kinds, best.id: "chosen", worst.id: "rejected"}
