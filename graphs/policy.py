"""Branching policies: which replies of a finished level of the tree are continued.

An open set: `registries.POLICIES` names the built-in ones, entry points of `interalign.policies` and `module:attribute`
add others.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import cast

from interalign.errors import ConfigError
from interalign.graphs.turn import Conversation, Turn
from interalign.panel import panel_words
from interalign.registries import POLICIES
from interalign.seeds import addressed_rng
from interalign.tree import Node, net_wins

Policy = Callable[[Conversation, Sequence[Turn]], Awaitable[list[Node]]]
"""The finished turns of one level -> the replies the conversation goes on with, in stored order; none ends the tree."""


@dataclass(frozen=True)
class BranchingPolicy:
    """A member of the open set."""

    name: str
    title: str
    """One line that says which replies are continued."""
    build: Callable[[str], Policy]
    """From the argument of `NAME:ARGUMENT` (empty: none was given) to the policy."""
    continued: Callable[[str, int], int] | None = None
    """From the argument and the number of a level's replies to how many of them are continued; None: it depends."""


def branching_policy(spec: str) -> Policy:
    """The policy called `spec`: a name of the open set, or the `module:attribute` of an async function.

    Raises ConfigError for a policy that does not exist or cannot be loaded.
    """
    found, argument = POLICIES.load(spec)
    if isinstance(found, BranchingPolicy):
        return found.build(argument)
    if inspect.iscoroutinefunction(found):
        return cast(Policy, found)
    raise ConfigError(
        f"branching policy {spec!r} is {type(found).__name__}; expected an async function or a BranchingPolicy"
    )


def turns_of_a_tree(spec: str, turns: int, replies: int) -> int | None:
    """How many turns a tree has under this policy, with paths of `turns` turns of so many replies; None: it depends."""
    found, argument = POLICIES.load(spec)
    continued = found.continued if isinstance(found, BranchingPolicy) else None
    if continued is None:
        return None
    paths, every = 1, 0
    for _ in range(turns):
        every += paths
        paths = continued(argument, paths * replies)
    return every


async def caterpillar(conversation: Conversation, level: Sequence[Turn]) -> list[Node]:
    """One reply of the turn, drawn at random whatever the judge said: the published shape (paper, conversation)."""
    replies = [reply for turn in level for reply in turn.replies]
    rng = addressed_rng(conversation.seed, conversation.case, level[0].user.id, "continue")
    return [rng.choice(replies)]


async def full(conversation: Conversation, level: Sequence[Turn]) -> list[Node]:
    """Every reply."""
    return [reply for turn in level for reply in turn.replies]


def beam(width: int) -> Policy:
    """The policy that continues the `width` replies of a level that the judge liked best.

    Ties, and replies without a judgement, are decided at random.
    """

    async def best(conversation: Conversation, level: Sequence[Turn]) -> list[Node]:
        worth = {node: value for turn in level for node, value in standing(turn).items()}
        replies = [reply for turn in level for reply in turn.replies]

        def rank(reply: Node) -> tuple[float, float]:
            coin = addressed_rng(conversation.seed, conversation.case, reply.id, "continue").random()
            return -worth[reply.id], coin

        kept = {reply.id for reply in sorted(replies, key=rank)[:width]}
        return [reply for reply in replies if reply.id in kept]

    return best


def standing(turn: Turn) -> dict[str, float]:
    """Reply id -> its score (minus infinity where it is missing), or its comparisons won minus those lost; of several
    judges, as their panel sees it."""
    ids = [reply.id for reply in turn.replies]
    verdicts, scores = turn.verdicts, turn.scores
    members = {verdict.judge for verdict in verdicts} | {score.judge for score in scores}
    if len(members) > 1:
        verdicts, scores = panel_words(verdicts, scores, members)
    if scores:
        said = {score.node: score.value for score in scores}
        return {node: float("-inf") if said.get(node) is None else float(said[node] or 0) for node in ids}
    return {node: float(wins) for node, wins in net_wins(ids, verdicts).items()}


def _one(_: str, replies: int) -> int:
    return 1


def _at_most(width: str, replies: int) -> int:
    return min(int(width), replies)


CATERPILLAR = BranchingPolicy(
    "caterpillar", "one reply a turn, at random (the paper's shape)", lambda _: caterpillar, _one
)
FULL = BranchingPolicy("full", "every reply", lambda _: full, lambda _, replies: replies)
BEST = BranchingPolicy(
    "best", "one reply a turn, that which the judge prefers; ties at random", lambda _: beam(1), _one
)
BEAM = BranchingPolicy("beam:K", "the K best replies of a level", lambda width: beam(int(width)), _at_most)
