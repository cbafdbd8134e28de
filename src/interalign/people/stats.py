"""What is in a pool of personas, and how different they are."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from interalign.diversity import diverse, nearest_across, nearest_within
from interalign.people.pool import aloe_cases, people
from interalign.personas import Persona, by_profile


def pool_stats(source: str, personas: Sequence[Persona], threshold: float, embedding: str) -> dict[str, Any]:
    """Counts, and the similarities with the embedding and the threshold that they depend on. Plain JSON."""
    kept = diverse(personas, threshold, embedding)
    near = nearest_within(personas, embedding)
    found: dict[str, Any] = {
        "personas": len(personas),
        "profiles": kept.profiles,
        "personalities": len({persona.personality for persona in personas}),
        "facts per profile (mean)": round(fmean(len(profile) for profile in by_profile(personas)), 2),
        "words per profile (mean)": round(fmean(map(_words, by_profile(personas))), 2),
        "embedding": kept.embedding,
        "threshold": threshold,
        "profiles kept at the threshold": kept.kept_profiles,
    }
    if near is not None:
        found |= {
            "nearest profile: measured": near.measured,
            "nearest profile: mean": near.mean,
            "nearest profile: min, quartiles, max": list(near.quantiles),
            "closest pairs": [list(pair) for pair in near.closest],
        }
    if source in ("people", "aloe"):
        across = nearest_across(aloe_cases(), people(0), embedding)
        assert across is not None, "both sides of the shipped pool have profiles"
        found["held-out cases to the nearest training profile: mean, max"] = [across.mean, across.quantiles[-1]]
    return found


def _words(profile: Sequence[str]) -> int:
    return sum(len(fact.split()) for fact in profile)
