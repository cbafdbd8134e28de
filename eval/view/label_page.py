"""From the planned questions and one person's labels to what the labelling page shows; and what its form asks for."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from interalign.errors import ConfigError
from interalign.eval.labelling import answers_to, label_of, newest_instructions, order_shown, shipped_instructions
from interalign.eval.safe_text import shown
from interalign.eval.view.links import ServedLinks
from interalign.eval.view.queries import NotThereError, persona_of
from interalign.eval.view.tree_page import Link
from interalign.personas import Persona
from interalign.records import Label, LabelQuestion
from interalign.store import Store
from interalign.tree import Message

if TYPE_CHECKING:  # numpy and scipy, 60 MB, only once everything is answered
    from interalign.eval.label_agreement import LabelAgreement

LONGEST_NAME = 80
"""Characters of a labeller's name."""
_SHOWN = 20
"""Questions that are named with another answer of a judge."""


class AskedQuestion(NamedTuple):
    """One question as it is put to somebody, without any name of a candidate and any word of a judge."""

    token: str
    """What stands for it in the form: a tree's id may say who replied."""
    persona: Persona | None
    talk: tuple[Message, ...]
    """The conversation down to the message that is answered."""
    replies: tuple[str, ...]
    """The two replies in the order shown, or the one."""
    keys: Mapping[str, str]
    """Key -> what it says."""


class Beside(NamedTuple):
    """The labels of the person beside somebody else's."""

    agreement: "LabelAgreement"
    differing: tuple[Link, ...]
    """Messages of trees, of questions that a judge answered otherwise; some of them."""


@dataclass(frozen=True)
class LabelPage:
    """Everything the page shows."""

    who: str
    """Empty before anybody said so."""
    told: str
    """The instructions."""
    planned: int
    answered: int
    question: AskedQuestion | None
    """None where none is left, or nobody is there to answer."""
    undo: str | None
    """Token of the question whose answer can be taken back."""
    beside: tuple[Beside, ...]
    """Filled once everything is answered."""


def name_of(given: str) -> str:
    """A labeller's name without blanks around it; ConfigError for one that could not be told from another by eye."""
    name = " ".join(given.split())
    if shown(name) != name:
        raise ConfigError("The name holds characters that cannot be seen; type another one.")
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"The name has {len(name)} characters; at most {LONGEST_NAME} are kept.")
    return name


def token_of(question: LabelQuestion) -> str:
    """A name for the question that tells nothing of it."""
    return hashlib.sha256(question.id.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def label_page(store: Store, who: str, told: str | None, links: ServedLinks) -> LabelPage:
    """What `who` is to answer next, or how the answers compare once there is nothing left.

    `told`: the instructions; None: those that the labels of this file were given by, else the short ones that ship.
    """
    questions, labels = store.label_questions(), store.labels()
    mine = {label.key for label in labels if label.who == who}
    left = [question for question in questions if question.key not in mine]
    complete = bool(who and questions and not left)
    return LabelPage(
        who=who,
        told=told or newest_instructions(labels) or shipped_instructions(),
        planned=len(questions),
        answered=len(questions) - len(left),
        question=_asked(store, left[0], who) if who and left else None,
        undo=_before(questions, left, mine) if who else None,
        beside=_beside(store, who, links) if complete else (),
    )


def _before(
    questions: Sequence[LabelQuestion], left: Sequence[LabelQuestion], mine: Collection[tuple[str, str, str | None]]
) -> str | None:
    """The last question before the next one, in the order of the plan, that has an answer."""
    end = questions.index(left[0]) if left else len(questions)
    return next((token_of(question) for question in reversed(questions[:end]) if question.key in mine), None)


def _asked(store: Store, question: LabelQuestion, who: str) -> AskedQuestion:
    judged = store.judged_tree(question.tree)
    if judged is None:
        raise NotThereError("A planned question is about a tree that is not in this run any more; plan again.")
    tree = judged.tree
    return AskedQuestion(
        token=token_of(question),
        persona=persona_of(store, tree.persona),
        talk=tuple(tree.transcript(str(tree.node(question.a).parent))),
        replies=tuple(tree.node(node).text for node in order_shown(question, who)),
        keys=answers_to(question),
    )


def _beside(store: Store, who: str, links: ServedLinks) -> tuple[Beside, ...]:
    from interalign.eval.label_agreement import agreements

    return tuple(
        Beside(
            each,
            tuple(_link(store, tree, node, links._replace(judge=each.other)) for tree, node, _ in each.differing)[
                :_SHOWN
            ]
            if each.is_judge
            else (),
        )
        for each in agreements(store, who)
    )


def _link(store: Store, tree: str, node: str, links: ServedLinks) -> Link:
    judged = store.judged_tree(tree)
    assert judged is not None
    place = [each.id for each in judged.tree.nodes].index(node)
    return Link(f"{tree}, turn {judged.tree.node(node).turn}", links.node(tree, node, place))


def keep_answer(path: Path, form: Mapping[str, str], told: str | None) -> str:
    """Keep the answer that a form gives, or take one back (key `u`), in the run file; the name of who gave it.

    The file is opened for writing for just this. Raises LockedError while a run writes it, ConfigError for a form that
    cannot be meant: no name, a question that is not planned, a key that is no answer to it.
    """
    who, key = name_of(form.get("who", "")), form.get("key", "")
    if not who:
        raise ConfigError("Nobody's name came with the answer; type yours first.")
    with Store.open(path) as store:
        question = _question(store.label_questions(), form.get("question", ""))
        labels = store.labels()
    if key == "u":
        _take_back(path, [label for label in labels if (label.key, label.who) == (question.key, who)])
        return who
    if key not in answers_to(question):
        raise ConfigError(f"{key!r} is no answer to this question; it takes {', '.join(answers_to(question))}.")
    label = label_of(question, who, key, told or newest_instructions(labels) or shipped_instructions())
    with Store.create_or_open(path) as store:
        store.add_labels([label])
    return who


def _question(questions: Sequence[LabelQuestion], token: str) -> LabelQuestion:
    for question in questions:
        if token_of(question) == token:
            return question
    raise ConfigError("This question is not planned any more; the answer was not kept.")


def _take_back(path: Path, labels: Sequence[Label]) -> None:
    if labels:
        with Store.create_or_open(path) as store:
            for label in labels:
                store.remove_label(label)
