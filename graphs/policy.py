"""Branching policies: which replies of a finished level of the tree are continued."""

from collections.abc import Callable, Sequence

from interalign.graphs.turn import Conversation, Turn
from interalign.seeds import addressed_rng
from interalign.tree import Node, net_wins

Policy = Callable[[Conversation, Sequence[Turn]], list[Node]]
"""The finished turns of one level -> the replies the conversation goes on with, in stored order."""


def branching_policy(name: str) -> Policy:
    """The policy called `caterpillar`, `full` or `beam:K` (names checked by SimulationSettings)."""
    if name == "caterpillar":
        return caterpillar
    if name == "full":
        return full
    return lambda conversation, level: beam(conversation, level, width=int(name.removeprefix("beam:")))


def caterpillar(conversation: Conversation, level: Sequence[Turn]) -> list[Node]:
    """One reply of the turn, drawn at random whatever the judge said: the published shape (paper, conversation)."""
    replies = [reply for turn in level for reply in turn.replies]
    rng = addressed_rng(conversation.seed, conversation.case, level[0].user.id, "continue")
    return [rng.choice(replies)]


def full(conversation: Conversation, level: Sequence[Turn]) -> list[Node]:
    """Every reply."""
    return [reply for turn in level for reply in turn.replies]


def beam(conversation: Conversation, level: Sequence[Turn], width: int) -> list[Node]:
    """The `width` replies of the level that the judge liked best; ties, and replies nobody judged, fall at random."""
    worth = {node: value for turn in level for node, value in standing(turn).items()}
    replies = [reply for turn in level for reply in turn.replies]

    def rank(reply: Node) -> tuple[float, float]:
        coin = addressed_rng(conversation.seed, conversation.case, reply.id, "continue").random()
        return -worth[reply.id], coin

    best = {reply.id for reply in sorted(replies, key=rank)[:width]}
    return [reply for reply in replies if reply.id in best]


def standing(turn: Turn) -> dict[str, float]:
    """Reply id -> its score (minus infinity where it is missing), or its comparisons won minus those lost."""
    ids = [reply.id for reply in turn.replies]
    if turn.scores:
        said = {score.node: score.value for score in turn.scores}
        return {node: float("-inf") if said.get(node) is None else float(said[node] or 0) for node in ids}
    return {node: float(wins) for node, wins in net_wins(ids, turn.verdicts).items()}
