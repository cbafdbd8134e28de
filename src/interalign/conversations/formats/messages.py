"""`messages`: a row is a conversation; also a `prompt` with its `completion`, and a `label` of it where there is one.

TRL's form, and our own exports. A `label` is true or false; anything else of that name is a column like others.
"""

from collections.abc import Mapping
from typing import Any, Final

from interalign.conversations.formats.base import (
    ConversationFormat,
    RecordedRow,
    as_messages,
    by_of,
    listed_messages,
    tree_of,
)

_FOR_USER: Final = {"messages", "tree", "node", "turn", "persona"}
"""What a row of `export --format user` has."""


def _recognises(row: Any) -> bool:
    if isinstance(row, list):
        return bool(row) and all(isinstance(each, Mapping) and "role" in each for each in row)
    return isinstance(row, Mapping) and ("messages" in row or {"prompt", "completion"} <= row.keys())


def _read(row: Any) -> RecordedRow:
    if isinstance(row, list):
        return RecordedRow((row,))
    if row.keys() == _FOR_USER:
        raise ValueError("a row of --format user, in which user and assistant are exchanged; export --format messages")
    if "messages" in row:
        messages = listed_messages(row["messages"], "messages")
        return RecordedRow((messages,), used=("messages",), by=by_of(row), tree=tree_of(row))
    reply = as_messages(row["completion"], "completion", "assistant")
    prompt = as_messages(row["prompt"], "prompt")
    label = row.get("label") if isinstance(row.get("label"), bool) else None
    used = ("prompt", "completion") if label is None else ("prompt", "completion", "label")
    return RecordedRow(([*prompt, *reply],), label=label, used=used, by=by_of(row), tree=tree_of(row))


FORMAT = ConversationFormat("TRL messages, prompt and completion, with or without a label", _recognises, _read)
