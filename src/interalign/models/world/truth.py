"""The true score of a reply: what world:judge says when no fault is planted in it. docs/world.md has it in words."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from interalign.errors import ConfigError
from interalign.models.world.english import is_english
from interalign.models.world.people import Person, person_of
from interalign.models.world.reading import ReplyContent, Talk, grams_of, read_reply, read_talk, read_user
from interalign.models.world.values import SLOTS, TOPICS
from interalign.personas import Persona
from interalign.tree import Message

CONTENT_WEIGHT: Final = 0.6
STYLE_WEIGHT: Final = 0.4
RIGHT_FACT: Final = 1.0
"""Content for naming the fact that matters for the topic (once, told or not)."""
USEFUL_QUESTION: Final = 0.2
"""Content for asking for it instead, while the user has not told it."""
TOLD_QUESTION: Final = -0.5
"""For each question about what the user has told."""
FURTHER_QUESTION: Final = -0.25
"""For each other question."""
WRONG_VALUE: Final = -1.0
IRRELEVANT_FACT: Final = -0.5
REPEATED_CLAIM: Final = -0.5
CONTENT_FLOOR: Final = -0.5
# A floor of 0 would make inventing free, and training would learn to invent.
SHORT_WORDS: Final = 12
"""A reply is fully short up to so many words ..."""
LONG_WORDS: Final = 15
"""... and fully long from so many on; graded between."""
FEWEST_WORDS: Final = 4
MOST_WORDS: Final = 40
"""Past so many words the gate falls, to reach 0 at ENDLESS_WORDS."""
ENDLESS_WORDS: Final = 80
MOST_REPEATED: Final = 0.4
"""Share of words that were there before."""
OFF_TOPIC_GATE: Final = 0.5
BROKEN_ENGLISH_GATE: Final = 0.5
TIE: Final = 0.1
"""Two replies whose true scores differ by less are a tie."""


class Assessment(NamedTuple):
    """What the true score is made of."""

    right: bool
    """Names the fact that matters."""
    asks: bool
    """Asks for the fact that matters while it is untold."""
    wrong: int
    """Values named that are not the user's."""
    content: float
    """Between CONTENT_FLOOR and 1."""
    style: float
    """Share of the three style features that agree, 0..1."""
    gate: float
    """0..1; what can only spoil a reply."""

    @property
    def score(self) -> float:
        """The true score in [1, 5]."""
        return 1 + 4 * self.gate * max(0.0, CONTENT_WEIGHT * self.content + STYLE_WEIGHT * self.style)


def true_score(persona: Persona, transcript: Sequence[Message], reply: str) -> float:
    """The exact score in [1, 5] of a reply to the last message of `transcript`, which must be the user's.

    Raises ConfigError for a persona that is not the world's or a transcript that does not end with the user.
    """
    if not transcript or transcript[-1].role != "user":
        raise ConfigError("a reply can be scored only after a message of the user's")
    texts = [message.content for message in transcript if message.role == "user"]
    return assess(person_of(persona), texts, reply).score


def assess(person: Person, user_texts: Sequence[str], reply: str) -> Assessment:
    """Content, style and gate of a reply to the last of the user's messages."""
    talk = read_talk(user_texts)
    said = read_reply(reply)
    topic = talk.topic
    # Somebody else in the user's seat may ask about anything: then every fact of the user's is to the point.
    relevant = frozenset(range(len(SLOTS))) if topic is None else frozenset({TOPICS[topic].slot})
    right, asks, wrong, content = _content(person, talk, relevant, said)
    gate = 0.0 if _echoes(user_texts, reply) else _form(reply)
    if topic is not None and topic not in said.topics:
        gate *= OFF_TOPIC_GATE
    return Assessment(right, asks, wrong, content, style_fit(person, said), gate)


def _content(person: Person, talk: Talk, relevant: frozenset[int], said: ReplyContent) -> tuple[bool, bool, int, float]:
    named = set(said.claims)
    wrong = sum(person.facts[fact.slot] != fact for fact in named)
    true = {fact.slot for fact in named if person.facts[fact.slot] == fact}
    right = bool(true & relevant)
    content = (
        RIGHT_FACT * right
        + WRONG_VALUE * wrong
        + IRRELEVANT_FACT * len(true - relevant)
        + REPEATED_CLAIM * (len(said.claims) - len(named))
    )
    asks = not right and any(slot in relevant and slot not in talk.told for slot in said.asks if slot is not None)
    told = sum(slot in talk.told for slot in said.asks)
    content += USEFUL_QUESTION * asks + TOLD_QUESTION * told + FURTHER_QUESTION * (len(said.asks) - told - asks)
    return right, asks, wrong, max(CONTENT_FLOOR, content)


def style_fit(person: Person, said: ReplyContent) -> float:
    """Share of the three style features that agree with what the person likes; length is graded."""
    long = min(1.0, max(0.0, (len(said.words) - SHORT_WORDS) / (LONG_WORDS - SHORT_WORDS)))
    style = person.style
    return ((long if style.long else 1 - long) + (said.emoji == style.emoji) + (said.lively == style.lively)) / 3


@lru_cache(maxsize=2048)
def _form(reply: str) -> float:
    """The part of the gate that depends on the reply alone."""
    words = read_reply(reply).words
    count = len(words)
    if count < FEWEST_WORDS or count - len(set(words)) > MOST_REPEATED * count:
        return 0.0
    gate = min(1.0, max(0.0, (ENDLESS_WORDS - count) / (ENDLESS_WORDS - MOST_WORDS)))
    return gate if is_english(reply) else gate * BROKEN_ENGLISH_GATE


@lru_cache(maxsize=2048)
def _reply_grams(reply: str) -> frozenset[tuple[str, ...]]:
    return grams_of(read_reply(reply).words)


def _echoes(user_texts: Sequence[str], reply: str) -> bool:
    grams = _reply_grams(reply)
    return any(not grams.isdisjoint(read_user(text).grams) for text in user_texts)
