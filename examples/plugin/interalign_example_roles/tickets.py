"""A conversation format: support tickets, whose `thread` holds the words of customer and agent in turn."""

from collections.abc import Mapping
from typing import Any

from interalign.conversations.formats.base import ConversationFormat, RecordedRow


def recognises(row: Any) -> bool:
    """Whether this row is such a ticket; asked by `--format auto`."""
    return isinstance(row, Mapping) and isinstance(row.get("thread"), list) and "ticket" in row


def read(row: Any) -> RecordedRow:
    """One conversation; ValueError says what cannot be read."""
    if not all(isinstance(words, str) for words in row["thread"]):
        raise ValueError("thread: expected texts")
    messages = [{"role": ("user", "assistant")[n % 2], "content": words} for n, words in enumerate(row["thread"])]
    return RecordedRow((messages,), used=("thread", "ticket", "agent"), by=row.get("agent"), tree=str(row["ticket"]))


FORMAT = ConversationFormat("support tickets: `ticket` and `thread`", recognises, read)
