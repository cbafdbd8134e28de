"""Messages that take a talk nowhere: assent and thanks alone."""

import re
from typing import Final


def _of(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORD: Final = re.compile(r"\w+(?:['\u2019]\w+)*")
_ASSENT: Final = _of(
    "ok okay thanks thank you thx ta cheers great nice cool good perfect alright wonderful awesome lovely brilliant "
    "sound hm hmm mhm i see got it that sounds makes sense so understood noted indeed oh ah well interesting agreed"
)
_YES_OR_NO: Final = _of("yes yeah yep no nope sure very much a lot fine right true exactly")
_AROUND_ASSENT: Final = _of(
    "a all and bro buddy dear dude for fair enough haha hehe just know madam man mate most much my ngl now on one "
    "really right sir tbf tbh that's this to very your advice help info tip tips"
)
"""Words that say nothing either, beside one of assent."""


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, with plain apostrophes."""
    return [word.replace("\u2019", "'") for word in _WORD.findall(text.lower())]


def is_assent(text: str, reply: str) -> bool:
    """Whether a message takes the talk nowhere: words of assent or thanks alone, where nothing was asked."""
    words = set(words_of(text))
    if not words:
        return True
    assent = _ASSENT if "?" in reply else _ASSENT | _YES_OR_NO
    return "?" not in text and bool(words & assent) and words <= assent | _AROUND_ASSENT
