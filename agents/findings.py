"""What an audit of a simulated user finds, and how it is stored: by rules on words, or by a judge."""

from collections.abc import Iterable, Mapping
from typing import Final, cast

from pydantic import JsonValue

from interalign.agents.audit import ANSWERS, COPIES, ENDS, REFUSES, REPEATS, THIRD_PERSON
from interalign.records import AUDITED, FINDING
from interalign.tree import Annotation, Frozen, JudgedTree, Node, Tree

RULES: Final = "rules"
CONTRADICTS, RECITES, STALLS, DRIFTS = (
    "contradicts the persona",
    "recites the profile",
    "stalls",
    "drifts from the persona's style",
)
KINDS: Final = (CONTRADICTS, RECITES, ANSWERS, THIRD_PERSON, REFUSES, COPIES, REPEATS, ENDS, STALLS, DRIFTS)
"""All kinds of findings, in the order in which they are shown."""


class Finding(Frozen):
    """One thing that is wrong with a user's message."""

    node: str
    turn: int
    kind: str
    """One of KINDS."""
    evidence: str
    """The words that show it, of this message or of the one that it repeats; a judge's reasons."""


def as_annotations(tree: Tree, findings: Iterable[Finding], by: str) -> list[Annotation]:
    """The findings as they are stored: one annotation a message, and one that says that the tree was audited."""
    by_node: dict[str, list[dict[str, str]]] = {}
    for one in findings:
        by_node.setdefault(one.node, []).append({"kind": one.kind, "evidence": one.evidence})
    return [
        *(Annotation(node=node.id, name=AUDITED, by=by, value=True) for node in tree.nodes[:1]),
        *(Annotation(node=node, name=FINDING, by=by, value=cast(JsonValue, found)) for node, found in by_node.items()),
    ]


def stored_findings(judged: JudgedTree) -> dict[str, list[Finding]]:
    """What an audit stored about a tree, by who found it: `rules` or a judge's name."""
    by_author: dict[str, list[Finding]] = {note.by: [] for note in judged.annotations if note.name == AUDITED}
    for note in judged.annotations:
        if note.name == FINDING and isinstance(note.value, list):
            turn = judged.tree.node(note.node).turn
            values = [value for value in note.value if isinstance(value, Mapping)]
            by_author.setdefault(note.by, []).extend(
                Finding(node=note.node, turn=turn, kind=str(each["kind"]), evidence=str(each["evidence"]))
                for each in values
            )
    return by_author


_OF_A_JUDGE: Final = {
    "contradiction": CONTRADICTS,
    "recital": RECITES,
    "assistant": ANSWERS,
    "stall": STALLS,
    "style": DRIFTS,
}


def judged_findings(node: Node, words: Iterable[str], reply: str) -> list[Finding]:
    """What a judge said is wrong with a message, its words as evidence."""
    return [Finding(node=node.id, turn=node.turn, kind=_OF_A_JUDGE[word], evidence=reply) for word in words]
