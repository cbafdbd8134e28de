"""Scripted talks for pre-training a small model, with all values in them, held-out ones included."""

from collections.abc import Sequence
from random import Random
from typing import Final

from interalign.models.world.candidate import CARELESS, POLICIES, candidate_reply, dress
from interalign.models.world.people import Person, any_person
from interalign.models.world.reading import read_talk, read_user
from interalign.models.world.sentences import ALSO, EMOJI, QUESTIONS, USES, lively, own, tell
from interalign.models.world.user import toss, user_message
from interalign.models.world.values import SLOTS, TOPICS, Topic
from interalign.tree import Message

_SHORT_TALK_TELLS: Final = 0.15
"""In short talks little is told unasked, so that there is something left to ask for."""


def reading_exercise(rng: Random) -> tuple[Message, ...]:
    """One turn: the user tells two to five facts, the reply uses them all, the one that matters first."""
    person = any_person(rng)
    topic = rng.choice(TOPICS)
    others = [slot for slot in range(len(SLOTS)) if slot != topic.slot]
    slots = [topic.slot, *rng.sample(others, rng.randint(1, 4))]
    rng.shuffle(slots)
    message = _facts_and_question(person, slots, topic, rng)
    rng.shuffle(slots)
    use = rng.choice(USES).format(topic=topic.phrase, fact=own(person.facts[topic.slot]))
    also = [ALSO.format(fact=own(person.facts[slot])) for slot in slots if slot != topic.slot]
    return _talk([message, dress([use, *also], person.style._replace(long=False), rng)])


def deciding_exercise(rng: Random) -> tuple[Message, ...]:
    """One turn: the user tells one to five facts; the reply uses the one that matters if told, else asks for it."""
    person = any_person(rng)
    slots = rng.sample(range(len(SLOTS)), rng.randint(1, 5))
    message = _facts_and_question(person, slots, rng.choice(TOPICS), rng)
    return _talk([message, candidate_reply(POLICIES["oracle"], [message], None, rng)])


def _facts_and_question(person: Person, slots: Sequence[int], topic: Topic, rng: Random) -> str:
    """A user's message that tells the facts of these slots and asks about a topic."""
    facts = [tell(person.facts[slot]) for slot in slots]
    spoken = [lively(fact) if person.style.lively else fact for fact in facts]
    emoji = [rng.choice(EMOJI)] if person.style.emoji else []
    return " ".join([*spoken, rng.choice(QUESTIONS).format(topic=topic.phrase), *emoji])


def short_talk(rng: Random) -> tuple[Message, ...]:
    """Four to eight turns, all replies right; half of the time (as far as it goes) the fact that matters is untold."""
    person = any_person(rng)
    texts: list[str] = []
    for _ in range(rng.randint(4, 8)):
        topic = _topic(texts[::2], rng)
        reply = texts[-1] if texts else None
        texts.append(user_message(person, texts[::2], reply, toss(rng), tells=_SHORT_TALK_TELLS, topic=topic))
        texts.append(candidate_reply(POLICIES["oracle"], texts[::2], None, rng))
    return _talk(texts)


def _topic(own_texts: Sequence[str], rng: Random) -> int:
    """A topic of a told or of an untold slot, by a fair coin; one not raised before where there is one."""
    told = read_talk(own_texts).told
    raised = {meaning.topic for text in own_texts for meaning in read_user(text).meanings}
    wanted = rng.random() < 0.5
    fitting = [index for index, topic in enumerate(TOPICS) if (topic.slot in told) == wanted] or list(
        range(len(TOPICS))
    )
    return rng.choice([topic for topic in fitting if topic not in raised] or fitting)


def long_talk(rng: Random, good: float = 0.4, turns: int = 10) -> tuple[Message, ...]:
    """A talk of `turns` turns in which the share `good` of the replies is the oracle's and the rest careless."""
    person = any_person(rng)
    texts: list[str] = []
    for _ in range(turns):
        texts.append(user_message(person, texts[::2], texts[-1] if texts else None, toss(rng)))
        policy = POLICIES["oracle"] if rng.random() < good else CARELESS
        texts.append(candidate_reply(policy, texts[::2], None, rng))
    return _talk(texts)


def _talk(texts: Sequence[str]) -> tuple[Message, ...]:
    """Texts as chat messages, the user first."""
    return tuple(Message(role="assistant" if index % 2 else "user", content=text) for index, text in enumerate(texts))
