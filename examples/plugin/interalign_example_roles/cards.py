"""A persona format: cards with a name, some facts in `about`, and a manner in `manner`."""

from collections.abc import Mapping
from typing import Any

from interalign.people.formats.base import Draft, PersonaFormat, facts, text


def recognises(row: Any) -> bool:
    """Whether this row is such a card; asked by `--format auto`."""
    return isinstance(row, Mapping) and {"about", "manner"} <= row.keys()


def read(row: Any) -> Draft:
    """One persona; ValueError says which field cannot be read."""
    if not recognises(row):
        raise ValueError("about, manner: expected both")
    used = ("about", "manner", "name")
    return Draft(facts(row["about"], "about"), text(row["manner"], "manner"), used, row.get("name"))


FORMAT = PersonaFormat("persona cards: `about` and `manner`", recognises, read)
