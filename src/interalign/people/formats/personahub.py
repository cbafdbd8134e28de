"""PersonaHub: one text in `persona` (`input persona` in its instruction files)."""

from collections.abc import Mapping
from typing import Any

from interalign.people.formats.base import Draft, PersonaFormat, facts, row_id

_NAMES = ("persona", "input persona")


def _recognises(row: Any) -> bool:
    return isinstance(row, Mapping) and any(isinstance(row.get(name), str) for name in _NAMES)


def _read(row: Any) -> Draft:
    name = next((name for name in _NAMES if isinstance(row, Mapping) and name in row), None)
    if name is None:
        raise ValueError("persona: is missing")
    given, used = row_id(row)
    return Draft(facts(row[name], name), None, (name, *used), given)


FORMAT = PersonaFormat("PersonaHub: one text each in `persona`", _recognises, _read)
