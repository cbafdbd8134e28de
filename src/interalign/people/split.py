"""A pool divided by profile: which side a profile is on follows from its own facts, so that it stays there."""

from collections.abc import Sequence
from typing import NamedTuple

from interalign.diversity import Near, nearest_across, too_close
from interalign.personas import Persona
from interalign.seeds import addressed_seed


class SplitPool(NamedTuple):
    """Both sides."""

    train: tuple[Persona, ...]
    heldout: tuple[Persona, ...]
    left_out: int
    """Personas in neither: their profile is too close to a held-out one."""
    near: Near | None
    """How close each held-out profile is to the nearest training profile; None if a side is empty."""


def split_pool(
    personas: Sequence[Persona], share: float, seed: int, max_similarity: float | None, embedding: str
) -> SplitPool:
    """Hold out each profile with probability `share`, by a hash of `seed` and its facts.

    With `max_similarity` no training profile has a higher cosine to a held-out one: those that would are left out.
    """
    heldout = tuple(persona for persona in personas if is_held_out(persona, share, seed))
    train = tuple(persona for persona in personas if not is_held_out(persona, share, seed))
    close = set() if max_similarity is None else too_close(train, heldout, max_similarity, embedding)
    kept = tuple(persona for persona in train if persona.id not in close)
    return SplitPool(kept, heldout, len(close), nearest_across(heldout, kept, embedding))


def is_held_out(persona: Persona, share: float, seed: int) -> bool:
    """Whether the profile of this persona is on the held-out side, whatever else is in the pool."""
    return addressed_seed(seed, "personas split", *persona.profile) < share * 2**63
