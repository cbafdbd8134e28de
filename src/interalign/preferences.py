"""Preference pairs, derived from what one judge said about the replies of a turn. Nothing is stored as better or worse.

A reply's value is its score, if the judge scored any reply of the turn, else its net wins: comparisons won minus
comparisons lost. A missing score or verdict is missing: it is no 3, no tie and no loss.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from interalign.tree import IMPORTED, MARGIN, Frozen, JudgedTree, Node, Score, Verdict, net_wins

PairMode = Literal["best-worst", "all"]
"""`best-worst`: at most one pair a turn. `all`: every pair of replies the judge tells apart."""


class Pair(Frozen):
    """Two replies to one user message, of which the judge prefers one."""

    prompt: Node
    """The user message both replies answer."""
    chosen: Node
    rejected: Node
    margin: float
    """How clear the preference is, above 0.

    Of scores, their difference: 1 to 4 points. Of one comparison, 1. Of net wins (`best-worst`), their difference over
    the largest one that n compared replies allow, 2 (n - 1): 1 for two replies, less where comparisons were ties. Of a
    pair that was imported with a margin, that.
    """

    @property
    def ids(self) -> tuple[str, str]:
        """Ids of the two replies in sorted order: the same whichever is chosen."""
        first, second = sorted((self.chosen.id, self.rejected.id))
        return first, second

    @property
    def says_the_same_twice(self) -> bool:
        """Whether the two replies are the same text: nothing can be learnt from that."""
        return self.chosen.text.strip() == self.rejected.text.strip()


class Ranking(NamedTuple):
    """The replies of one turn that a judge gave a value, in stored order."""

    prompt: Node
    replies: tuple[Node, ...]
    values: tuple[float, ...]
    """One value a reply: scores, 1 to 5, or net wins."""
    verdicts: tuple[Verdict, ...]
    """The comparisons behind net wins, in stored order of the replies; empty where the values are scores."""


def pairs(judged: JudgedTree, mode: PairMode) -> list[Pair]:
    """Preference pairs of a tree that holds what one judge said (`JudgedTree.by_judge`), in stored order of the turns.

    `all` takes every two replies with different scores, or every comparison that one of them won; `best-worst` at most
    one of these a turn (`best_worst`). Ties, missing values, replies of the same text and those that are `unpaired`
    give no pair.
    """
    candidates = (pair for ranking in rankings(judged) for pair in _pairs_of_turn(ranking, mode))
    found = [pair for pair in candidates if not pair.says_the_same_twice and pair.ids not in judged.unpaired]
    return _with_imported_margins(judged, found) if judged.judges() == (IMPORTED,) else found


def _with_imported_margins(judged: JudgedTree, found: Sequence[Pair]) -> list[Pair]:
    """The pairs of an imported file with the margins that it gave them, where it did."""
    said = {note.node: note.value for note in judged.annotations if (note.name, note.by) == (MARGIN, IMPORTED)}
    margins = {node: value for node, value in said.items() if isinstance(value, dict)}

    def margin(pair: Pair) -> float:
        given = margins.get(pair.chosen.id, {}).get(pair.rejected.id)
        return float(given) if isinstance(given, int | float) else pair.margin

    return [pair.model_copy(update={"margin": margin(pair)}) for pair in found]


def agreement(judged: JudgedTree, pair: Pair, judges: Collection[str]) -> float:
    """The share of these judges that prefer the chosen reply, of those with a readable answer about both replies.

    `judged` holds what all of them said. A tie is no preference. 1 where none of them has an answer.
    """
    votes: list[bool] = []
    for judge in judges:
        own = judged.by_judge(judge)
        values = {score.node: score.value for score in own.scores}
        votes += (
            verdict.outcome == ("a" if verdict.a == pair.chosen.id else "b")
            for verdict in own.verdicts
            if {verdict.a, verdict.b} == set(pair.ids) and verdict.outcome != "missing"
        )
        chosen, rejected = values.get(pair.chosen.id), values.get(pair.rejected.id)
        if chosen is not None and rejected is not None:
            votes.append(chosen > rejected)
    return sum(votes) / len(votes) if votes else 1.0


def chosen_replies(judged: JudgedTree) -> list[Node]:
    """The best reply of every turn that has a `best-worst` pair, in stored order of the turns: what SFT trains on."""
    return [pair.chosen for pair in pairs(judged, "best-worst")]


def rankings(judged: JudgedTree) -> Iterator[Ranking]:
    """The turns in which at least two replies got a value."""
    for prompt in judged.tree.turns():
        found = ranking(prompt, judged.tree.children(prompt.id), judged.verdicts, judged.scores)
        if len(found.replies) > 1:
            yield found


def ranking(prompt: Node, siblings: Sequence[Node], verdicts: Sequence[Verdict], scores: Sequence[Score]) -> Ranking:
    """What one judge's words make of the replies to `prompt`. Blank replies are left out: nothing to train on."""
    replies = [node for node in siblings if node.text.strip()]
    ids = {node.id for node in replies}
    values = {score.node: float(score.value) for score in scores if score.node in ids and score.value is not None}
    compared = () if values else _comparisons(replies, verdicts)
    if compared:
        # In the order of the siblings, so that what is read off the values does not depend on who was compared first.
        met = {node_id for verdict in compared for node_id in (verdict.a, verdict.b)}
        wins = net_wins([node.id for node in replies if node.id in met], compared)
        values = {node_id: float(count) for node_id, count in wins.items()}
    ranked = tuple(node for node in replies if node.id in values)
    return Ranking(prompt, ranked, tuple(values[node.id] for node in ranked), compared)


