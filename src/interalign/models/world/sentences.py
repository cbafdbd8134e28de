"""Every sentence that can be said in the talk, and its words as tokens. Each ends in `.` or `?` and holds no other."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from interalign.models.world.values import SLOTS, TOPICS, Fact

QUESTIONS: Final = ("Any idea for {topic}?", "Can you help me with {topic}?", "What would you do about {topic}?")
INTERJECTIONS: Final = ("Hey.", "Wow.", "Oh.")
"""What a lively user starts with; like every sentence of a lively writer it ends in `!`."""
KIN: Final = ("sister", "brother", "neighbor")
SMALL_TALK: Final = ("It was a busy day.", "I slept well last night.", "The sun is out again.")
"""What only users with a long style say."""
COMPLAINTS: Final = {
    ("long", False): "Please keep it shorter.",
    ("long", True): "You can say more.",
    ("emoji", False): "No emoji, please.",
    ("emoji", True): "I like emoji.",
    ("lively", False): "Please stay calm.",
    ("lively", True): "More energy, please.",
}
"""What a user says when a reply was not in its style: (feature, what the user wants) to sentence."""
TOO_LONG: Final = "That is far too long."
"""What any user says to a reply over the limit of words, whatever its style."""
PRAISE: Final = "Nice that you remembered my {noun}."
CORRECTION: Final = "I never said {value}."
EMOJI: Final = ("\N{GRINNING FACE}", "\N{PARTY POPPER}", "\N{GLOWING STAR}")

USES: Final = (
    "For {topic}, {fact}, so use that.",
    "About {topic}, {fact}, so start there.",
    "Given {topic}, {fact}, so fit that.",
)
ASKS: Final = ("For {topic}, {question}", "About {topic}, {question}", "Given {topic}, {question}")
"""They begin as the uses do, up to the value: `you eat vegan food` and `you eat which food these days?`.

So what is said there depends on what the talk has told, and on nothing that was decided some words before: that is what
lets so small a model learn when to ask.
"""
PLAINS: Final = (
    "There are many good ways to plan {topic}.",
    "Take your time with {topic} and keep it simple.",
    "Just plan {topic} in the way most people do.",
)
"""Replies that fit anybody."""
CHEER: Final = "Great."
"""What a lively reply starts with if it only asks: a question takes no exclamation mark."""
ALSO: Final = "Also, {fact}."
EXTRAS: Final = (
    "It is easier than it looks at first.",
    "Small things make a big difference in this.",
    "There is no need to rush any of it.",
)
"""What makes a short reply long."""

_TOKEN: Final = re.compile(r" ?[^ .,!?\n]+|[.,!?]|[ \n]")


def tell(fact: Fact) -> str:
    """The user's sentence for a fact of its own: `I have a cat.`"""
    slot = SLOTS[fact.slot]
    return f"{slot.tell} {fact.value}{slot.tail}."


def tell_decoy(kin: str, fact: Fact) -> str:
    """The user's sentence for a fact about somebody else: `My sister has a cat.`"""
    slot = SLOTS[fact.slot]
    return f"My {kin} {slot.other} {fact.value}{slot.tail}."


def own(fact: Fact) -> str:
    """The assistant's clause for a fact of the user: `you have a cat`."""
    slot = SLOTS[fact.slot]
    return f"{slot.own} {fact.value}{slot.tail}"


def lively(sentence: str) -> str:
    """The sentence with an exclamation mark instead of a full stop; questions stay as they are."""
    return sentence[:-1] + "!" if sentence.endswith(".") else sentence


def tokenize(text: str) -> list[str]:
    """The text's tokens; a word carries the blank before it, so that joining the tokens with nothing gives the text."""
    return _TOKEN.findall(text)


def all_facts() -> tuple[Fact, ...]:
    """All 72 facts, slot by slot."""
    return tuple(Fact(index, value) for index, slot in enumerate(SLOTS) for value in slot.values)


def user_sentences() -> Iterator[str]:
    """Every sentence a user may say."""
    yield from INTERJECTIONS
    yield from SMALL_TALK
    yield from COMPLAINTS.values()
    yield TOO_LONG
    yield from (PRAISE.format(noun=slot.noun) for slot in SLOTS)
    for fact in all_facts():
        yield tell(fact)
        yield CORRECTION.format(value=fact.value)
        yield from (tell_decoy(kin, fact) for kin in KIN)
    yield from (question.format(topic=topic.phrase) for question in QUESTIONS for topic in TOPICS)


def candidate_sentences() -> Iterator[str]:
    """Every sentence a scripted candidate may say."""
    yield CHEER
    yield from EXTRAS
    facts = [own(fact) for fact in all_facts()]
    yield from (ALSO.format(fact=fact) for fact in facts)
    for topic in TOPICS:
        yield from (plain.format(topic=topic.phrase) for plain in PLAINS)
        yield from (ask.format(topic=topic.phrase, question=slot.question) for ask in ASKS for slot in SLOTS)
        yield from (use.format(topic=topic.phrase, fact=fact) for use in USES for fact in facts)


@cache
def vocabulary() -> tuple[str, ...]:
    """Every token that can occur in a chat message of the talk, in a fixed order.

    A sentence may come first in a message or after a blank, so its first word occurs with and without one.
    """
    tokens = {token: None for sentence in (*user_sentences(), *candidate_sentences()) for token in tokenize(sentence)}
    firsts = {" " + tokenize(sentence)[0]: None for sentence in (*user_sentences(), *candidate_sentences())}
    return tuple({**tokens, **firsts, **{f" {emoji}": None for emoji in EMOJI}, "!": None})
