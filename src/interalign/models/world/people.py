"""The world's personas: six facts and a style, written out in English and read back from it."""

from array import array
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from random import Random
from typing import Final, Literal, NamedTuple, overload

from interalign.errors import ConfigError
from interalign.models.world.sentences import all_facts, tell
from interalign.models.world.values import SLOTS, STYLES, Fact, Style, values_of
from interalign.personas import Persona
from interalign.seeds import addressed_rng

Split = Literal["train", "heldout"]
_SIZES: Final = {split: len(values_of(0, split)) ** len(SLOTS) for split in ("train", "heldout")}


class Person(NamedTuple):
    """A persona of the world in the world's own terms."""

    facts: tuple[Fact, ...]
    """One for each slot, in the order of SLOTS."""
    style: Style


def describe_style(style: Style) -> str:
    """The personality text of a style; `read_person` knows all eight by heart."""
    length = "long" if style.long else "short"
    emoji = "with emoji" if style.emoji else "without emoji"
    tone = "lively" if style.lively else "calm"
    return f"I write {length} messages {emoji}, in a {tone} tone. I like to be answered in the same way."


@cache
def _fact_sentences() -> dict[str, Fact]:
    return {tell(fact): fact for fact in all_facts()}


@cache
def _style_sentences() -> dict[str, Style]:
    return {describe_style(style): style for style in STYLES}


@lru_cache(maxsize=1024)
def read_person(profile: tuple[str, ...], personality: str) -> Person | None:
    """The person that these texts describe; None if they are not those of a persona of the world."""
    facts = [_fact_sentences().get(sentence) for sentence in profile]
    style = _style_sentences().get(personality)
    by_slot = {fact.slot: fact for fact in facts if fact is not None}
    if style is None or len(profile) != len(SLOTS) or len(by_slot) != len(SLOTS):
        return None
    return Person(tuple(by_slot[slot] for slot in range(len(SLOTS))), style)


def person_of(persona: Persona) -> Person:
    """The persona in the world's own terms; ConfigError if the world does not know it."""
    person = read_person(persona.profile, persona.personality)
    if person is None:
        raise ConfigError(
            f"persona {persona.id!r} is not one of the world's: world:user and world:judge understand only those; "
            "use --personas world, or name another --user and --judge"
        )
    return person


def is_world_persona(persona: Persona) -> bool:
    """Whether world:user and world:judge understand this persona. Its `source` does not matter, its text does."""
    return read_person(persona.profile, persona.personality) is not None


def world_personas(split: Split, n: int, seed: int, per_profile: int = 1) -> tuple[Persona, ...]:
    """The first `n` personas of a split, `per_profile` personalities to each distinct profile.

    Held-out personas have only held-out values, training ones only the others. More personas of the same seed start
    with the same ones. Raises ConfigError for more than there are: 729 held-out profiles, 8 personalities.
    """
    return tuple(WorldPersonas(split, n, seed, per_profile))


class WorldPersonas(Sequence[Persona]):
    """What `world_personas` says, each persona written out when it is asked for: eight bytes apiece until then."""

    def __init__(self, split: Split, n: int, seed: int, per_profile: int = 1) -> None:
        """As `world_personas`."""
        _refuse_impossible(split, n, per_profile)
        self._split: Split = split
        people = _people(split, addressed_rng("world-personas", split, seed), per_profile)
        self._numbers = array("q", (next(people) for _ in range(n)))

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Persona: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Persona, ...]: ...
    def __getitem__(self, index: int | slice) -> Persona | tuple[Persona, ...]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return tuple(self[place] for place in places)
        return persona_of(_person(self._numbers[places], self._split), f"{self._split}-{places:04d}")


def _refuse_impossible(split: Split, n: int, per_profile: int) -> None:
    if split not in _SIZES:
        raise ConfigError(f"the world has no personas {split!r}; choose train or heldout")
    if not 1 <= per_profile <= len(STYLES):
        raise ConfigError(
            f"per_profile is {per_profile}; the world has {len(STYLES)} personalities, so say 1 to {len(STYLES)}"
        )
    if not 0 <= n <= _SIZES[split] * per_profile:
        raise ConfigError(
            f"{n} {split} personas with {per_profile} to a profile: the world has {_SIZES[split]} {split} profiles; "
            "ask for fewer, or for more personalities to a profile"
        )


def persona_of(person: Person, name: str) -> Persona:
    """The person written out as a persona with this id."""
    return Persona(
        id=name,
        profile=tuple(tell(fact) for fact in person.facts),
        personality=describe_style(person.style),
        source="world",
    )


def _people(split: str, rng: Random, per_profile: int) -> Iterator[int]:
    """Numbers of the split's people in the order of this generator; `_person` says who that is."""
    choices = [range(len(values_of(slot, split))) for slot in range(len(SLOTS))]
    seen: set[int] = set()
    while True:
        profile = 0
        for values in choices:
            profile = profile * len(values) + rng.choice(values)
        styles = rng.sample(range(len(STYLES)), per_profile)
        if profile not in seen:
            seen.add(profile)
            yield from (profile * len(STYLES) + style for style in styles)


def _person(number: int, split: str) -> Person:
    """The person with this number: its digits, the last one first, are the style and the places of the values."""
    number, style = divmod(number, len(STYLES))
    facts: list[Fact] = []
    for slot in reversed(range(len(SLOTS))):
        values = values_of(slot, split)
        number, place = divmod(number, len(values))
        facts.insert(0, Fact(slot, values[place]))
    return Person(tuple(facts), STYLES[style])


def any_person(rng: Random) -> Person:
    """A person with any values at all, held-out ones included: for pre-training only."""
    return Person(tuple(Fact(slot, rng.choice(SLOTS[slot].values)) for slot in range(len(SLOTS))), rng.choice(STYLES))
