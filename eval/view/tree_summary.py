"""One tree in figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from interalign.store.tree_list import TreeFigures
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
    turn_of = {node.id: node.turn for node in nodes}
    outcomes = (verdict.outcome for verdict in judged.verdicts)
    return summary_of(
        TreeFigures(
            turns=max(turn_of.values()),
            replies=sum(node.role == "assistant" for node in nodes),
            scores=tuple((turn_of[score.node], score.value) for score in judged.scores),
            outcomes=tuple("preferred" if outcome in ("a", "b") else outcome for outcome in outcomes),
        )
    )


def summary_of(figures: TreeFigures) -> Summary:
    """The same from what the run file says of the tree."""
    known = [(turn, value) for turn, value in figures.scores if value is not None]
    values = [value for _, value in known]
    return Summary(
        turns=figures.turns,
        replies=figures.replies,
        preferred=figures.outcomes.count("preferred"),
        ties=figures.outcomes.count("tie"),
        missing=figures.outcomes.count("missing") + len(figures.scores) - len(known),
        scored=len(values),
        mean=_mean(values),
        by_turn=tuple(_mean([value for turn, value in known if turn == k]) for k in range(1, figures.turns + 1))
        if known
        else (),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
