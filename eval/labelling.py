"""How a question is put to a person, and how the answer is kept: the same at the terminal and in the browser."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from interalign.eval.label_files import now, stored_answer
from interalign.records import Label, LabelQuestion
from interalign.seeds import addressed_rng

CHOICES: Final = {"1": "Reply 1", "2": "Reply 2", "0": "A tie"}
"""Keys for a pair, in the order in which they are offered, and what each says."""
SCORES: Final = {
    "1": "ignores this user",
    "2": "fits a little",
    "3": "fits partly",
    "4": "fits well",
    "5": "fits fully",
}
"""Keys for a single reply, and what each says."""


def shipped_instructions() -> str:
    """What labellers are told where no other file is given."""
    return files("interalign.eval").joinpath("templates", "label_instructions.txt").read_text(encoding="utf-8")


def newest_instructions(labels: Sequence[Label]) -> str | None:
    """The text by which the last of these labels was answered; None if none says."""
    told = [(label.at, label.instructions) for label in labels if label.instructions is not None]
    return max(told)[1] if told else None


def answers_to(question: LabelQuestion) -> dict[str, str]:
    """The keys that answer it."""
    return SCORES if question.b is None else CHOICES


def order_shown(question: LabelQuestion, who: str) -> tuple[str, ...]:
    """The replies in the order shown: random, the same whenever this person is asked."""
    if question.b is None:
        return (question.a,)
    swapped = addressed_rng("label order", question.id, who).random() < 0.5
    return (question.b, question.a) if swapped else (question.a, question.b)


def label_of(question: LabelQuestion, who: str, key: str, told: str) -> Label:
    """What is kept of this key (1, 2, 0; 1 to 5); ValueError for a key that is no answer."""
    first = order_shown(question, who)[0]
    return Label(
        tree=question.tree,
        a=question.a,
        b=question.b,
        who=who,
        answer=stored_answer(key, question, first),
        first=first,
        at=now(),
        instructions=told,
    )
