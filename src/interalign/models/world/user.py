"""What the user says next. Every coin of a turn is tossed before anything of the talk is looked at."""

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from interalign.models.world.people import Person
from interalign.models.world.reading import ReplyContent, Talk, read_reply, read_talk, read_user
from interalign.models.world.sentences import (
    COMPLAINTS,
    CORRECTION,
    EMOJI,
    INTERJECTIONS,
    KIN,
    PRAISE,
    QUESTIONS,
    SMALL_TALK,
    TOO_LONG,
    lively,
    tell,
    tell_decoy,
)
from interalign.models.world.truth import LONG_WORDS, MOST_WORDS, SHORT_WORDS
from interalign.models.world.values import SLOTS, TOPICS, Fact, split_of, values_of

ANSWERS: Final = 0.95
"""How often a question about an untold fact is answered."""
TELLS: Final = 0.4
"""How often a fact is told unasked, after the first turn."""
REACTS: Final = 0.6
DECOYS: Final = 0.1
MARKS: Final = 0.8
"""How often a style feature that the person has shows in a message, one coin for each."""


class Coins(NamedTuple):
    """All the chance of one turn of the user's. Paired cases: it depends on the seed, never on the replies."""

    topics: tuple[int, ...]
    """The order in which topics would be raised."""
    question: str
    slots: tuple[int, ...]
    """The order in which facts would be told."""
    answer: float
    tell: float
    react: float
    complaint: float
    """Which of several complaints."""
    decoy: float
    decoy_slot: int
    decoy_value: float
    kin: str
    marks: tuple[float, float, float]
    """One for each feature of Style, in its order."""
    small_talk: str
    emoji: str
    interjection: str


def toss(rng: Random) -> Coins:
    """The coins of one turn, always drawn in the same number and order."""
    uniform, choice = rng.random, rng.choice
    return Coins(
        tuple(rng.sample(range(len(TOPICS)), len(TOPICS))), choice(QUESTIONS),
        tuple(rng.sample(range(len(SLOTS)), len(SLOTS))), uniform(), uniform(), uniform(), uniform(),
        uniform(), rng.randrange(len(SLOTS)), uniform(), choice(KIN),
        (uniform(), uniform(), uniform()), choice(SMALL_TALK), choice(EMOJI), choice(INTERJECTIONS),
    )  # fmt: skip


def user_message(
    person: Person,
    own: Sequence[str],
    reply: str | None,
    coins: Coins,
    *,
    answers: float = ANSWERS,
    tells: float = TELLS,
    topic: int | None = None,
) -> str:
    """The user's next message after its `own` messages and the last `reply` (None: the talk begins).

    `answers` and `tells` are probabilities; `topic` is an index into TOPICS, None for the next one not yet raised.
    """
    talk = read_talk(own)
    said = None if reply is None else read_reply(reply)
    marks = [wants and coin < MARKS for wants, coin in zip(person.style, coins.marks, strict=True)]
    told = _fact_to_tell(person, talk, said, coins, answers, 1.0 if said is None else tells)
    sentences = [
        coins.interjection if marks[2] else "",
        _reaction(person, own, said, coins) if said is not None and coins.react < REACTS else "",
        tell(told) if told is not None else "",
        _decoy(person, coins) if coins.decoy < DECOYS else "",
        coins.small_talk if marks[0] else "",
    ]
    about = next_topic(own, coins) if topic is None else topic
    question = coins.question.format(topic=TOPICS[about].phrase)
    spoken = [lively(sentence) if marks[2] else sentence for sentence in sentences if sentence]
    return " ".join([*spoken, question, *([coins.emoji] if marks[1] else [])])


def next_topic(own: Sequence[str], coins: Coins) -> int:
    """The first topic in the coins' order not raised yet; in a talk longer than that, the first raised longest ago."""
    raised = [meaning.topic for text in own for meaning in read_user(text).meanings if meaning.topic is not None]
    recent = set(raised[-(len(raised) % len(TOPICS)) :]) if len(raised) % len(TOPICS) else set()
    return next(topic for topic in coins.topics if topic not in recent)


def _fact_to_tell(
    person: Person, talk: Talk, said: ReplyContent | None, coins: Coins, answers: float, tells: float
) -> Fact | None:
    """The fact asked for, if one is and it is untold; else, now and then, the next in the order of telling."""
    asked = next((slot for slot in said.asks if slot is not None and slot not in talk.told), None) if said else None
    if asked is not None and coins.answer < answers:
        return person.facts[asked]
    if coins.tell >= tells:
        return None
    return next((person.facts[slot] for slot in coins.slots if slot not in talk.told and slot != asked), None)


def _reaction(person: Person, own: Sequence[str], said: ReplyContent, coins: Coins) -> str:
    """A wrong claim first, else one mismatch of style, else praise for a fact that mattered, else nothing."""
    for fact in said.claims:
        if person.facts[fact.slot] != fact:
            return CORRECTION.format(value=fact.value)
    if len(said.words) > MOST_WORDS:
        return TOO_LONG
    complaints = _complaints(person, said)
    if complaints:
        return complaints[int(coins.complaint * len(complaints))]
    last = read_talk(own).topic
    if last is not None and any(fact.slot == TOPICS[last].slot for fact in said.claims):
        return PRAISE.format(noun=SLOTS[TOPICS[last].slot].noun)
    return ""


def _complaints(person: Person, said: ReplyContent) -> list[str]:
    """One for each feature that is clearly not as the person likes it."""
    shown = {"long": is_long(said), "emoji": said.emoji, "lively": said.lively}
    wanted = person.style._asdict()
    return [COMPLAINTS[name, wanted[name]] for name, value in shown.items() if value != wanted[name]]


def is_long(said: ReplyContent) -> bool:
    """Whether a reply is rather long than short."""
    return len(said.words) >= (SHORT_WORDS + LONG_WORDS) / 2


def _decoy(person: Person, coins: Coins) -> str:
    """A fact about somebody else, of the same part of the table as the person's own: held-out values must not leak."""
    own = person.facts[coins.decoy_slot]
    others = [value for value in values_of(own.slot, split_of(own)) if value != own.value]
    return tell_decoy(coins.kin, Fact(own.slot, others[int(coins.decoy_value * len(others))]))
