"""Branching policies: which replies of a finished level of the tree are continued.

An open set: `registries.POLICIES` names the built-in ones, entry points of `interalign.policies` and `module:attribute`
add others. A policy that has a method `wants_another` also decides how many replies a turn gets (`Adaptive`).
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, cast

from interalign.config.settings import MOST_REPLIES
from interalign.errors import ConfigError
from interalign.graphs.turn import Conversation, Turn, WantsAnother
from interalign.panel import panel_words
from interalign.registries import POLICIES
from interalign.seeds import addressed_rng
from interalign.tree import Node, net_wins

Policy = Callable[[Conversation, Sequence[Turn]], Awaitable[list[Node]]]
"""The finished turns of one level -> the replies the conversation goes on with, in stored order; none ends the tree."""


CLOSE: Final = 1.0
"""Replies whose scores or net wins differ by less are not told apart: judges say whole points, and win or lose."""


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


def wants_another_of(policy: Policy) -> WantsAnother | None:
    """The policy's word on whether a judged turn gets one more reply; None: turns keep `branch` replies."""
    return getattr(policy, "wants_another", None)


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


@dataclass(frozen=True)
class Adaptive:
    """One reply a turn, drawn as by `caterpillar`; where the judge is undecided, the turn first gets more replies.

    Every decision rests on one turn's replies and judgements alone, so that it is the same at any concurrency and after
    any kill. The calls are bounded: a turn never has more than `most` replies.
    """

    most: int = MOST_REPLIES
    """Replies that a turn has at most."""

    async def __call__(self, conversation: Conversation, level: Sequence[Turn]) -> list[Node]:
        """Whatever the judge said, so that later turns are met in the same way as under `caterpillar`."""
        return await caterpillar(conversation, level)

    def wants_another(self, turn: Turn) -> bool:
        """Whether another reply is worth its calls: the judge does not tell the best of these from the worst."""
        return len(turn.replies) < self.most and is_undecided(turn)


def is_undecided(turn: Turn) -> bool:
    """Whether the judge was heard on at least two replies, and prefers none: its two orders disagree, it says tie, or
    all scores are within less than `CLOSE`. What is missing is not undecided: another reply would not mend it."""
    heard = any(verdict.outcome != "missing" for verdict in turn.verdicts)
    values = [value for value in standing(turn).values() if isfinite(value)]
    if len(values) < 2 or not (heard or turn.scores):
        return False
    return max(values) - min(values) < CLOSE


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
ADAPTIVE = BranchingPolicy(
    "adaptive:K",
    "one reply a turn, at random; up to K replies where the judge is undecided (without K: 4)",
    lambda most: Adaptive(int(most or MOST_REPLIES)),
    _one,
)
