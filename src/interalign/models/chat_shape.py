"""The same conversation in the shapes that narrower chat templates take: pure functions over messages.

Only how a conversation is sent changes; what is on record are the messages that the role made.
"""

from collections.abc import Sequence
from itertools import groupby

from interalign.tree import Message

_BETWEEN = "\n\n"
"""What stands between two texts that become one message."""


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The conversation for a model without a system role: every system message moves into the message that follows it.

    The system text comes first, then a blank line, then the user's text. Where no user message follows, the system
    text becomes a user message of its own.
    """
    shaped: list[Message] = []
    system: list[str] = []
    for message in messages:
        if message.role == "system":
            system.append(message.content)
        elif message.role == "user":
            shaped.append(
                Message(role="user", content=_BETWEEN.join([*system, message.content])) if system else message
            )
            system = []
        else:
            shaped += [*_as_user(system), message]
            system = []
    return [*shaped, *_as_user(system)]


def alternating(messages: Sequence[Message]) -> list[Message]:
    """The conversation for a model that wants the roles to take turns: neighbours of one role become one message."""
    runs = (list(run) for _, run in groupby(messages, key=lambda message: message.role))
    return [run[0] if len(run) == 1 else _joined(run) for run in runs]


def _joined(run: Sequence[Message]) -> Message:
    return Message(role=run[0].role, content=_BETWEEN.join(message.content for message in run))


def _as_user(system: Sequence[str]) -> list[Message]:
    return [Message(role="user", content=_BETWEEN.join(system))] if system else []
