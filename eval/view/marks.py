"""What a judge's verdicts make of the replies of one turn, in one word each."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from interalign.preferences import Ranking, best_worst, ranking
from interalign.tree import Node, Score, Verdict

Kind = Literal["chosen", "rejected", "tie", "missing", "unpaired", "unjudged"]


class Mark(NamedTuple):
    """How one reply stands among its siblings.

    `chosen` and `rejected` are the two replies that `interalign export` makes a pair of by default. `tie`: the judge
    gave all replies of the turn the same value. `unpaired`: it has a value, but is not in that pair. `missing`: the
    judge was asked, and no answer could be read. `unjudged`: it was not asked.
    """

    kind: Kind
    score: float | None = None
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


def marks(
    asked: Node, replies: Sequence[Node], verdicts: Sequence[Verdict], scores: Sequence[Score]
) -> dict[str, Mark]:
    """Reply id -> its mark, from what one judge said about the replies to `asked`; the pair is the export's own.

    A missing answer is missing: it is no tie and no loss. A blank reply is never one of a pair.
    """
    found = ranking(asked, replies, verdicts, scores)
    values = {reply.id: int(value) for reply, value in zip(found.replies, found.values, strict=True)}
    kinds = _kinds(found)
    points = {score.node: score.value for score in scores}
    wins = values if found.verdicts else {}
    asked_about = {*points, *(node for verdict in verdicts for node in (verdict.a, verdict.b))}
    for reply in replies:
        without: Kind = "missing" if reply.text.strip() else "unpaired"
        kinds.setdefault(reply.id, without if reply.id in asked_about else "unjudged")
    return {reply.id: Mark(kinds[reply.id], points.get(reply.id), wins.get(reply.id)) for reply in replies}


def _kinds(found: Ranking) -> dict[str, Kind]:
    """The mark of each reply that has a value."""
    ids = [reply.id for reply in found.replies]
    if len(ids) > 1 and len(set(found.values)) == 1:
        return dict.fromkeys(ids, "tie")
    kinds: dict[str, Kind] = dict.fromkeys(ids, "unpaired")
    pair = best_worst(found)
    if pair is not None and not pair.says_the_same_twice:
        kinds |= {pair.chosen.id: "chosen", pair.rejected.id: "rejected"}
    return kinds
