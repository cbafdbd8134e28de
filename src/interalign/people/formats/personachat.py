"""PersonaChat: the facts stand in `personality`, a list; there is no personality in our sense. Talks become meta."""

from collections.abc import Mapping
from typing import Any

from interalign.people.formats.base import Draft, PersonaFormat, as_list, facts, row_id


def _recognises(row: Any) -> bool:
    if not isinstance(row, Mapping) or "profile" in row:
        return False
    given = row.get("personality")
    return isinstance(given, list) or (isinstance(given, str) and as_list(given) is not None)


def _read(row: Any) -> Draft:
    if not isinstance(row, Mapping) or "personality" not in row:
        raise ValueError("personality: is missing")
    name, used = row_id(row)
    return Draft(facts(row["personality"], "personality"), None, ("personality", *used), name)


FORMAT = PersonaFormat("PersonaChat: facts as a list in `personality`", _recognises, _read)
