"""A branching policy: the conversation goes on with the longest reply of each turn."""

from collections.abc import Sequence

from interalign import Node
from interalign.graphs.turn import Conversation, Turn


async def longest(conversation: Conversation, level: Sequence[Turn]) -> list[Node]:
    """The longest reply of every turn of the level."""
    return [max(turn.replies, key=lambda reply: len(reply.text)) for turn in level]
