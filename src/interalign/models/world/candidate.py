"""The scripted candidates: one policy of a few numbers, which decide how often what the talk shows is put to use."""

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from interalign.models.world.inducer import read_notes
from interalign.models.world.reading import Talk, read_talk
from interalign.models.world.sentences import ALSO, ASKS, CHEER, EMOJI, EXTRAS, PLAINS, USES, lively, own
from interalign.models.world.values import SLOTS, TOPICS, Fact, Style, split_of, values_of


class Policy(NamedTuple):
    """Probabilities."""

    use: float
    """Of using the fact that matters, when it is known."""
    ask: float
    """Of asking for it, when it is not."""
    invent: float
    """Of claiming a wrong value, when neither of the two is done."""
    drag: float
    """Of dragging in a fact that does not matter."""
    style: float
    """For each feature: of getting it right as far as the talk shows it; 0.5 is chance."""
    slips: float = 0.4
    """What share of these mistakes is left when the inducer's notes are at hand."""

    @property
    def hinted(self) -> "Policy":
        """The policy with the notes at hand."""
        keep = self.slips
        return Policy(
            1 - keep * (1 - self.use), 1 - keep * (1 - self.ask), keep * self.invent, keep * self.drag,
            1 - keep * (1 - self.style), keep,
        )  # fmt: skip


POLICIES: Final = {
    "blind": Policy(0, 0, 0, 0, 0.5, slips=1),
    "average": Policy(0.4, 0.25, 0.15, 0.1, 0.65),
    "attentive": Policy(0.75, 0.5, 0.05, 0.05, 0.85),
    "oracle": Policy(1, 1, 0, 0, 1),
}
CARELESS: Final = Policy(0.1, 0.05, 0.25, 0.15, 0.5)
"""What makes up the other replies of pre-training talks; nobody's seat."""


def candidate_reply(policy: Policy, user_texts: Sequence[str], notes: str | None, rng: Random) -> str:
    """A reply to the last of the user's messages; `notes` are the inducer's, None without a hint."""
    talk = read_talk(user_texts)
    if notes is not None and policy.slips < 1:
        policy, talk = policy.hinted, _with_notes(talk, notes)
    topic = talk.topic if talk.topic is not None else rng.randrange(len(TOPICS))
    slot = TOPICS[topic].slot
    sentences = [_answer(policy, talk, topic, rng)]
    others = [fact for told, fact in sorted(talk.told.items()) if told != slot]
    if rng.random() < policy.drag and others:
        sentences.append(ALSO.format(fact=own(rng.choice(others))))
    return dress(sentences, _style(policy, talk, rng), rng)


def dress(sentences: Sequence[str], style: Style, rng: Random) -> str:
    """The sentences as one reply in a style."""
    extra = [rng.choice(EXTRAS)] if style.long else []
    # A question stays last, where it is most likely to be answered.
    ordered = [*extra, *sentences] if extra and sentences[-1].endswith("?") else [*sentences, *extra]
    spoken = [lively(sentence) if style.lively else sentence for sentence in ordered]
    if style.lively and "!" not in " ".join(spoken):
        spoken.insert(0, lively(CHEER))
    return " ".join([*spoken, *([rng.choice(EMOJI)] if style.emoji else [])])


def _answer(policy: Policy, talk: Talk, topic: int, rng: Random) -> str:
    """The sentence that answers: with the fact that matters, a question for it, an invention, or nothing personal."""
    acts, invents, pick, template = rng.random(), rng.random(), rng.random(), rng.randrange(3)
    slot, phrase = TOPICS[topic].slot, TOPICS[topic].phrase
    known = talk.told.get(slot)
    if known is not None and acts < policy.use:
        return USES[template].format(fact=own(known), topic=phrase)
    if known is None and acts < policy.ask:
        return ASKS[template].format(topic=phrase, question=SLOTS[slot].question)
    if invents < policy.invent:
        return USES[template].format(fact=own(_invented(talk, slot, pick)), topic=phrase)
    return PLAINS[template].format(topic=phrase)


def _invented(talk: Talk, slot: int, pick: float) -> Fact:
    """What a careless reader would claim: the fact of somebody else, else any value but the told one.

    It is drawn from the same part of the table as the facts told, so that held-out values do not leak into training.
    """
    told = talk.told.get(slot)
    if slot in talk.decoys and talk.decoys[slot] != told:
        return talk.decoys[slot]
    split = split_of(next(iter(talk.told.values()))) if talk.told else "train"
    facts = [Fact(slot, value) for value in values_of(slot, split)]
    wrong = [fact for fact in facts if fact != told and fact not in talk.denied] or facts
    return wrong[int(pick * len(wrong))]


def _style(policy: Policy, talk: Talk, rng: Random) -> Style:
    """Each feature as shown so far (not shown is shown by its absence), or, by mistake, its opposite."""
    shown = (talk.style.get(name, False) for name in Style._fields)
    return Style(*(value == (rng.random() < policy.style) for value in shown))


def _with_notes(talk: Talk, notes: str) -> Talk:
    """The talk and what the notes say of it; the notes win over the candidate's own reading."""
    facts, style = read_notes(notes)
    return talk._replace(told={**talk.told, **facts}, style={**talk.style, **style})
