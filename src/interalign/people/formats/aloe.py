"""ALOE's profile.jsonl: a JSON text a line; also objects with `profile` alone. It has no personalities."""

from collections.abc import Mapping
from typing import Any

from interalign.people.formats.base import Draft, PersonaFormat, facts, row_id


def _recognises(row: Any) -> bool:
    return isinstance(row, str) or (isinstance(row, Mapping) and "profile" in row and "personality" not in row)


def _read(row: Any) -> Draft:
    if isinstance(row, str):
        return Draft(facts(row, "text"))
    if not isinstance(row, Mapping) or "profile" not in row:
        raise ValueError("expected a text, or an object with `profile`")
    name, used = row_id(row)
    return Draft(facts(row["profile"], "profile"), None, ("profile", *used), name)


FORMAT = PersonaFormat("ALOE profiles: a text a line", _recognises, _read)
