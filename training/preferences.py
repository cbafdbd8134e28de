"""Preference pairs, derived from what one judge said about the replies of a turn. Nothing is stored as better or worse.

A reply's value is its score, if the judge scored any reply of the turn, else its net wins: comparisons won minus
comparisons lost. A missing score or verdict is missing: it is no 3, no tie and no loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from interalign.tree import Frozen, JudgedTree, Node, Verdict, net_wins

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
    the largest one that n compared replies allow, 2 (n - 1): 1 for two replies, less where comparisons were ties.
    """


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

    `best-worst` takes the highest score against the lowest (the earlier sibling where several are equal), or the one
    reply with the most net wins against the one with the fewest: where two share first or last place in net wins, the
    judge has not said which, and the turn gives no pair. `all` takes every two replies with different scores, or
    every comparison that one of them won. Ties, missing values and replies of the same text give no pair.
    """
    candidates = (pair for ranking in rankings(judged) for pair in _pairs_of_turn(ranking, mode))
    return [pair for pair in candidates if pair.chosen.text.strip() != pair.rejected.text.strip()]


def chosen_replies(judged: JudgedTree) -> list[Node]:
    """The best reply of every turn that has a `best-worst` pair, in stored order of the turns: what SFT trains on."""
    return [pair.chosen for pair in pairs(judged, "best-worst")]


def rankings(judged: JudgedTree) -> Iterator[Ranking]:
    """The turns in which at least two replies got a value. Blank replies are left out: there is nothing to train on."""
    scores = {score.node: float(score.value) for score in judged.scores if score.value is not None}
    verdicts = {frozenset((verdict.a, verdict.b)): verdict for verdict in judged.verdicts}
    for prompt in judged.tree.turns():
        replies = [node for node in judged.tree.children(prompt.id) if node.text.strip()]
        values = {node.id: scores[node.id] for node in replies if node.id in scores}
        compared = () if values else _comparisons(replies, verdicts)
        ids = {node_id for verdict in compared for node_id in (verdict.a, verdict.b)}
        values = values or {node_id: float(wins) for node_id, wins in net_wins(sorted(ids), compared).items()}
        ranked = tuple(node for node in replies if node.id in values)
        if len(ranked) > 1:
            yield Ranking(prompt, ranked, tuple(values[node.id] for node in ranked), compared)


def _comparisons(replies: Sequence[Node], verdicts: Mapping[frozenset[str], Verdict]) -> tuple[Verdict, ...]:
    """The comparisons of these replies that were answered in both orders, in stored order of the replies."""
    known = (verdicts.get(frozenset((a.id, b.id))) for a, b in combinations(replies, 2))
    return tuple(verdict for verdict in known if verdict is not None and verdict.outcome != "missing")


def _pairs_of_turn(ranking: Ranking, mode: PairMode) -> Iterator[Pair]:
    if mode == "best-worst":
        return _best_worst(ranking)
    return _by_comparison(ranking) if ranking.verdicts else _by_score(ranking)


def _best_worst(ranking: Ranking) -> Iterator[Pair]:
    prompt, replies, values, verdicts = ranking
    high, low = max(values), min(values)
    shared_place = values.count(high) > 1 or values.count(low) > 1
    if high == low or (verdicts and shared_place):
        return
    best, worst = replies[values.index(high)], replies[values.index(low)]
    scale = 2 * (len(replies) - 1) if verdicts else 1
    yield Pair(prompt=prompt, chosen=best, rejected=worst, margin=(high - low) / scale)


def _by_score(ranking: Ranking) -> Iterator[Pair]:
    for (a, of_a), (b, of_b) in combinations(zip(ranking.replies, ranking.values, strict=True), 2):
        if of_a != of_b:
            better, worse = (a, b) if of_a > of_b else (b, a)
            yield Pair(prompt=ranking.prompt, chosen=better, rejected=worse, margin=abs(of_a - of_b))


def _by_comparison(ranking: Ranking) -> Iterator[Pair]:
    nodes = {node.id: node for node in ranking.replies}
    for verdict in ranking.verdicts:
        a, b = nodes[verdict.a], nodes[verdict.b]
        if verdict.outcome != "tie":
            better, worse = (a, b) if verdict.outcome == "a" else (b, a)
            yield Pair(prompt=ranking.prompt, chosen=better, rejected=worse, margin=1.0)
