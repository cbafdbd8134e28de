"""Which words of a hinted reply come from the note and not from the talk: word n-gram overlap.

The reply is to *use* the note. Where it repeats the note's words, or those of the prompt around it, it shows the reader
something that a user never said and that will not be there when the trained model is served.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from interalign.tree import JudgedTree

LEAK: Final = "leak"
"""Name of the annotation at a reply that leaks; its value: the passages."""
GRAM: Final = 4
"""So many words in a row that note and reply share, and the talk has not, are a leak."""
_WORD: Final = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]|\\w(?:(?![\u3040-\u30ff\u3400-\u9fff])\\w|['\u2019]\\w)*"
)
_ASCII_WORD: Final = re.compile(r"[a-z0-9_]+(?:'[a-z0-9_]+)*")  # `_WORD`, five times faster
_UNSPACED: Final = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]")
_NAMES_NOTE: Final = re.compile(
    r"\b(?:according to|based on|as (?:stated|said|mentioned) in|as per|in) (?:the|my|your|this|these) notes?\b"
    r"|\b(?:the|this|these) notes? (?:above |below )?(?:says?|shows?|mentions?|tells?|states?|indicates?)\b"
    r"|[\[(]\s*note\b",
    re.IGNORECASE,
)
_STEM: Final = 4
FUNCTION_WORDS: Final = frozenset(
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


def content_stems(text: str) -> frozenset[str]:
    """The first four letters of each word but function words: what a text is about, in whatever form of the words."""
    return frozenset(word[:_STEM] for word in re.findall(r"\w+", text.lower()) if word not in FUNCTION_WORDS)


Run = tuple[str, ...]
"""GRAM words in a row."""


class _Gram(NamedTuple):
    """A run of words in a text, case and apostrophes folded, and where it stands."""

    words: tuple[str, ...]
    start: int
    end: int


def leaked_words(reply: str, note: str, talk: Sequence[str], wording: str = "") -> tuple[str, ...]:
    """Passages of the reply, in order, that it shares with the note or the prompt's `wording` and not with the talk.

    `talk`: the texts of the conversation, the user's last message included. A passage is at least GRAM words long, case
    and punctuation ignored, and not of function words alone; or it names the note itself ("the note says").
    """
    # Most replies share nothing: only where one does is the talk read, and it is found out where the words stand.
    shared = _runs(reply) & (_runs(note) | _runs_of(wording))
    spans = _unsaid(shared, reply, talk) if shared else []
    named = [match.span() for match in _NAMES_NOTE.finditer(reply)] if "note" in reply.lower() else []
    if named and not _NAMES_NOTE.search(" ".join(talk)):
        spans += named
    return tuple(reply[start:end] for start, end in _merged(sorted(spans)))


def leaking(judged: JudgedTree) -> set[str]:
    """Ids of the replies of a tree that were found to carry words of the inducer's note."""
    return {note.node for note in judged.annotations if note.name == LEAK and note.by == "interalign"}


def _unsaid(shared: set[Run], reply: str, talk: Sequence[str]) -> list[tuple[int, int]]:
    """Where the reply has these runs of words, those taken off that the talk has too."""
    left = shared.difference(*map(_runs, talk))
    return [(gram.start, gram.end) for gram in _grams(reply) if gram.words in left]


@lru_cache(maxsize=8)
def _runs_of(wording: str) -> frozenset[Run]:
    """The runs of a prompt's wording, which is the same with every reply of a run."""
    return frozenset(_runs(wording))


def _runs(text: str) -> set[Run]:
    """The words of `_grams`, without their places; runs of function words alone may be among them."""
    if text.isascii():
        words = _ASCII_WORD.findall(text.lower())
        return set(zip(*(words[start:] for start in range(GRAM)), strict=False))
    return {gram.words for gram in _grams(text)}


def _grams(text: str) -> Iterator[_Gram]:
    """Every run of GRAM words, function words alone excepted.

    A character of a script without blanks between words counts half a word.
    """
    matches = list(_WORD.finditer(text))
    words = [match[0].casefold().replace("\u2019", "'") for match in matches]
    has_unspaced = not text.isascii() and _UNSPACED.search(text) is not None
    ends = _ends_by_weight(words) if has_unspaced else range(GRAM, len(words) + 1)
    for first, end in enumerate(ends):
        gram = tuple(words[first:end])
        if not FUNCTION_WORDS.issuperset(gram):
            yield _Gram(gram, matches[first].start(), matches[end - 1].end())


def _ends_by_weight(words: Sequence[str]) -> Iterator[int]:
    """For each first word the index behind the last one of its run, as long as there are words enough."""
    end, weight = 0, 0.0
    weights = [0.5 if _UNSPACED.fullmatch(word) else 1.0 for word in words]
    for first in range(len(words)):
        while weight < GRAM and end < len(words):
            weight += weights[end]
            end += 1
        if weight < GRAM:
            return
        yield end
        weight -= weights[first]


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping spans put together; `spans` are sorted."""
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
