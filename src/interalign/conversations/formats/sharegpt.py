"""`sharegpt`: `conversations`, each message with `from` and `value`; its `id` is the conversation's."""

from collections.abc import Mapping
from typing import Any

from interalign.conversations.formats.base import (
    ConversationFormat,
    RecordedRow,
    by_of,
    id_of,
    listed_messages,
    tree_of,
)

_COLUMNS = ("conversations", "conversation")


def _column(row: Any) -> str | None:
    return next((name for name in _COLUMNS if isinstance(row, Mapping) and row.get(name) is not None), None)


def _read(row: Any) -> RecordedRow:
    column = _column(row) or _COLUMNS[0]
    messages = listed_messages(row.get(column), column)
    system = row.get("system")
    first = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
    used = (column, "system") if first else (column,)
    return RecordedRow(([*first, *messages],), used=used, by=by_of(row), tree=tree_of(row) or id_of(row))


FORMAT = ConversationFormat("ShareGPT", lambda row: _column(row) is not None, _read)
