"""Whether a message is one that a persona of the world would write: its facts, its style, its part in the talk."""

import re
from functools import cache
from typing import Final

from interalign.models.world.people import Person
from interalign.models.world.reading import read_user
from interalign.models.world.sentences import candidate_sentences, tell
from interalign.models.world.values import Fact

_SENTENCE: Final = re.compile(r"[^.!?\n]+[.!?]")


def contradictions(person: Person, text: str) -> list[str]:
    """The facts that a user tells of itself in this message and that are not the person's, as sentences."""
    return [tell(fact) for fact in told_facts(text) if person.facts[fact.slot] != fact]


def told_facts(text: str) -> list[Fact]:
    """The facts that a user tells of itself in this message, in order."""
    return [meaning.fact for meaning in read_user(text).meanings if meaning.kind == "told" and meaning.fact]


def style_shown(text: str) -> tuple[bool, bool, bool]:
    """Which features of Style, in its order, this message shows: small talk, an emoji, an exclamation mark."""
    heard = read_user(text)
    return any(meaning.kind == "small talk" for meaning in heard.meanings), heard.emoji, heard.lively


def candidate_sentence(text: str) -> str:
    """The first sentence of a message that only a candidate of the world says; empty if there is none."""
    sentences = (match[0].strip() for match in _SENTENCE.finditer(text))
    return next((each for each in sentences if each.replace("!", ".") in _of_candidates()), "")


@cache
def _of_candidates() -> frozenset[str]:
    return frozenset(candidate_sentences())
