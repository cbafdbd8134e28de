"""How a conversation becomes a request."""

from collections.abc import Sequence

from interalign.tree import Message


def as_script(transcript: Sequence[Message]) -> str:
    """The conversation as text: `User: ...` and `Assistant: ...`, further lines of a message indented by two blanks.

    No message can forge another's beginning, since each begins at the edge and all their other lines do not.
    """
    return "\n".join(_spoken(message) for message in transcript if message.role != "system")


def _spoken(message: Message) -> str:
    return f"{message.role.capitalize()}: " + "\n  ".join(message.content.splitlines())


def with_last(transcript: Sequence[Message], content: str) -> list[Message]:
    """The conversation with its last user message replaced: requests of one turn share all the messages before it."""
    return [*transcript[:-1], Message(role="user", content=content)]
