"""`messages`: a row is a conversation; also a `prompt` with its `completion`. TRL's form, and our own exports."""

from collections.abc import Mapping
from typing import Any

from interalign.conversations.formats.base import (
    ConversationFormat,
    RecordedRow,
    as_messages,
    by_of,
    listed_messages,
    tree_of,
)


def _recognises(row: Any) -> bool:
    if isinstance(row, list):
        return bool(row) and all(isinstance(each, Mapping) and "role" in each for each in row)
    return isinstance(row, Mapping) and ("messages" in row or {"prompt", "completion"} <= row.keys())


def _read(row: Any) -> RecordedRow:
    if isinstance(row, list):
        return RecordedRow((row,))
    if "messages" in row:
        messages = listed_messages(row["messages"], "messages")
        return RecordedRow((messages,), used=("messages",), by=by_of(row), tree=tree_of(row))
    reply = as_messages(row["completion"], "completion", "assistant")
    prompt = as_messages(row["prompt"], "prompt")
    return RecordedRow(([*prompt, *reply],), used=("prompt", "completion"), by=by_of(row), tree=tree_of(row))


FORMAT = ConversationFormat("TRL messages, prompt and completion", _recognises, _read)
