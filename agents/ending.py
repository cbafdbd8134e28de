"""How a user agent ends the talk: by a mark in its message, which the run's settings name."""

import re
from typing import NamedTuple

ENDED = "ended"
"""Name of the note, by the user, at the last message of a path that the user ended; its value is the last turn."""


class Message(NamedTuple):
    """What a user said, without the mark."""

    text: str
    """Empty if the message was the mark alone."""
    ends: bool


def without_mark(text: str, mark: str | None) -> Message:
    """The message without the end mark, wherever it stands in it, and whether it was there. None: no mark is set."""
    if mark is None or mark not in text:
        return Message(text, ends=False)
    rest = re.sub(rf"(?:\s*{re.escape(mark)})+\s*", _blank, text)
    return Message(rest.strip(), ends=True)


def _blank(cut: re.Match[str]) -> str:
    return "\n" if "\n" in cut[0] else " "
