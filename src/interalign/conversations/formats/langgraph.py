"""`langgraph`: states of a graph with `messages`, alone or in the `values` of a snapshot; a history grows one path."""

from collections.abc import Mapping
from typing import Any

from interalign.conversations.formats.base import ConversationFormat, RecordedRow, listed_messages, tree_of


def _state(row: Any) -> Any:
    return row["values"] if isinstance(row, Mapping) and isinstance(row.get("values"), Mapping) else row


def _recognises(row: Any) -> bool:
    if isinstance(row, Mapping) and isinstance(row.get("values"), Mapping):
        return True
    messages = row.get("messages") if isinstance(row, Mapping) else None
    first = messages[0] if isinstance(messages, list) and messages else None
    return isinstance(first, Mapping) and "role" not in first and ("lc" in first or "type" in first)


def _read(row: Any) -> RecordedRow:
    state = _state(row)
    messages = listed_messages(state.get("messages"), "messages")
    return RecordedRow((messages,), used=("messages",) if state is row else ("values",), tree=_thread(row))


def _thread(row: Mapping[str, Any]) -> str | None:
    config = row.get("config")
    places = (row, row.get("metadata"), config, config.get("configurable") if isinstance(config, Mapping) else None)
    found = (tree_of(place) for place in (*places, row.get("checkpoint")) if isinstance(place, Mapping))
    return next((each for each in found if each), None)


FORMAT = ConversationFormat("LangGraph states", _recognises, _read)
