"""One tree in figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from interalign.tree import JudgedTree


@dataclass(frozen=True)
class Summary:
    """What a tree holds and what one judge said about it."""

    turns: int
    replies: int
    preferred: int
    """Comparisons in which both orders prefer the same reply."""
    ties: int
    missing: int
    """Comparisons and scores of which no answer could be read."""
    scored: int
    """Replies with a score."""
    mean: float | None
    """Mean score; None without any."""
    by_turn: tuple[float | None, ...]
    """Mean score of the replies of each turn, None where there is none; empty without any score."""


def summarize(judged: JudgedTree) -> Summary:
    """The figures of a tree that holds what one judge said (`JudgedTree.by_judge`)."""
    nodes = judged.tree.nodes
    turns = max(node.turn for node in nodes)
    turn_of = {node.id: node.turn for node in nodes}
    outcomes = [verdict.outcome for verdict in judged.verdicts]
    scores = [(turn_of[score.node], score.value) for score in judged.scores if score.value is not None]
    values = [value for _, value in scores]
    return Summary(
        turns=turns,
        replies=sum(node.role == "assistant" for node in nodes),
        preferred=outcomes.count("a") + outcomes.count("b"),
        ties=outcomes.count("tie"),
        missing=outcomes.count("missing") + len(judged.scores) - len(scores),
        scored=len(values),
        mean=_mean(values),
        by_turn=tuple(_mean([value for turn, value in scores if turn == k]) for k in range(1, turns + 1))
        if scores
        else (),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
