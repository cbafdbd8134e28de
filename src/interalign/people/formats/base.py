"""What a persona format is, and how texts and tables of attributes become facts."""

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

_END: Final = re.compile(
    r"""(?<=[.!?])["')\]]*\s+(?=["'(\[]*[^\W_a-z])"""  # a blank after the sign, and no small letter behind it
    r"""|(?<=[\u3002\uff01\uff1f])\s*"""
    r"""|\s*\n\s*"""
)
_NO_END: Final = re.compile(r"(\b(Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|vs|No|e\.g|i\.e|approx)|\b[A-Z])\.$")
_BULLET: Final = re.compile(r"^([-*\u2022]|\d+[.)])\s+")
_IDS: Final = ("id", "uuid", "pk")


class Draft(NamedTuple):
    """A persona as a row has it."""

    profile: tuple[str, ...]
    personality: str | None = None
    """None: the row does not say how the person talks."""
    used: tuple[str, ...] = ()
    """The columns that are in it; all others become `meta`."""
    id: str | None = None


@dataclass(frozen=True)
class PersonaFormat:
    """One way to write personas down."""

    title: str
    recognises: Callable[[Any], bool]
    """Whether this row is written that way."""
    read: Callable[[Any], Draft]
    """Raises ValueError, saying which column is wrong, for a row that cannot be read."""


def has(*columns: str) -> Callable[[Any], bool]:
    """Whether a row has all of these columns."""
    return lambda row: isinstance(row, Mapping) and all(name in row for name in columns)


def row_id(row: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """The row's own id, and the column that it stands in."""
    for name in _IDS:
        if isinstance(row.get(name), str | int) and str(row[name]).strip():
            return str(row[name]), (name,)
    return None, ()


def facts(value: object, column: str) -> tuple[str, ...]:
    """A list of facts as it is, a text by its sentences, attributes as `name: value`; ValueError for anything else."""
    if isinstance(value, str):
        listed = as_list(value)
        found = tuple(sentences(value)) if listed is None else _each(listed, column)
    elif isinstance(value, Mapping):
        found = tuple(told(value))
    elif isinstance(value, list | tuple):
        found = _each(value, column)
    else:
        raise ValueError(f"{column}: expected a list of facts or a text, got {_kind(value)}")
    if not found:
        raise ValueError(f"{column}: is empty")
    return found


def text(value: object, column: str) -> str:
    """A text that is not empty; ValueError otherwise."""
    if isinstance(value, list | tuple) and value:
        value = " ".join(_each(value, column))
    if not isinstance(value, str):
        raise ValueError(f"{column}: expected a text, got {_kind(value)}")
    if not value.strip():
        raise ValueError(f"{column}: is empty")
    return value.strip()


def as_list(value: str) -> list[Any] | None:
    """The list that is written out in a cell of a table, in JSON or as Python prints it; None if it is another text."""
    if not (value.strip().startswith("[") and value.strip().endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) and all(isinstance(each, str) for each in found) else None
    return None


def sentences(value: str) -> Iterator[str]:
    """The text divided at its sentence ends and lines, nothing lost but blanks and the marks of a list."""
    start = 0
    for end in _END.finditer(value):
        before = value[start : end.start()].rstrip()
        if "\n" in end.group() or not _NO_END.search(before):
            quotes = end.group().rstrip()
            yield from filter(None, [_BULLET.sub("", (value[start : end.start()] + quotes).strip())])
            start = end.end()
    yield from filter(None, [_BULLET.sub("", value[start:].strip())])


def told(attributes: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """`name: value` for every attribute, nested ones by their path; empty ones are left out."""
    for name, value in attributes.items():
        called = f"{within} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from told(value, called)
        elif isinstance(value, list | tuple) and all(isinstance(each, str | int | float) for each in value):
            yield from [f"{called}: {', '.join(map(str, value))}"] if value else []
        elif isinstance(value, list | tuple):
            for each in value:
                yield from told(each, called) if isinstance(each, Mapping) else [f"{called}: {each}"]
        elif value is not None and str(value).strip():
            yield f"{called}: {str(value).strip()}"


def columns_of(row: Mapping[str, Any], names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The facts in these columns, in this order, and the columns that hold any."""
    filled = [name for name in names if row.get(name) not in (None, "", [], {})]
    return tuple(fact for name in filled for fact in facts(row[name], name)), tuple(filled)


def _each(values: Iterable[object], column: str) -> tuple[str, ...]:
    found = []
    for number, value in enumerate(values, start=1):
        if not isinstance(value, str):
            raise ValueError(f"{column}: entry {number}: expected a text, got {_kind(value)}")
        if not value.strip():
            raise ValueError(f"{column}: entry {number} is empty")
        found.append(value)
    return tuple(found)


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return {"str": "a text", "dict": "an object", "list": "a list", "bool": "true or false"}.get(
        type(value).__name__, "a number" if isinstance(value, int | float) else type(value).__name__
    )
