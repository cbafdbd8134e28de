"""Nemotron-Personas: texts in `persona`, `professional_persona` and the like; age, home and other columns are meta."""

from collections.abc import Mapping
from typing import Any

from interalign.people.formats.base import Draft, PersonaFormat, columns_of, row_id

_TEXTS = ("cultural_background", "skills_and_expertise", "hobbies_and_interests", "career_goals_and_ambitions")


def _read(row: Any) -> Draft:
    if not isinstance(row, Mapping):
        raise ValueError("expected an object with `persona` and `professional_persona`")
    personas = [name for name in row if name.endswith("_persona")]
    profile, filled = columns_of(row, ("persona", *personas, *_TEXTS))
    if not profile:
        raise ValueError("persona: is missing")
    name, used = row_id(row)
    return Draft(profile, None, (*filled, *used), name)


FORMAT = PersonaFormat(
    "Nemotron-Personas", lambda row: isinstance(row, Mapping) and "professional_persona" in row, _read
)
