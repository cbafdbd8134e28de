"""How different the profiles of a pool are, and a pool without near-repeats."""

from collections.abc import Sequence
from importlib.metadata import version

from interalign.personas import Persona, by_profile
from interalign.tree import Frozen


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

    def __str__(self) -> str:
        return (
            f"{self.kept_profiles} of {self.profiles} profiles kept: cosine at most {self.threshold:g} to each one "
            f"kept before, by {self.embedding}"
        )


def diverse(personas: Sequence[Persona], threshold: float = 0.6) -> Diversity:
    """Keep a profile if its cosine to every profile kept before is at most `threshold` (paper, persona pool).

    The embedding is TF-IDF of words, fitted on the pool: it sees shared words, not shared meaning. Personas of a kept
    profile are all kept, in their order.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    groups = by_profile(personas)
    embed = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b")  # noqa: S106  (a pattern of words, no password)
    vectors = embed.fit_transform("\n".join(profile) for profile in groups)
    cosines = (vectors @ vectors.T).toarray()  # rows are of length 1
    kept: list[int] = []
    for row in range(len(groups)):
        if all(cosines[row, other] <= threshold for other in kept):
            kept.append(row)
    profiles = [list(groups)[row] for row in kept]
    return Diversity(
        kept=tuple(persona for persona in personas if persona.profile in set(profiles)),
        profiles=len(groups),
        kept_profiles=len(kept),
        embedding=f"TF-IDF of words (scikit-learn {version('scikit-learn')})",
        threshold=threshold,
    )
