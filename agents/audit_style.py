"""Rules of the audit on style: whether the messages of a path are written as the persona writes."""

import re
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

from interalign.agents.assent import is_assent, words_of
from interalign.models.world.consistency import style_shown
from interalign.models.world.people import read_person
from interalign.personas import Persona
from interalign.tree import Node

_EMOJI: Final = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
_TERSE: Final = re.compile(
    r"\b(?:very short|(?:one|a) (?:line|word)|terse|curt|clipped|few words|as few words|telegram)\b", re.IGNORECASE
)
_LONG: Final = 40
"""Words of a message that nobody writes who is said to write very short ones."""
_NO_EMOJI: Final = re.compile(
    r"\b(?:no|never|without|not(?! mind)|hates?|dislikes?)\b[^.;]{0,25}\bemojis?\b", re.IGNORECASE
)
_SMALL_LETTERS: Final = re.compile(r"\blower[ -]?case\b|\bno capitals?\b", re.IGNORECASE)
_CAPITALISED: Final = re.compile(r"(?:\A|[.!?]\s+)[A-Z][a-z]")


def drifts(path: Sequence[Node], persona: Persona) -> Iterator[tuple[str, str]]:
    """Ids of the messages whose style is another than the persona's, each with what shows it."""
    person = read_person(persona.profile, persona.personality)
    if person is not None:
        yield from _drifts_in_the_world(path, person.style)
        return
    yield from _against_the_personality(path, persona.personality)
    yield from _drifts_in_length(path)


def _against_the_personality(path: Sequence[Node], personality: str) -> Iterator[tuple[str, str]]:
    """What a personality says in so many words of length, small letters and emoji, and a message does not keep to."""
    for node in path:
        words = len(words_of(node.text))
        if _TERSE.search(personality) and words > _LONG:
            yield node.id, f"{words} words of somebody terse"
        elif _NO_EMOJI.search(personality) and _EMOJI.search(node.text):
            yield node.id, "an emoji"
        elif _SMALL_LETTERS.search(personality) and len(_CAPITALISED.findall(node.text)) >= 2:
            yield node.id, "sentences with capitals"


def _drifts_in_the_world(path: Sequence[Node], style: Sequence[bool]) -> Iterator[tuple[str, str]]:
    """A mark that the persona never shows; or none of its own marks, five missing in a row or three at once.

    A mark is missing by chance in a fifth of the messages: five times in a row that is rarer than one in 3,000.
    """
    names = ("small talk", "an emoji", "an exclamation mark")
    quiet: list[Node] = []
    for node in path:
        shown = style_shown(node.text)
        strange = [name for name, is_shown, own in zip(names, shown, style, strict=True) if is_shown and not own]
        if strange:
            yield node.id, "shows " + ", ".join(strange)
        quiet = [] if any(shown) else [*quiet, node]
        missing = sum(style) * len(quiet)
        if missing >= 5 or (sum(style) == 3 and missing >= 3):
            yield from ((each.id, "shows nothing of the persona's style") for each in quiet)


def _drifts_in_length(path: Sequence[Node]) -> Iterator[tuple[str, str]]:
    """After three messages: four times as long as the middle one of those before, or a quarter of it; first emoji."""
    path = [node for node in path if not is_assent(node.text, "")]  # too short to have a style
    lengths = [len(words_of(node.text)) for node in path]
    emoji = [bool(_EMOJI.search(node.text)) for node in path]
    for place, node in enumerate(path):
        if place < 3:
            continue
        usual = median(lengths[:place])
        if lengths[place] > 4 * max(usual, 12) or (lengths[place] < usual / 4 and usual >= 16):
            yield node.id, f"{lengths[place]} words, {usual:g} before"
        elif emoji[place] != emoji[place - 1] and len(set(emoji[:place])) == 1 and place >= 4:
            yield node.id, "the first emoji" if emoji[place] else "no emoji any more"
