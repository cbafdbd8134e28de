"""A coarse test of whether a reply is made of sentences."""

import re
from typing import Final

FEWEST_FUNCTION_WORDS: Final = 0.2
"""A smaller share of function words is telegraph style."""
LONGEST_INTERJECTION: Final = 3
_SENTENCE: Final = re.compile(r"[^.!?\n]+")
_WORD: Final = re.compile(r"\w+(?:['\u2019]\w+)*")
_FUNCTION_WORDS: Final = frozenset(
    """
    a about after all also am an and any are around as at be because been before but by can could do does every
    for from get go had has have help how i i'd if in into is it it's its just keep let let's like make many may
    more most my no not of on one or our out over should since so some such take than that that's the their them
    then there these they this through to too try up very was way we well what when where which while who why will
    with would you you're your
    """.split()  # noqa: SIM905 - a page of quotes would say no more
)
_BROKEN: Final = re.compile(
    # Pairs that no sentence holds: they catch function words strewn into a list of keywords.
    r"\b(?:an?|the|my|your|our|their)\s+(?:an?|the|my|your|our|their|and|or|but|of|to|in|on|at|for|from|with|by|is|was"
    r"|are|were|be|if|so|since|that|then|it|you|i|we|they|them)\b(?![-'\u2019])"
    r"|\b(?:of|with|at|from|to)\s+(?:of|for|with|at|from|to|in|on|is|are|and|or|but|so|if|by)\b(?![-'\u2019])"
    r"|\b(?:an|the|my|your|our|their|of|and|or)\s*$"
)


def is_english(text: str) -> bool:
    """Whether no sentence is in telegraph style or has function words strewn in.

    Each sentence is tested on its own, so that a good one cannot make up for a bad one; up to three words pass as an
    interjection. Real sentences pass; so do wrong words in the right places.
    """
    return all(_is_sentence(sentence) for sentence in _SENTENCE.findall(text.lower()))


def _is_sentence(sentence: str) -> bool:
    words = _WORD.findall(sentence)
    if len(words) <= LONGEST_INTERJECTION:
        return True
    share = sum(word in _FUNCTION_WORDS for word in words) / len(words)
    return share >= FEWEST_FUNCTION_WORDS and not _BROKEN.search(sentence)
