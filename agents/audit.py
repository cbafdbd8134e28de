"""What a user agent should not do, told by its words: nothing is dropped for it, it is noted beside the message.

A simulated user that says goodbye, turns in circles or takes the assistant's part spoils the talk without any error.
The marks are phrases that such messages hold, so they say where to look, not how often exactly it happens.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

ENDS, REPEATS, ANSWERS = "ends the talk", "repeats itself", "answers as the assistant"
REFUSES, THIRD_PERSON, COPIES = "refuses", "speaks of the user in the third person", "copies the assistant"


class _Phrases:
    """Phrases, each under a piece of text that it always holds: only where the piece stands is the phrase looked for.

    A user's message is audited as it is said, and a look for a piece costs a fiftieth of a search for its phrases.
    """

    def __init__(self, by_piece: Mapping[str, str]) -> None:
        """Lower-case pieces -> regular expressions."""
        self._patterns = [(piece, re.compile(phrase, re.MULTILINE)) for piece, phrase in by_piece.items()]

    def first_in(self, lowered: str) -> str:
        """The first of them that this text, in lower case, holds; empty if it holds none."""
        for piece, pattern in self._patterns:
            if piece in lowered and (found := pattern.search(lowered)):
                return found[0].strip() or piece
        return ""


_ENDS = _Phrases(
    {
        "bye": r"\b(?:good ?bye|bye[- ]bye|bye for now)\b|(?:^|\s)bye[.!]*\s*\Z",
        "farewell": r"\bfarewell\b",
        "see you": r"\bsee you (?:later|soon|around)\b",
        "to you": r"\b(?:talk|speak) to you (?:later|soon)\b",
        "have a ": r"\bhave a (?:nice|good|great|lovely) (?:day|evening|night|weekend|one)\b",
        " for now": r"\b(?:that is|that's|thats) (?:all|it) for now\b",
        " for today": r"\b(?:that is|that's|thats) (?:all|it) for today\b",
        "that": r"\bthat(?:'s| is|s) (?:me done|everything[,.!]|all i need(?:ed)?\b)",
        "all i need": r"\btells me all i need\b",
        " questions": r"\bno (?:further|more|other) questions\b",
        "nothing": r"\bi need nothing(?: more| else)?[,.!]",
        "no need for": r"\bno need for anything (?:more|else)\b",
        "cheerio": r"\bcheerio\b",
        "ciao": r"(?:^|[\s,])ciao[.!]*\s*\Z",
        "ta-ta": r"\bta-ta\b",
        "gone": r"\b(?:i'm|im|i am) gone[.!]*\s*\Z",
        "finished": r"\b(?:i'm|that's me) (?:finished|done) (?:for (?:now|good|today)|here)\b",
        "": r"[<\[(](?:end|stop|exit|terminate)(?: of (?:the )?(?:conversation|chat|talk))?[>\])]",
    }
)
_OF_HELP = r"(?:any|anything|something|help|more help|further|assistance)"
_ANSWERS = _Phrases(
    {
        "as a": r"\bas an? (?:ai|artificial intelligence|language model|(?:ai |virtual )?assistant)\b",
        "an ai": r"\bi(?: am|'m) an ai\b",
        "a language model": r"\bi(?: am|'m) a language model\b",
        "here to": r"\bi(?: am|'m) here to (?:help|assist)",
        " can i ": r"\b(?:how|what) can i (?:help|assist|do for) you\b",
        " may i ": r"\b(?:how|what) may i (?:help|assist|do for) you\b",
        " could i ": r"\b(?:how|what) could i (?:help|assist|do for) you\b",
        "let me know": r"\blet me know if you(?:'d| would)? (?:have (?:any|more|other)|need "
        + _OF_HELP
        + r"|want (?:me|more|any)|like|prefer)\b",
        " be ": r"\bi(?:'d| would) be (?:happy|glad|delighted) to (?:help|assist|support|guide)\b",
        "hesitate": r"\b(?:don't|do not) hesitate to (?:ask|reach out|contact|let me know)\b",
        "at your disposal": r"\bi(?: am|'m|'ll| remain| will be)[^.!?]{0,20} at your disposal\b",
        "i hope": r"\bi hope (?:that )?(?:this|it|these tips) helps?\b",
        "here are": r"\bhere are [^.:!?]{0,40}\b(?:tips|suggestions|strategies|ideas (?:that |for )?you)\b",
        "would you like me": r"\bwould you like me to\b",
        "i can": r"\bi can(?:,? however,?)? (?:suggest|recommend|help you|walk you|guide you)\b",
        "welcome": r"\A\W*(?:(?:hi|hello|hey)\b(?: there)?,? )?welcome[!.]",
        "please": r"\bplease (?:share|provide)\b[^.!?]* (?:your (?:details|situation)|you need|so i can help)\b",
        "need help with": r"\bwhat do you need (?:help|assistance) with\b",
        "like to know or": r"\bwhat would you like to know or\b",
        "any other questions": r"\bdo you have any other questions\b",
        "an assistant": r"\bi(?:'m| am) (?:just |only )?an assistant(?= ?[,.!;)]|\Z| (?:and|here|help|designed)\b)",
        " assistant": r"\bi(?:'m| am) (?:just |only )?an? (?:ai|digital|virtual|helpful|personal) assistant\b",
        "like to help you": r"\bi(?:'d| would) like to help you\b",
        "you're welcome": r"\A\W*you're welcome[!.,]",
        "welcome ": r"\A\W*(?:hello,? everyone[!.,] )?welcome (?:back )?to (?:my|our|the|your) "
        r"(?:chat|assistant|virtual|session)\b",
        "certainly": r"\A\W*certainly[.,!] (?:to|here)\b",
        "it is ": r"\bit is (?:advisable|recommended) (?:that you|to)\b",
        "assist you": r"\bi(?:'m| am) (?:happy|glad|ready) to assist you\b",
        "help you": r"\bi(?:'m| am) (?:happy|glad|ready) to help you\b",
        "feel free": r"\bfeel free to (?:ask|reach out|share|let me know|contact)\b",
        "sorry to hear": r"\bi(?:'m| am) sorry to hear (?:that|about)\b",
        "is there anything": r"\bis there anything else (?:i can|you(?:'d| would) like)\b",
        "thank": r"\bthank(?:s| you) for (?:sharing|reaching out|asking)\b",
        "! ": r"^\s*(?:certainly|of course|absolutely)! (?:here|i|let)",
        "great question": r"^\s*great question\b",
        "sounds like": r"\bit sounds like you(?:'re| are|'ve)\b",
        ":": r"^\s*(?:assistant|ai|chatbot)\s*:",
        "\n": r"(?:^\s*(?:\d+[.)]|[-*\u2022]) (?!.*\b(?:i|i'm|i've|my|me|we|our)\b)[^\w\n]*\w.*\n?){3}",
    }
)
_SORRY = (
    r"[^.!?\n]{0,20}\bi(?: can(?:not|'t)|(?:'m| am) (?:not able|unable|not permitted|not in a position) to)"
    r" (?:assist|help (?:you )?with|fulfil+|comply|discuss|disclose|continue|generate|create|engage"
    r"|(?:provide|offer|give(?: out)?|share)\b[^.!?]*\b(?:advice|information|guidance|assistance))\b"
)
_TO_HELP = (
    r" (?:assist|help|provide|fulfil+|comply|engage|discuss|continue|generate|answer|do) (?:you |in |to |with )*"
    r"(?:that|this|such|the request|your request|any)\b"
)
_REFUSES = _Phrases(
    {
        "i can": r"\bi can(?:not|'t)" + _TO_HELP,
        "able to": r"\bi(?:'m| am) (?:not able|unable) to" + _TO_HELP,
        "sorry": r"\bsorry\b" + _SORRY,
        "apologi": r"\bapologi[sz]e\b" + _SORRY,
        "regret": r"\bregret(?:tably)?\b" + _SORRY,
        " help": r"\A\W*(?:i can(?:not|'t) (?:help|assist) with|can't help you with)\b(?! it\b)",
        "violate": r"\b(?:that|this|it) (?:would|may|might|could) violate\b",
        "permitted": r"\bi(?:'m| am) not permitted to\b",
        "language model": r"\bas an? (?:ai |large )*language model, i(?: can(?:not|'t)|'m| am| do not| don't)\b",
    }
)
_STAGE_DIRECTION = r"(?:nods|smiles|sighs|shrugs|pats|wonders|looks (?:at|around)|pauses|grins|frowns)\b"
_THIRD_PERSON = _Phrases(
    {
        "the user": r"\A\W*the user(?:'s)?\b|\bthe user (?:is|has|wants|asks|says|likes|would)\b",
        "person": r"\A\W*(?:(?:the|this) (?:person|persona)(?:'s)?\b|(?:persona|person) ?:)",
        "this user": r"\A\W*this user(?:'s)?\b",
        "human": r"\A\W*(?:(?:the|this) human(?:'s)?\b|human ?:)",
        "user": r"\A\W*user ?:",
        "the ": r"\A\W*the (?:[\w'-]+ ){1,3}?" + _STAGE_DIRECTION,
    }
)
_QUOTED = re.compile(r"\"[^\"\n]*\"|\u201c[^\u201d\n]*\u201d")
_APOSTROPHES = str.maketrans("\u2019\u02bc", "''")
_PART = 5
"""So many words in a row are a passage."""
_CACHED = 4096
"""Characters up to which a text's passages are cached."""


