"""PrefEval: one `preference` a row; question and explanation are meta."""

from collections.abc import Mapping
from typing import Any

from interalign.people.formats.base import Draft, PersonaFormat, facts, has, row_id


def _read(row: Any) -> Draft:
    if not isinstance(row, Mapping) or "preference" not in row:
        raise ValueError("preference: is missing")
    name, used = row_id(row)
    return Draft(facts(row["preference"], "preference"), None, ("preference", *used), name)


FORMAT = PersonaFormat("PrefEval: one `preference` a row", has("preference"), _read)
