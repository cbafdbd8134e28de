"""How a conversation becomes a request."""

from collections.abc import Sequence

from interalign.tree import Message


def with_last(transcript: Sequence[Message], content: str) -> list[Message]:
    """The conversation with its last user message replaced: requests of one turn share all the messages before it."""
    return [*transcript[:-1], Message(role="user", content=content)]
