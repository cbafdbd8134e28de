"""Which personas are there to measure models by, and so must not be trained on."""

import re
from functools import cache
from typing import Final

from interalign.people.pool import aloe_cases

_OF_THE_WORLD: Final = re.compile(r"heldout-\d+")


def is_held_out(persona: str) -> bool:
    """Whether this is the id of a case of `aloe`, or of a held-out persona of the embedded world."""
    return bool(_OF_THE_WORLD.fullmatch(persona)) or persona in _cases()


@cache
def _cases() -> frozenset[str]:
    return frozenset(persona.id for persona in aloe_cases())
