"""Profiles and personalities that were collected, crossed to personas (paper: ten random personalities a profile)."""

from collections.abc import Sequence

from interalign.config import PersonaSettings
from interalign.personas import Persona
from interalign.seeds import addressed_rng


def crossed(
    profiles: Sequence[Sequence[str]], personalities: Sequence[Sequence[str]], settings: PersonaSettings
) -> tuple[Persona, ...]:
    """At most `settings.n` personas in rounds: each round has every profile once, with another personality.

    Which personalities a profile gets is drawn by its place and the seed. Fewer rounds if there are too few.
    """
    rounds = min(settings.per_profile, len(personalities))
    drawn = [
        addressed_rng(settings.seed, "crossing", place).sample(range(len(personalities)), rounds)
        for place in range(len(profiles))
    ]
    found = [
        Persona(
            id=f"g{place + 1:04}-s{drawn[place][each] + 1:03}",
            profile=tuple(profile),
            personality=" ".join(personalities[drawn[place][each]]),
            source=settings.model,
        )
        for each in range(rounds)
        for place, profile in enumerate(profiles)
    ]
    return tuple(found[: settings.n])
