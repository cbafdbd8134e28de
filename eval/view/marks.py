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
        return signed(self.net) if self.net is not None and self.kind == "unpaired" else ""


def signed(number: int) -> str:
    """`+1`, `0` or `-1`, the last with a real minus sign."""
    return f"{number:+d}".replace("-", "\u2212") if number else "0"


def marks(replies: Sequence[Node], verdicts: Sequence[Verdict], scores: Sequence[Score]) -> dict[str, Mark]:
    """Reply id -> its mark, from what one judge said. A missing answer is missing: it is no tie and no loss.

    As in the export, a blank reply is never one of a pair, and comparisons with it count for nobody.
    """
    able = {reply.id: reply.text.strip() for reply in replies if reply.text.strip()}
    given = {score.node: score.value for score in scores}
    points = {node: value for node, value in given.items() if value is not None}
    scored = {node: points[node] for node in able if node in points}
    wins = {} if scored else _wins(able, verdicts)
    kinds = _kinds(able, scored or wins, unique=not scored)
    asked = {*given, *(node for verdict in verdicts for node in (verdict.a, verdict.b))}
    for reply in replies:
        without: Kind = "missing" if reply.id in able else "unpaired"
        kinds.setdefault(reply.id, without if reply.id in asked else "unjudged")
    return {reply.id: Mark(kinds[reply.id], points.get(reply.id), wins.get(reply.id)) for reply in replies}


def _wins(able: Mapping[str, str], verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Net wins of the replies that took part in at least one comparison that could be read."""
    read = [said for said in verdicts if said.outcome != "missing" and said.a in able and said.b in able]
    compared = {node for said in read for node in (said.a, said.b)}
    return {node: wins for node, wins in net_wins(list(able), read).items() if node in compared}


def _kinds(able: Mapping[str, str], values: Mapping[str, int], *, unique: bool) -> dict[str, Kind]:
    """The mark of each reply that has a value; with `unique` a shared first or last place gives no pair."""
    kinds: dict[str, Kind] = dict.fromkeys(values, "unpaired")
    ranked = list(values.values())
    if len(ranked) < 2:
        return kinds
    high, low = max(ranked), min(ranked)
    if high == low:
        return dict.fromkeys(values, "tie")
    # The earliest of equals, which is what `max` and `min` find: `values` is in stored order.
    best, worst = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    shared = ranked.count(high) > 1 or ranked.count(low) > 1
    if able[best] == able[worst] or (unique and shared):
        return kinds
    return {**kinds, best: "chosen", worst: "rejected"}
