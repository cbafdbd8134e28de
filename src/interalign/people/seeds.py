"""What a generation begins with: profiles and personalities that the model is shown as examples."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from interalign.people.formats.base import sentences
from interalign.people.pool import personalities, profiles
from interalign.people.source import read_personas
from interalign.seeds import addressed_rng

COUNT: Final = 20
"""Of each kind, as in the paper."""


class Seeds(NamedTuple):
    """Texts as lines: the facts of a profile, the sentences of a personality."""

    profiles: tuple[tuple[str, ...], ...]
    personalities: tuple[tuple[str, ...], ...]

    def of(self, kind: str) -> tuple[tuple[str, ...], ...]:
        """Those of one kind, `profile` or `personality`."""
        return self.profiles if kind == "profile" else self.personalities


def read_seeds(source: str | None, seed: int) -> Seeds:
    """The profiles and personalities of a persona file; None: 20 of each, drawn from the shipped pool by `seed`.

    ConfigError if the file cannot be read, DataError for a bad row.
    """
    if source is not None:
        personas = read_personas(Path(source))
        facts = tuple(dict.fromkeys(_lines(persona.profile) for persona in personas))
        return Seeds(facts, _spoken(dict.fromkeys(persona.personality for persona in personas)))
    rng = addressed_rng(seed, "seeds")
    drawn = rng.sample(profiles("train"), COUNT), rng.sample(personalities("train"), COUNT)
    return Seeds(tuple(each.facts for each in drawn[0]), _spoken(each.text for each in drawn[1]))


def _spoken(texts: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(sentences(text)) for text in texts)


def _lines(facts: tuple[str, ...]) -> tuple[str, ...]:
    """One line a fact, so that examples stand in the form that is asked for."""
    return tuple(" ".join(fact.split()) for fact in facts)
