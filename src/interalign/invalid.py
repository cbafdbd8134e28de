"""What is wrong with a settings value, in one line: where it stands, what was expected, what came, what is near it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from interalign.errors import did_you_mean

_LONGEST = 60
"""Characters of a value that are shown."""
_LINES = "expected `name: value` lines"
_EXPECTED = {
    "int_type": "expected an integer", "int_parsing": "expected an integer", "int_from_float": "expected an integer",
    "float_type": "expected a number", "float_parsing": "expected a number",
    "finite_number": "expected a finite number", "string_type": "expected text",
    "bool_type": "expected true or false", "bool_parsing": "expected true or false",
    "tuple_type": "expected a list", "list_type": "expected a list",
    "dict_type": _LINES, "model_type": _LINES, "model_attributes_type": _LINES,
    "greater_than_equal": "must be at least {ge:g}", "greater_than": "must be more than {gt:g}",
    "less_than_equal": "must be at most {le:g}", "less_than": "must be less than {lt:g}",
}  # fmt: skip
"""By the names that pydantic gives to its errors; what is not here is said in its own words."""


class Wrong(NamedTuple):
    """The first thing that is wrong."""

    where: tuple[str, ...]
    """The names and numbers that lead to it from the top."""
    reason: str
    unknown: bool = False
    """There is no such name at all."""


def first_wrong(
    error: ValidationError, kind: type[BaseModel], given: Mapping[str, object], more: Iterable[str] = ()
) -> Wrong:
    """What pydantic found first in `given`, of which it should have made a `kind`.

    `more`: further names that would be known at the top.
    """
    first = _first(error.errors())
    where, value = _reached(first["loc"], given)
    what = str(first["type"])
    if what == "missing":
        return Wrong((*where, str(first["loc"][-1])), "must be given")
    if what == "extra_forbidden":
        known = [*fields_at(kind, where[:-1]), *(more if len(where) == 1 else ())]
        return Wrong(where, _no_such(where[-1], known), unknown=True)
    if first["loc"][-1:] == ("[key]",) and what == "literal_error":
        return Wrong(where, _no_such(where[-1], _choices(first)), unknown=True)
    return Wrong(where, _reason(what, first, value))


def _first(errors: Sequence[Any]) -> Any:
    """The first error; where a name is missing, rather the unknown one that may have been meant to be it."""
    unknown = (each for each in errors if each["type"] == "extra_forbidden")
    return next(unknown, errors[0]) if errors[0]["type"] == "missing" else errors[0]


def fields_at(kind: type[BaseModel], where: Sequence[str]) -> list[str]:
    """The names of the settings at this place: those of a seat's parameters, say, not all of the run's."""
    for name in where:
        field = kind.model_fields.get(name)
        if field is not None:  # else the number of an entry, or the name of a model with a price
            kind = next(_models_in(field.annotation), kind)
    return list(kind.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _reached(location: Sequence[int | str], given: object) -> tuple[tuple[str, ...], object]:
    """How far pydantic's location leads into what was given, and the value there.

    The rest of it names members of a union and the like, which nobody wrote.
    """
    where: list[str] = []
    for part in location:
        if not (isinstance(given, Mapping | list | tuple) and part in _keys(given)):
            break
        given = given[part]  # type: ignore[index]
        where.append(str(part))
    return tuple(where), given


def _keys(given: Mapping[Any, object] | Sequence[object]) -> Iterable[object]:
    return given if isinstance(given, Mapping) else range(len(given))


def _reason(what: str, first: Mapping[str, Any], value: object) -> str:
    if what == "value_error":  # our own words, which name the value where that helps
        return str(first["msg"]).removeprefix("Value error, ")
    if what == "literal_error":
        choices = _choices(first)
        return f"expected one of {', '.join(choices)}, got {shown(value)}{did_you_mean(str(value), choices)}"
    expected = _EXPECTED.get(what, str(first["msg"])).format(**first.get("ctx", {}))
    return f"{expected}, got {shown(value)}"


def _no_such(name: str, known: Sequence[str]) -> str:
    listed = f"; there are {', '.join(known)}"
    return f"no such setting{did_you_mean(name, known) or listed}"


def _choices(first: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", first["ctx"]["expected"])


def shown(value: object) -> str:
    """The value as it can be shown in a line: shortened, and nothing for what was left empty."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
