"""What a format of recorded conversations is, and what its readers share."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

Messages = Sequence[Any]
"""Chat messages as the file has them; `conversations.chat` reads all known shapes of one."""
_TREES: Final = ("tree", "conversation_id", "conversation_hash", "thread_id", "session_id")
_IDS: Final = ("id", "prompt_id", "custom_id", "uuid", "run_id")
_MODELS: Final = ("model", "model_name")


class RecordedRow(NamedTuple):
    """What one row says."""

    paths: tuple[Messages, ...]
    """Whole conversations, each from its first message on."""
    prefers: bool = False
    """There are two paths, and the first was chosen over the second."""
    values: tuple[float | None, ...] = ()
    """Of several paths that differ in their last reply: how good each is; None: not said. Empty: nothing is."""
    label: bool | None = None
    """Of one path: whether its last reply is a good one; None: not said."""
    used: tuple[str, ...] = ()
    """The columns that are in `paths`; all others are kept beside the last message."""
    by: str | None = None
    """Who replied, such as a model's name."""
    tree: str | None = None
    """The row's own name for its conversation; None: it has none."""


@dataclass(frozen=True)
class ConversationFormat:
    """One way to write conversations down."""

    title: str
    recognises: Callable[[Any], bool]
    """Whether this row is written that way."""
    read: Callable[[Any], RecordedRow]
    """Raises ValueError, saying what is wrong, for a row that cannot be read."""
    parts: Callable[[Any], Iterable[Any]] | None = None
    """For a row that holds many, such as a log: its own rows."""
    suffix: str = ""
    """How the name of a file ends that only `rows` can read; empty: the files are JSON, JSON lines, CSV or Parquet."""
    rows: Callable[[Path], Iterator[Any]] | None = None
    """The rows of such a file. Raises ConfigError if it cannot be read."""


def has(*columns: str) -> Callable[[Any], bool]:
    """Whether a row has all of these columns."""
    return lambda row: isinstance(row, Mapping) and all(name in row for name in columns)


def as_messages(value: object, column: str, role: str = "user") -> list[Any]:
    """A list of messages as it is, one message as a list, a text as one message of this role; else ValueError."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, list):
        return value
    raise ValueError(f"{column}: expected messages or a text, got {_kind(value)}")


def listed_messages(value: object, column: str) -> list[Any]:
    """A list of messages, also one written out in a cell of a table; else ValueError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{column}: expected a list of messages, got a text") from None
    if not isinstance(value, list):
        raise ValueError(f"{column}: expected a list of messages, got {_kind(value)}")
    return value


def mapping(value: object, column: str) -> Mapping[str, Any]:
    """The value, if it is an object; ValueError otherwise."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{column}: expected an object, got {_kind(value)}")
    return value


def tree_of(row: Mapping[str, Any]) -> str | None:
    """What the row calls its conversation."""
    return _first(row, _TREES)


def id_of(row: Mapping[str, Any]) -> str | None:
    """The row's own id."""
    return _first(row, _IDS)


def by_of(row: Mapping[str, Any]) -> str | None:
    """The model that a row or a reply names."""
    return _first(row, _MODELS)


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    found = (row.get(name) for name in names)
    return next((str(value) for value in found if isinstance(value, str | int) and str(value).strip()), None)


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return {"list": "a list", "dict": "an object", "int": "a number", "float": "a number", "str": "a text"}.get(
        type(value).__name__, "true or false" if isinstance(value, bool) else type(value).__name__
    )
