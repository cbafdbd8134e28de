"""Which words of a hinted reply come from the note and not from the talk: word n-gram overlap.

The reply is to *use* the note. Where it repeats the note's words, or those of the prompt around it, it shows the reader
something that a user never said and that will not be there when the trained model is served.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

LEAK: Final = "leak"
"""Name of the annotation at a reply that leaks; its value: the passages."""
GRAM: Final = 4
"""So many words in a row that note and reply share, and the talk has not, are a leak."""
_WORD: Final = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]|\\w(?:(?![\u3040-\u30ff\u3400-\u9fff])\\w|['\u2019]\\w)*"
)
_UNSPACED: Final = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]")
_NAMES_NOTE: Final = re.compile(
    r"\b(?:according to|based on|as (?:stated|said|mentioned) in|as per|in) (?:the|my|your|this|these) notes?\b"
    r"|\b(?:the|this|these) notes? (?:above |below )?(?:says?|shows?|mentions?|tells?|states?|indicates?)\b"
    r"|[\[(]\s*note\b",
    re.IGNORECASE,
)
_FUNCTION_WORDS: Final = frozenset(
    [
        "a",
        "about",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "do",
        "does",
        "for",
        "from",
        "has",
        "have",
        "her",
        "his",
        "i",
        "if",
        "in",
        "is",
        "it",
        "its",
        "me",
        "my",
        "no",
        "not",
        "of",
        "on",
        "one",
        "or",
        "our",
        "she",
        "he",
        "so",
        "some",
        "such",
        "that",
        "the",
        "their",
        "them",
        "there",
        "they",
        "this",
        "to",
        "us",
        "was",
        "we",
        "were",
        "what",
        "when",
        "which",
        "who",
        "will",
        "with",
        "would",
        "you",
        "your",
        "yours",
    ]
)


class _Word(NamedTuple):
    text: str
    start: int
    end: int

    @property
    def weight(self) -> float:
        """A character of a script without blanks between words counts half a word."""
        return 0.5 if _UNSPACED.fullmatch(self.text) else 1.0


def leaked_words(reply: str, note: str, talk: Iterable[str], wording: str = "") -> tuple[str, ...]:
    """Passages of the reply, in order, that it shares with the note or the prompt's `wording` and not with the talk.

    `talk`: the texts of the conversation, the user's last message included. A passage is at least GRAM words long, case
    and punctuation ignored, and not of function words alone; or it names the note itself ("the note says").
    """
    words, talk = _words(reply), list(talk)
    shown = _grams_of([note, wording]) - _grams_of(talk)
    spans = [(words[first].start, words[last].end) for first, last, gram in _grams(words) if gram in shown]
    if not _NAMES_NOTE.search(" ".join(talk)):
        spans += [match.span() for match in _NAMES_NOTE.finditer(reply)]
    return tuple(reply[start:end] for start, end in _merged(sorted(spans)))


def _words(text: str) -> list[_Word]:
    return [
        _Word(match[0].casefold().replace("\u2019", "'"), match.start(), match.end()) for match in _WORD.finditer(text)
    ]


def _grams_of(texts: Iterable[str]) -> set[tuple[str, ...]]:
    return {gram for text in texts for _, _, gram in _grams(_words(text))}


def _grams(words: Sequence[_Word]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Every run of words that weighs GRAM, as its first and last index and its words."""
    for first in range(len(words)):
        weight, last = 0.0, first - 1
        while weight < GRAM and last + 1 < len(words):
            last += 1
            weight += words[last].weight
        gram = tuple(word.text for word in words[first : last + 1])
        if weight >= GRAM and not _FUNCTION_WORDS.issuperset(gram):
            yield first, last, gram


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping spans put together; `spans` are sorted."""
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
