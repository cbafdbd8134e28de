"""PersonaLens: a user's `demographics` and what is preferred in each domain, as nested attributes."""

from collections.abc import Mapping
from typing import Any

from interalign.people.formats.base import Draft, PersonaFormat, row_id, told

_NAMES = ("demographics", "demographic_profile", "demographic")


def _recognises(row: Any) -> bool:
    return isinstance(row, Mapping) and any(isinstance(row.get(name), Mapping) for name in _NAMES)


def _read(row: Any) -> Draft:
    if not _recognises(row):
        raise ValueError("demographics: is missing")
    given, used = row_id({"id": row.get("user_id"), **row})
    nested = {name: value for name, value in row.items() if isinstance(value, Mapping)}
    profile = tuple(fact for name, value in nested.items() for fact in told(value, "" if name in _NAMES else name))
    if not profile:
        raise ValueError("demographics: is empty")
    return Draft(profile, None, (*nested, *used), given)


FORMAT = PersonaFormat("PersonaLens: demographics and preferences by domain", _recognises, _read)
