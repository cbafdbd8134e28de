"""The persona population that ships, and where the personas of a run come from."""

from interalign.people.pool import VERSION, aloe_cases, people, personalities, profiles, source_identity
from interalign.people.source import load_personas

__all__ = [
    "VERSION",
    "aloe_cases",
    "load_personas",
    "people",
    "personalities",
    "profiles",
    "source_identity",
]