def best_worst(found: Ranking) -> Pair | None:
    """The clearest preference of a turn, None if there is none.

    Of scores: the highest against the lowest, the earlier sibling where several are equal. Of comparisons: the one that
    was won by the reply with the larger net wins and by the largest difference of them, the earliest of equals; so the
    judge itself said that the chosen reply beats the rejected one.
    """
    if not found.verdicts:
        candidates = list(_by_score(found))
    else:
        candidates = [_with_net_margin(found, pair) for pair in _by_comparison(found)]
    clearest = max(candidates, key=lambda pair: pair.margin, default=None)
    return clearest if clearest is not None and clearest.margin > 0 else None


def _comparisons(replies: Sequence[Node], verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The comparisons of these replies that were answered in both orders, in stored order of the replies."""
    by_pair = {frozenset((verdict.a, verdict.b)): verdict for verdict in verdicts}
    known = (by_pair.get(frozenset((a.id, b.id))) for a, b in combinations(replies, 2))
    return tuple(verdict for verdict in known if verdict is not None and verdict.outcome != "missing")


def _pairs_of_turn(found: Ranking, mode: PairMode) -> Iterator[Pair]:
    if mode == "best-worst":
        clearest = best_worst(found)
        return iter(() if clearest is None else (clearest,))
    return _by_comparison(found) if found.verdicts else _by_score(found)


def _by_score(found: Ranking) -> Iterator[Pair]:
    for (a, of_a), (b, of_b) in combinations(zip(found.replies, found.values, strict=True), 2):
        if of_a != of_b:
            better, worse = (a, b) if of_a > of_b else (b, a)
            yield Pair(prompt=found.prompt, chosen=better, rejected=worse, margin=abs(of_a - of_b))


def _by_comparison(found: Ranking) -> Iterator[Pair]:
    nodes = {node.id: node for node in found.replies}
    for verdict in found.verdicts:
        a, b = nodes[verdict.a], nodes[verdict.b]
        if verdict.outcome != "tie":
            better, worse = (a, b) if verdict.outcome == "a" else (b, a)
            yield Pair(prompt=found.prompt, chosen=better, rejected=worse, margin=1.0)


def _with_net_margin(found: Ranking, pair: Pair) -> Pair:
    wins = {node.id: value for node, value in zip(found.replies, found.values, strict=True)}
    difference = wins[pair.chosen.id] - wins[pair.rejected.id]
    return pair.model_copy(update={"margin": difference / (2 * (len(found.replies) - 1))})