def audit_user_message(text: str, earlier: Iterable[str], replies: Iterable[str] = ()) -> tuple[str, ...]:
    """What is wrong with a user's message: any of the marks above, in a fixed order; as `marks_with_evidence`."""
    return tuple(marks_with_evidence(text, earlier, replies))


def marks_with_evidence(text: str, earlier: Iterable[str], replies: Iterable[str] = ()) -> dict[str, str]:
    """The marks above that a user's message has, in a fixed order, each with the words that show it.

    `earlier`: the user's messages before it, `replies`: the assistant's. A repetition says the same in the same words,
    case and blanks ignored, or has four fifths of its passages from one earlier message; a copy has half of them from
    one reply. A message shorter than two passages is neither unless it is the same. Of a repetition and a copy the
    words are those of the other message.
    """
    lowered, words = unquoted(text).translate(_APOSTROPHES).lower(), _words(text)
    marks = {
        ENDS: _ENDS.first_in(lowered),
        REPEATS: _first(earlier, lambda other: words == _words(other) or _taken_from(text, other) >= 0.8),
        ANSWERS: _ANSWERS.first_in(lowered),
        REFUSES: _REFUSES.first_in(lowered),
        THIRD_PERSON: _THIRD_PERSON.first_in(lowered),
        COPIES: _first(replies, lambda reply: _taken_from(text, reply) >= 0.5),
    }
    return {mark: evidence for mark, evidence in marks.items() if evidence}


def unquoted(text: str) -> str:
    """The text without what stands in double quotation marks: those are somebody else's words."""
    return _QUOTED.sub(" ", text) if '"' in text or "\u201c" in text else text


def _first(texts: Iterable[str], is_one: Callable[[str], bool]) -> str:
    """The first text of which this holds, a blank one as its representation; empty if there is none."""
    return next((text if text.strip() else repr(text) for text in texts if is_one(text)), "")


def _words(text: str) -> list[str]:
    return text.casefold().split()


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
