"""PersonaMem: `short_persona` and `expanded_persona`, a text, an object, or an object written out as a text.

Every question is a row, so a person comes as often as there are questions; `persona_id` stays in meta.
"""

import json
from collections.abc import Mapping
from typing import Any

from interalign.people.formats.base import Draft, PersonaFormat, columns_of

_NAMES = ("short_persona", "expanded_persona")


def _recognises(row: Any) -> bool:
    return isinstance(row, Mapping) and any(name in row for name in _NAMES)


def _read(row: Any) -> Draft:
    if not isinstance(row, Mapping):
        raise ValueError("expected an object with `short_persona` or `expanded_persona`")
    profile, filled = columns_of({name: _written_out(row.get(name)) for name in _NAMES}, _NAMES)
    if not profile:
        raise ValueError("expanded_persona: is missing")
    return Draft(profile, None, filled)


def _written_out(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, Mapping) else value


FORMAT = PersonaFormat("PersonaMem", _recognises, _read)
