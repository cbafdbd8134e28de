"""SOTOPIA agent profiles: who someone is, and a personality put together from three columns."""

from collections.abc import Mapping
from typing import Any

from interalign.people.formats.base import Draft, PersonaFormat, columns_of, row_id, text

_ATTRIBUTES = ("age", "occupation", "gender", "gender_pronoun")
_TEXTS = ("public_info", "secret")
_TALK = ("personality_and_values", "decision_making_style", "big_five")


def _read(row: Any) -> Draft:
    if not isinstance(row, Mapping):
        raise ValueError("expected an object with `first_name`")
    names = [str(row[name]).strip() for name in ("first_name", "last_name") if row.get(name)]
    attributes = [name for name in _ATTRIBUTES if row.get(name) not in (None, "", 0)]
    told, filled = columns_of(row, _TEXTS)
    profile = (
        *([f"name: {' '.join(names)}"] if names else []),
        *(f"{name.replace('_', ' ')}: {row[name]}" for name in attributes),
        *told,
    )
    talk = [name for name in _TALK if row.get(name)]
    if not profile:
        raise ValueError("first_name: is missing")
    given, used = row_id(row)
    personality = " ".join(_told(name, text(row[name], name)) for name in talk) or None
    return Draft(profile, personality, ("first_name", "last_name", *attributes, *filled, *talk, *used), given)


def _told(name: str, said: str) -> str:
    if name == "personality_and_values":
        return said
    return f"{name.replace('_', ' ').capitalize()}: {said.rstrip('.')}."


def _recognises(row: Any) -> bool:
    return isinstance(row, Mapping) and "first_name" in row and not {"occupation", *_TALK}.isdisjoint(row)


FORMAT = PersonaFormat("SOTOPIA agent profiles", _recognises, _read)
