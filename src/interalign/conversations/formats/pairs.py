"""`pairs`: a reply that was chosen and one that was rejected, with the prompt before them or in both of them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from interalign.conversations.formats.base import ConversationFormat, RecordedRow, as_messages, by_of, has, tree_of

_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ \t]*")


def _read(row: Any) -> RecordedRow:
    prompt = [] if row.get("prompt") is None else as_messages(row["prompt"], "prompt")
    chosen, rejected = (_whole(prompt, row[name], name) for name in ("chosen", "rejected"))
    used = ("prompt", "chosen", "rejected")
    return RecordedRow((chosen, rejected), prefers=True, used=used, by=by_of(row), tree=tree_of(row))


def _whole(prompt: Sequence[Any], value: object, column: str) -> Sequence[Any]:
    """The conversation with this end, which may hold its beginning already."""
    if isinstance(value, str) and not prompt:
        return _told(value, column)
    end = as_messages(value, column, "assistant")
    repeats = bool(prompt) and len(end) > len(prompt) and [*map(_plain, end[: len(prompt)])] == [*map(_plain, prompt)]
    return end if repeats else [*prompt, *end]


def _plain(message: Any) -> Any:
    return (message.get("role"), message.get("content")) if isinstance(message, Mapping) else message


def _told(value: str, column: str) -> list[dict[str, str]]:
    """A conversation that is one text, its speakers named `Human:` and `Assistant:`."""
    before, *rest = _SPEAKER.split(value)
    if before.strip() or not rest:
        raise ValueError(f"{column}: there is no prompt, and the text does not begin with 'Human:'")
    spoken = zip(rest[::2], rest[1::2], strict=True)
    return [{"role": "user" if who == "Human" else "assistant", "content": text} for who, text in spoken]


FORMAT = ConversationFormat("pairs of a chosen and a rejected reply", has("chosen", "rejected"), _read)
