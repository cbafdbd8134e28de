"""What a message of the talk says, worked out from its text alone. Pure, and cached: a text always says the same."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from interalign.models.world.sentences import (
    COMPLAINTS,
    CORRECTION,
    KIN,
    QUESTIONS,
    SMALL_TALK,
    all_facts,
    tell,
    tell_decoy,
)
from interalign.models.world.values import FACT_OF, SLOTS, TOPIC_OF, TOPICS, Fact

_SENTENCE: Final = re.compile(r"([^.!?\n]+)([.!?]*)")
_WORD: Final = re.compile(r"\w+(?:'\w+)*")
_EMOJI: Final = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
_SELF: Final = frozenset({"i", "i'm", "my", "me"})
_PEOPLE: Final = frozenset(
    {*KIN, "friend", "parents", "mother", "father", "wife", "husband", "son", "daughter", "partner"}
)
_OTHERS: Final = _PEOPLE | {f"{who}'s" for who in _PEOPLE} | {"not", "never", "no", "don't"}
"""A sentence with one of these is not about what the user is or has."""
GRAM: Final = 6
"""So many of the user's words in a row make an echo."""


class Meaning(NamedTuple):
    """What one sentence of a user says."""

    kind: str
    """`told`, `decoy`, `denied`, `complaint`, `small talk` or `topic`."""
    fact: Fact | None = None
    feature: tuple[str, bool] | None = None
    topic: int | None = None


class UserContent(NamedTuple):
    """What one message of a user says."""

    meanings: tuple[Meaning, ...]
    emoji: bool
    lively: bool
    grams: frozenset[tuple[str, ...]]


class ReplyContent(NamedTuple):
    """What one reply says."""

    words: tuple[str, ...]
    """Words in lower case, in order; emoji and punctuation are none."""
    claims: tuple[Fact, ...]
    """Facts named, in order, repeats included; not those that a question offers for its own slot."""
    asks: tuple[int | None, ...]
    """The slots that its questions ask for, in order; None for a question that asks for no slot."""
    topics: frozenset[int]
    emoji: bool
    lively: bool


class Talk(NamedTuple):
    """What the user's messages so far say, put together."""

    told: dict[int, Fact]
    """Slot to the fact the user last told of itself."""
    denied: frozenset[Fact]
    decoys: dict[int, Fact]
    """Slot to a fact about somebody else."""
    style: dict[str, bool]
    """Feature (`long`, `emoji`, `lively`) to what was shown; a feature without any sign is absent."""
    topic: int | None
    """Index of the topic the last message asks about; None if it is about none of the world's."""


def _plain_lines(text: str) -> str:
    """The text with every kind of line break as a newline, as prompts have it: the judge must read what is scored."""
    return "\n".join(text.splitlines())


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in lower case."""
    return tuple(_WORD.findall(text.lower().replace("\u2019", "'")))


def grams_of(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """All runs of GRAM words."""
    return frozenset(zip(*(words[start:] for start in range(GRAM)), strict=False))


def _known_sentences() -> dict[str, Meaning]:
    """Every meaningful sentence of the world's user, without its end mark, to its meaning."""
    known = {sentence: Meaning("small talk") for sentence in SMALL_TALK}
    known |= {sentence: Meaning("complaint", feature=feature) for feature, sentence in COMPLAINTS.items()}
    for fact in all_facts():
        known[tell(fact)] = Meaning("told", fact)
        known[CORRECTION.format(value=fact.value)] = Meaning("denied", fact)
        known |= {tell_decoy(kin, fact): Meaning("decoy", fact) for kin in KIN}
    for index, topic in enumerate(TOPICS):
        known |= {question.format(topic=topic.phrase): Meaning("topic", topic=index) for question in QUESTIONS}
    return {sentence[:-1]: meaning for sentence, meaning in known.items()}


_KNOWN: Final = _known_sentences()


@lru_cache(maxsize=2048)
def read_user(text: str) -> UserContent:
    """What a user's message says."""
    found: list[Meaning] = []
    text = _plain_lines(text)
    for match in _SENTENCE.finditer(text):
        sentence = match[1].strip()
        meaning = _KNOWN.get(sentence)
        found.extend([meaning] if meaning else _read_foreign(sentence))
    return UserContent(tuple(found), bool(_EMOJI.search(text)), "!" in text, grams_of(words_of(text)))


def _read_foreign(sentence: str) -> list[Meaning]:
    """A sentence that is not the world's own, so that another model can take the user's seat."""
    words = words_of(sentence)
    found = [Meaning("topic", topic=TOPIC_OF[word]) for word in words if word in TOPIC_OF]
    facts = [FACT_OF[word] for word in words if word in FACT_OF]
    if facts and not _SELF.isdisjoint(words) and _OTHERS.isdisjoint(words):
        found.extend(Meaning("told", fact) for fact in facts)
    return found


@lru_cache(maxsize=2048)
def read_reply(text: str) -> ReplyContent:
    """What a reply says."""
    claims: list[Fact] = []
    asks: list[int | None] = []
    text = _plain_lines(text)
    for sentence, end in _SENTENCE.findall(text):
        words = words_of(sentence)
        slots = _asked_slots(words) if "?" in end else []
        asks.extend(slots)
        # Only a question that names choices for what it asks may name values without claiming them.
        claims.extend(FACT_OF[word] for word in words if word in FACT_OF and FACT_OF[word].slot not in slots)
    words = words_of(text)
    topics = frozenset(TOPIC_OF[word] for word in words if word in TOPIC_OF)
    return ReplyContent(words, tuple(claims), tuple(asks), topics, bool(_EMOJI.search(text)), "!" in text)


def _asked_slots(words: Sequence[str]) -> list[int | None]:
    if "you" not in words and "your" not in words:
        return [None]
    slots: list[int | None] = [index for index, slot in enumerate(SLOTS) if not slot.ask_words.isdisjoint(words)]
    return slots or [None]


def read_talk(texts: Sequence[str]) -> Talk:
    """What the user's messages (in order, at least one) say together; later words beat earlier ones."""
    told: dict[int, Fact] = {}
    denied: set[Fact] = set()
    decoys: dict[int, Fact] = {}
    seen: dict[str, bool] = {}
    wanted: dict[str, bool] = {}
    topic = None
    for heard in map(read_user, texts):
        topic = None
        for kind, fact, feature, about in heard.meanings:
            if kind == "small talk":
                seen["long"] = True
            elif feature is not None:
                wanted[feature[0]] = feature[1]
            elif fact is None:
                topic = about
            elif kind == "told":
                told[fact.slot] = fact
            elif kind == "decoy":
                decoys[fact.slot] = fact
            else:
                denied.add(fact)
        if heard.emoji:
            seen["emoji"] = True
        if heard.lively:
            seen["lively"] = True
    return Talk(told, frozenset(denied), decoys, {**seen, **wanted}, topic)
