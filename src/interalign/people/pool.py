"""The shipped pool: 371 profiles and 74 personalities in two files, crossed by rule. docs/people.md says what they are.

Nothing of the pool depends on a run: the same version has the same personas with the same ids for everybody.
"""

import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, NamedTuple

from interalign.errors import ConfigError
from interalign.personas import Persona
from interalign.seeds import addressed_rng

VERSION: Final = "1"
"""Counts up with every change of the two files, or of how they are crossed."""
PER_PROFILE: Final = 10
"""Personalities to each training profile, as in the paper."""
CASES_PER_PROFILE: Final = 5
"""Personalities to each held-out profile, as in the paper."""
HELDOUT_PERSONALITIES: Final = 10
"""The last ones of the file: no persona of the training pool has them."""
Split = Literal["train", "heldout"]
_FILES: Final = ("profiles.jsonl", "personalities.jsonl")


class Profile(NamedTuple):
    """One life of the pool."""

    id: str
    facts: tuple[str, ...]


class Personality(NamedTuple):
    """One way to talk and to be talked to."""

    id: str
    text: str


def profiles(split: Split) -> tuple[Profile, ...]:
    """The 351 training profiles, or the 20 that are held out, in the order of the file."""
    rows = (row for row in _rows("profiles.jsonl") if row.get("heldout", False) is (split == "heldout"))
    return tuple(Profile(row["id"], tuple(row["facts"])) for row in rows)


def personalities(split: Split) -> tuple[Personality, ...]:
    """The first 64 personalities, or the last 10, which are held out."""
    every = [Personality(row["id"], row["text"]) for row in _rows("personalities.jsonl")]
    return tuple(every[-HELDOUT_PERSONALITIES:] if split == "heldout" else every[:-HELDOUT_PERSONALITIES])


def people(seed: int) -> tuple[Persona, ...]:
    """The 3,510 training personas: 351 profiles, ten personalities to each; ids such as `p001-s07`.

    Who is in it does not depend on `seed`, the order does: it goes through all profiles before it repeats one.
    """
    rounds = _crossed("train", PER_PROFILE)
    for number, each in enumerate(rounds):
        addressed_rng(seed, "people", number).shuffle(each)
    return tuple(persona for each in rounds for persona in each)


@cache
def aloe_cases() -> tuple[Persona, ...]:
    """The 100 cases of `evaluate --cases aloe`: 20 held-out profiles, five held-out personalities to each.

    Always the same, in the same order; the first 20 are 20 different profiles.
    """
    return tuple(persona for each in _crossed("heldout", CASES_PER_PROFILE) for persona in each)


def source_identity(name: str) -> str:
    """What a run with `people` or `aloe` is known by: the name, the version of the pool and a hash of its files."""
    return f"{name}:{VERSION}:sha256:{_content_hash()}"


@cache
def _content_hash() -> str:
    return hashlib.sha256(b"".join(_bytes(name) for name in _FILES)).hexdigest()[:16]


def _crossed(split: Split, count: int) -> list[list[Persona]]:
    """`count` rounds; each has every profile once, with another of the personalities that its address draws."""
    pool = personalities(split)
    rounds: list[list[Persona]] = [[] for _ in range(count)]
    for profile in profiles(split):
        drawn = addressed_rng("people", split, profile.id).sample(pool, count)
        for each, personality in zip(rounds, drawn, strict=True):
            each.append(_persona(profile, personality))
    return rounds


def _persona(profile: Profile, personality: Personality) -> Persona:
    return Persona(
        id=f"{profile.id}-{personality.id}", profile=profile.facts, personality=personality.text, source="people"
    )


@cache
def _rows(name: str) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(line) for line in _bytes(name).decode().splitlines())


def _bytes(name: str) -> bytes:
    try:
        return files("interalign.people").joinpath(name).read_bytes()
    except OSError as error:
        raise ConfigError(f"the persona pool is not installed ({error}); install interalign again") from None
