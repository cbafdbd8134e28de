"""Our own: `profile` and `personality`, with `id`, `source` and `meta` where they are given."""

from collections.abc import Mapping
from typing import Any

from interalign.people.formats.base import Draft, PersonaFormat, facts, has, text

_OURS = ("id", "profile", "personality")


def _read(row: Any) -> Draft:
    if not isinstance(row, Mapping):
        raise ValueError("expected an object with `profile` and `personality`")
    if "profile" not in row:
        raise ValueError("profile: is missing")
    given = row.get("id")
    if given is not None and not isinstance(given, str | int):
        raise ValueError("id: expected a text")
    name = None if given is None else str(given)
    if name == "":
        raise ValueError("id: is empty")
    personality = text(row["personality"], "personality") if "personality" in row else None
    return Draft(facts(row["profile"], "profile"), personality, _OURS, name)


FORMAT = PersonaFormat("profile and personality", has("profile", "personality"), _read)
