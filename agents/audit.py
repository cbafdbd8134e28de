"""What a user agent should not do, told by its words: nothing is dropped for it, it is noted beside the message.

A simulated user that says goodbye, turns in circles or takes the assistant's part spoils the talk without any error.
The marks are phrases that such messages hold, so they say where to look, not how often exactly it happens.
"""

import re
from collections.abc import Iterable

ENDS, REPEATS, ANSWERS = "ends the talk", "repeats itself", "answers as the assistant"

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
    r"|\bi(?: am|'m|\N{RIGHT SINGLE QUOTATION MARK}m) (?:an ai\b|a language model\b|here to (?:help|assist))"
    r"|\bhow (?:can|may) i (?:help|assist) you\b|\blet me know if you (?:have|need) any\b"
    r"|^\s*(?:assistant|ai|chatbot)\s*:",
    re.IGNORECASE | re.MULTILINE,
)


def audit_user_message(text: str, earlier: Iterable[str]) -> tuple[str, ...]:
    """What is wrong with a user's message: any of ENDS, REPEATS and ANSWERS. `earlier`: the user's messages before it.

    A repetition says the same in the same words, case and blanks ignored.
    """
    words = text.casefold().split()
    marks = {
        ENDS: _ENDS.search(text) is not None,
        REPEATS: any(words == other.casefold().split() for other in earlier),
        ANSWERS: _ANSWERS.search(text) is not None,
    }
    return tuple(mark for mark, found in marks.items() if found)
