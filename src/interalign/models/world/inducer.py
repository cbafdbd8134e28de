"""The inducer's notes: what the user's messages have shown, written in English and read back by candidates."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from interalign.models.world.reading import Talk, read_talk, words_of
from interalign.models.world.sentences import KIN
from interalign.models.world.values import FACT_OF, SLOTS, Fact, Style

NOTHING: Final = "Nothing yet."
PATIENCE: Final = 3
"""After so many messages without a sign of a style feature, its absence counts as shown."""
_STYLE_NOTES: Final = {
    ("long", False): "The user likes short answers.",
    ("long", True): "The user likes long answers.",
    ("emoji", False): "The user likes answers without emoji.",
    ("emoji", True): "The user likes emoji.",
    ("lively", False): "The user likes a calm tone.",
    ("lively", True): "The user likes a lively tone.",
}
_STYLE_WORDS: Final = (
    ("long", False, re.compile(r"\b(?:short|brief|concise|terse)")),
    ("long", True, re.compile(r"\b(?:long|detailed|elaborate)")),
    ("emoji", True, re.compile(r"\bemojis?\b")),
    ("emoji", False, re.compile(r"\b(?:no|not|never|without|avoids?|dislikes?)\b.*\bemojis?\b")),
    ("lively", True, re.compile(r"\b(?:lively|energetic|enthusiastic|excited|exclamation)")),
    ("lively", False, re.compile(r"\b(?:calm|quiet|neutral|measured)")),
)
_NOT_THE_USER: Final = frozenset({*KIN, *(f"{kin}'s" for kin in KIN), "not", "never", "no"})


def induce(user_texts: Sequence[str]) -> str:
    """Notes on the user's messages, one short sentence a line; NOTHING if they show nothing."""
    talk = read_talk(user_texts)
    facts = [_note(fact) for _, fact in sorted(talk.told.items())]
    style = _shown_style(talk, len(user_texts))
    return "\n".join([*facts, *(_STYLE_NOTES[feature] for feature in style.items())]) or NOTHING


def _note(fact: Fact) -> str:
    slot = SLOTS[fact.slot]
    return f"The user {slot.other} {fact.value}{slot.tail}."


def _shown_style(talk: Talk, messages: int) -> dict[str, bool]:
    absent = dict.fromkeys(Style._fields, False) if messages >= PATIENCE else {}
    return {**absent, **talk.style}


@lru_cache(maxsize=2048)
def read_notes(notes: str) -> tuple[dict[int, Fact], dict[str, bool]]:
    """The facts by slot and the style by feature that notes tell, whoever wrote them."""
    facts: dict[int, Fact] = {}
    style: dict[str, bool] = {}
    for line in notes.lower().split("\n"):
        words = words_of(line)
        if _NOT_THE_USER.isdisjoint(words):
            facts.update((FACT_OF[word].slot, FACT_OF[word]) for word in words if word in FACT_OF)
        style.update((feature, value) for feature, value, pattern in _STYLE_WORDS if pattern.search(line))
    return facts, style
