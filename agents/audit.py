"""What a user agent should not do, told by its words: nothing is dropped for it, it is noted beside the message.

A simulated user that says goodbye, turns in circles or takes the assistant's part spoils the talk without any error.
The marks are phrases that such messages hold, so they say where to look, not how often exactly it happens.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

ENDS, REPEATS, ANSWERS = "ends the talk", "repeats itself", "answers as the assistant"
REFUSES, THIRD_PERSON, COPIES = "refuses", "speaks of the user in the third person", "copies the assistant"

_ENDS = re.compile(
    r"\b(?:good ?bye|bye[- ]bye|bye for now|farewell|see you (?:later|soon|around))\b"
    r"|\b(?:talk|speak) to you (?:later|soon)\b"
    r"|\bhave a (?:nice|good|great|lovely) (?:day|evening|night|weekend|one)\b"
    r"|\b(?:that is|that's|thats) (?:all|it) for (?:now|today)\b"
    r"|(?:^|\s)bye[.!]*\s*$|[<\[(](?:end|stop|exit|terminate)(?: of (?:the )?(?:conversation|chat|talk))?[>\])]",
    re.IGNORECASE,
)
_ANSWERS = re.compile(
    r"\bas an? (?:ai|artificial intelligence|language model|(?:ai |virtual )?assistant)\b"
    r"|\bi(?: am|'m) (?:an ai\b|a language model\b|here to (?:help|assist))"
    r"|\b(?:how|what) (?:can|may|could) i (?:help|assist|do for) you\b"
    r"|\blet me know if you (?:have|need|want|would|'d)\b"
    r"|\bi(?:'d| would) be (?:happy|glad) to (?:help|assist)\b"
    r"|\bi(?:'m| am) (?:happy|glad|ready) to (?:help|assist) you\b"
    r"|\bfeel free to (?:ask|reach out|share|let me know|contact)\b|\bi(?:'m| am) sorry to hear (?:that|about)\b"
    r"|\bis there anything else (?:i can|you(?:'d| would) like)\b"
    r"|\bthank(?:s| you) for (?:sharing|reaching out|asking)\b"
    r"|^\s*(?:certainly|of course|absolutely)! (?:here|i|let)|^\s*great question\b"
    r"|\bit sounds like you(?:'re| are|'ve)\b"
    r"|^\s*(?:assistant|ai|chatbot)\s*:|(?:^\s*(?:\d+[.)]|[-*\u2022]) .*\n?){3}",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSES = re.compile(
    r"\bi(?: can(?:not|'t)|(?:'m| am) (?:not able|unable) to|(?:'m| am) sorry,? but i can(?:not|'t))"
    r" (?:assist|help|provide|fulfil+|comply|engage|discuss|continue|generate|answer|do) (?:you |in |to |with )*"
    r"(?:that|this|such|the request|your request|any)\b",
    re.IGNORECASE,
)
_THIRD_PERSON = re.compile(
    r"^\W*(?:(?:the|this) (?:user|person|persona|human)(?:'s)?\b|(?:user|human|persona|person) ?:)"
    r"|\bthe user (?:is|has|wants|asks|says|likes|would)\b",
    re.IGNORECASE,
)
_APOSTROPHES = str.maketrans("\u2019\u02bc", "''")
_PART = 5
"""So many words in a row are a passage."""
_CACHED = 4096
"""Characters up to which a text's passages are cached."""


def audit_user_message(text: str, earlier: Iterable[str], replies: Iterable[str] = ()) -> tuple[str, ...]:
    """What is wrong with a user's message: any of the marks above, in a fixed order.

    `earlier`: the user's messages before it, `replies`: the assistant's. A repetition says the same in the same words,
    case and blanks ignored, or has four fifths of its passages from one earlier message; a copy has half of them from
    one reply. A message shorter than two passages is neither unless it is the same.
    """
    plain = text.translate(_APOSTROPHES)
    marks = {
        ENDS: _ENDS.search(plain) is not None,
        REPEATS: any(_same(text, other) or _taken_from(text, other) >= 0.8 for other in earlier),
        ANSWERS: _ANSWERS.search(plain) is not None,
        REFUSES: _REFUSES.search(plain) is not None,
        THIRD_PERSON: _THIRD_PERSON.search(plain) is not None,
        COPIES: any(_taken_from(text, reply) >= 0.5 for reply in replies),
    }
    return tuple(mark for mark, found in marks.items() if found)


def _same(text: str, other: str) -> bool:
    return text.casefold().split() == other.casefold().split()


def _taken_from(text: str, other: str) -> float:
    """The share of the text's passages that the other has too; 0 where the text is too short to say."""
    own = _passages(text)
    return len(own & _passages(other)) / len(own) if len(own) > _PART else 0.0


def _passages(text: str) -> frozenset[tuple[str, ...]]:
    """Every run of five words. A conversation is looked at again with each of its turns: what is not long is cached."""
    return _cached_passages(text) if len(text) < _CACHED else _read_passages(text)


def _read_passages(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+(?:'\w+)*", text.translate(_APOSTROPHES).casefold())
    return frozenset(zip(*(words[start:] for start in range(_PART)), strict=False))


_cached_passages = lru_cache(maxsize=1024)(_read_passages)
