"""Settings that decide what `interalign personas generate --model` writes."""

from collections.abc import Mapping

from pydantic import Field

from interalign.config.parameters import Parameters
from interalign.tree import Frozen


class PersonaSettings(Frozen):
    """Everything that decides what `interalign personas generate --model` writes."""

    model: str = Field(min_length=1)
    n: int = Field(default=100, ge=1)
    """Personas that are wanted."""
    per_profile: int = Field(default=10, ge=1)
    """Personalities to each profile."""
    personalities: int | None = Field(default=None, ge=1)
    """Different personalities that are wanted; None: seven times `per_profile`, or as many as there are profiles."""
    threshold: float = Field(default=0.6, ge=0, le=1)
    """Largest cosine of what is kept to each one kept before."""
    embedding: str = "tfidf"
    seeds: str | None = None
    """Persona file with the first examples; None: 20 profiles and 20 personalities of the shipped pool."""
    prompts: str | None = None
    """Folder of the user's own prompts, as in a run."""
    seed: int = 0
    parameters: Parameters = Parameters(temperature=0.8, max_tokens=4096)
    """Twenty people of ten facts are some 3,000 tokens, where `hf:` models and many servers end a reply at fewer."""

    @property
    def targets(self) -> Mapping[str, int]:
        """How many profiles and personalities are to be collected."""
        profiles = -(-self.n // self.per_profile)
        talks = self.personalities or min(7 * self.per_profile, max(self.per_profile, profiles))
        return {"profile": profiles, "personality": talks}
