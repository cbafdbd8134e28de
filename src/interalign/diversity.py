"""How different the profiles of a pool are, and a pool without near-repeats."""

from collections.abc import Iterator, Sequence
from typing import Final

from interalign.errors import ConfigError
from interalign.personas import Persona, by_profile
from interalign.similarity import EPSILON, TFIDF, embedded, greedily_kept, nearest
from interalign.tree import Frozen

_MEASURED: Final = 5000
"""Profiles whose nearest one is looked for; of a larger pool every so many."""
_PAIRS: Final = 5
"""Closest pairs that are named."""


class Diversity(Frozen):
    """What a filter kept. As text, the figure with the embedding and the threshold it depends on, never without.

    The same pool keeps 331 profiles by one embedding model and 31 by another (the paper's pool), so the number alone
    says nothing.
    """

    kept: tuple[Persona, ...]
    profiles: int
    """Distinct profiles in the pool."""
    kept_profiles: int
    embedding: str
    threshold: float
    held_profiles: int = 0
    """Profiles of the pool that was added to; `profiles` and `kept_profiles` count new ones only."""

    def __str__(self) -> str:
        added = f" and added to {self.held_profiles}" if self.held_profiles else ""
        return (
            f"{self.kept_profiles} of {self.profiles} profiles kept{added}: cosine at most {self.threshold:g} to each "
            f"one kept before, by {self.embedding}"
        )


def diverse(
    personas: Sequence[Persona], threshold: float = 0.6, embedding: str = TFIDF, pool: Sequence[Persona] = ()
) -> Diversity:
    """Keep a profile if its cosine to every profile kept before is at most `threshold` (paper, persona pool).

    Greedy, in the order given. `tfidf` is fitted on the pool and sees shared words, not shared meaning;
    `st:NAME_OR_FOLDER` takes a sentence-transformers model. Personas of a kept profile are all kept, in their order.
    `pool` is kept as it is, before all others, and not compared within itself.
    """
    profiles = list(by_profile([*pool, *personas]))
    held = len(by_profile(pool))
    vectors = embedded([profile_text(profile) for profile in profiles], embedding)
    kept = {profiles[row] for row in greedily_kept(vectors, threshold, held)}
    return Diversity(
        kept=(*pool, *(persona for persona in _new(personas, pool) if persona.profile in kept)),
        profiles=len(profiles) - held,
        kept_profiles=len(kept) - held,
        embedding=vectors.name,
        threshold=threshold,
        held_profiles=held,
    )


def _new(personas: Sequence[Persona], pool: Sequence[Persona]) -> Iterator[Persona]:
    """Those that are not in the pool already; ConfigError for an id that means somebody else there."""
    known = {persona.id: persona for persona in pool}
    for persona in personas:
        if persona.id not in known:
            yield persona
        elif known[persona.id] != persona:
            raise ConfigError(f"the id {persona.id!r} is another persona in the pool that is added to; rename one")


class Near(Frozen):
    """How close profiles are to the one most like them."""

    measured: int
    """Profiles whose nearest one was looked for."""
    of: int
    mean: float
    quantiles: tuple[float, float, float, float, float]
    """The smallest, the quartiles, the largest."""
    closest: tuple[tuple[float, str, str], ...]
    """The closest pairs: cosine, and the ids of a persona of each."""
    embedding: str

    def __str__(self) -> str:
        low, _, middle, _, high = self.quantiles
        return f"mean {self.mean:.3f}, median {middle:.3f}, lowest {low:.3f}, highest {high:.3f}, by {self.embedding}"


def nearest_within(personas: Sequence[Persona], embedding: str = TFIDF) -> Near | None:
    """How close the profiles of a pool are to the nearest other one; None with fewer than two.

    Of more than 5,000 profiles every so many are measured, against all.
    """
    named = _named(personas)
    if len(named) < 2:
        return None
    rows = list(range(0, len(named), -(-len(named) // _MEASURED)))
    return _near(named, embedding, rows, list(range(len(named))))


def nearest_across(personas: Sequence[Persona], others: Sequence[Persona], embedding: str = TFIDF) -> Near | None:
    """How close each profile of `personas` is to the nearest one of `others`; None if either has none."""
    mine, theirs = _named(personas), _named(others)
    if not mine or not theirs:
        return None
    both = [*mine, *theirs]
    return _near(both, embedding, list(range(len(mine))), list(range(len(mine), len(both))))


def too_close(personas: Sequence[Persona], others: Sequence[Persona], most: float, embedding: str) -> set[str]:
    """Ids of those personas whose profile has a cosine above `most` to a profile of `others`."""
    mine, theirs = list(by_profile(personas)), list(by_profile(others))
    if not mine or not theirs:
        return set()
    vectors = embedded([profile_text(profile) for profile in [*mine, *theirs]], embedding)
    cosines, _ = nearest(vectors, range(len(mine)), range(len(mine), len(mine) + len(theirs)))
    close = {profile for profile, cosine in zip(mine, cosines, strict=True) if cosine > most + EPSILON}
    return {persona.id for persona in personas if persona.profile in close}


def profile_text(profile: Sequence[str]) -> str:
    """The profile as it is embedded."""
    return " ".join(profile)


def _named(personas: Sequence[Persona]) -> list[tuple[str, str]]:
    """The text of every profile, and the id of its first persona."""
    return [(profile_text(profile), group[0].id) for profile, group in by_profile(personas).items()]


def _near(named: Sequence[tuple[str, str]], embedding: str, rows: Sequence[int], others: Sequence[int]) -> Near:
    import numpy as np

    vectors = embedded([text for text, _ in named], embedding)
    cosines, closest = nearest(vectors, rows, others)
    found = {
        tuple(sorted((row, int(other)))): float(cosine)
        for row, other, cosine in zip(rows, closest, cosines, strict=True)
    }
    pairs = [(round(cosine, 4), named[one][1], named[other][1]) for (one, other), cosine in found.items()]
    low, first, middle, third, high = (round(float(each), 4) for each in np.quantile(cosines, [0, 0.25, 0.5, 0.75, 1]))
    return Near(
        measured=len(rows),
        of=len(others),
        mean=round(float(cosines.mean()), 4),
        quantiles=(low, first, middle, third, high),
        closest=tuple(sorted(pairs, key=lambda pair: (-pair[0], pair[1:])))[:_PAIRS],
        embedding=vectors.name,
    )
