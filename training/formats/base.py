"""What an export format is, and the pieces of a row that several share.

Every message of a row for the candidate comes from `transcript`: the run's system message, what the user and the
candidates said, and nothing else: hints, notes, personas and judges' answers have no way in.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from interalign.agents.templates import PromptSet
from interalign.personas import Persona
from interalign.preferences import PairMode
from interalign.tree import JudgedTree, Node, Tree

Row = dict[str, Any]
"""One line of an exported file: JSON values only."""


class UserSeat(NamedTuple):
    """What the user agent of one conversation is asked with, beside the conversation itself."""

    persona: Persona
    prompts: PromptSet
    end_mark: str | None = None
    """What it writes to end the talk; None: it cannot."""
    copied: frozenset[str] = frozenset()
    """Ids of the messages that the tree has from the one it was branched off."""


Rows = Callable[[JudgedTree, PairMode], Iterator[Row]]
UserRows = Callable[[JudgedTree, UserSeat], Iterator[Row]]


@dataclass(frozen=True)
class ExportFormat:
    """A member of the open set."""

    name: str
    title: str
    """One line that says what a row is."""
    rows: Rows | None
    """The rows of one tree, which holds what one judge said. The mode says how preferences become pairs.

    What is in the tree's `cut` must not be learnt; the judge says nothing of it, so no pair or ranking has it.
    """
    needs_judge: bool = True
    """False: rows are made of what was said alone."""
    shows_persona: bool = False
    """Whether rows hold the persona by design, as those that a user is trained on; they are not checked for it then."""
    user_rows: UserRows | None = None
    """In place of `rows`: those of a tree whose persona is known, made with what its user agent is asked with."""


def replies_cut(judged: JudgedTree) -> set[str]:
    """Ids of the assistant's messages that were cut at their length limit and are not to be learnt."""
    return {node for node in judged.cut if judged.tree.node(node).role == "assistant"}


def place(tree: Tree, node: Node) -> Row:
    """Where a row comes from: tree, node and turn."""
    return {"tree": tree.id, "node": node.id, "turn": node.turn}


def transcript(tree: Tree, node: Node) -> list[dict[str, str]]:
    """The conversation down to this node, as chat templates take it, after the run's system message."""
    system = [] if tree.system is None else [{"role": "system", "content": tree.system}]
    return system + [{"role": message.role, "content": message.content} for message in tree.transcript(node.id)]


def message(node: Node) -> dict[str, str]:
    """One node as a chat message."""
    return {"role": node.role, "content": node.text}
