"""tau2 tasks: `user_scenario` with a persona, if any, and what the user knows and wants. Criteria are meta."""

from collections.abc import Mapping
from typing import Any

from interalign.people.formats.base import Draft, PersonaFormat, columns_of, facts, has, row_id

_TOLD = ("reason_for_call", "known_info", "unknown_info", "task_instructions")


def _read(row: Any) -> Draft:
    scenario = row.get("user_scenario") if isinstance(row, Mapping) else None
    if not isinstance(scenario, Mapping):
        raise ValueError("user_scenario: expected an object")
    instructions = scenario.get("instructions")
    profile = columns_of(scenario, ["persona"])[0]
    if isinstance(instructions, Mapping):
        profile += columns_of(instructions, _TOLD)[0]
    elif instructions:
        profile += facts(instructions, "user_scenario.instructions")
    if not profile:
        raise ValueError("user_scenario: has neither a persona nor instructions")
    name, used = row_id(row)
    return Draft(profile, None, used, name)


FORMAT = PersonaFormat("tau2 user scenarios", has("user_scenario"), _read)
