"""A tree as a picture: positions, marks and links of its nodes. The template draws it as SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from interalign.eval.view.layout import rows
from interalign.eval.view.links import Links
from interalign.eval.view.marks import Kind, Mark
from interalign.tree import Node, Tree

WHOLE = 60
"""Leaves up to which a tree is drawn whole; of a larger one, the selected path and its siblings."""
COLUMN, TO_REPLY, ROW = 92, 46, 34
"""Pixels from turn to turn, from a user message to its replies, from row to row."""
LEFT, TOP, RIGHT, BOTTOM = 26, 46, 60, 22
"""Pixels around the nodes; the numbers of the turns stand in the upper margin."""
_TITLE = 140


@dataclass(frozen=True)
class DrawnNode:
    """One node of the picture, in pixels."""

    x: float
    y: float
    role: Literal["user", "assistant"]
    kind: Kind | None
    """How the judge saw it; None for a user message."""
    figure: str
    """Score or net wins; empty where a sign says enough."""
    hinted: bool
    on_path: bool
    selected: bool
    href: str
    title: str
    hidden: int
    """Replies below it that are not drawn."""


@dataclass(frozen=True)
class Edge:
    """A line from a message to an answer, in pixels."""

    x: float
    y: float
    to_x: float
    to_y: float
    on_path: bool


@dataclass(frozen=True)
class Picture:
    """Everything the template draws."""

    width: int
    height: int
    columns: tuple[tuple[int, float], ...]
    """Number and left edge of every turn."""
    edges: tuple[Edge, ...]
    nodes: tuple[DrawnNode, ...]
    hidden: int
    """Nodes of the tree that are not drawn."""

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """The marks that occur, each with its meaning."""
        kinds = {node.kind or "user" for node in self.nodes}
        paired = kinds & {"chosen", "rejected", "tie"}
        names = {
            "user": "user",
            "chosen": "chosen",
            "rejected": "rejected",
            "tie": "tie",
            "missing": "missing",
            "unpaired": "in no pair" if paired or not self.scored else "reply",
            "unjudged": "not judged",
        }
        return tuple((kind, name) for kind, name in names.items() if kind in kinds)

    @property
    def scored(self) -> bool:
        """The numbers in the picture are scores; otherwise, if there are any, comparisons won minus lost."""
        return any(node.figure.isdecimal() and node.figure != "0" for node in self.nodes)

    @property
    def figured(self) -> bool:
        """There are numbers in the picture."""
        return any(node.figure for node in self.nodes)

    @property
    def hinted(self) -> bool:
        """Some reply saw the inducer's notes."""
        return any(node.hinted for node in self.nodes)


def draw(
    tree: Tree,
    path: Sequence[Node],
    selected: str | None,
    marks: Mapping[str, Mark],
    links: Links,
    *,
    whole: int = WHOLE,
) -> Picture:
    """The picture of a tree with this path through it highlighted; drawn whole up to `whole` leaves."""
    ordered = in_order(tree.nodes)
    kept = ordered if len(tree.leaves()) <= whole else _near(tree, ordered, path)
    row_of = rows(kept)
    on_path = {node.id for node in path}
    at = {node.id: (_x(node), TOP + ROW * row_of[node.id]) for node in kept}
    hidden = _hidden(ordered, {node.id for node in kept})
    numbers = {node.id: number for number, node in enumerate(tree.nodes)}
    turns = max(node.turn for node in kept)
    return Picture(
        width=LEFT + COLUMN * (turns - 1) + TO_REPLY + RIGHT,
        height=round(TOP + ROW * max(row_of.values()) + BOTTOM),
        columns=tuple((turn, LEFT / 2 + COLUMN * (turn - 1)) for turn in range(1, turns + 1)),
        edges=tuple(
            Edge(*at[node.parent], *at[node.id], on_path=node.id in on_path) for node in kept if node.parent is not None
        ),
        nodes=tuple(
            DrawnNode(
                *at[node.id],
                role=node.role,
                kind=None if node.role == "user" else marks[node.id].kind,
                figure="" if node.role == "user" else marks[node.id].figure,
                hinted=node.hinted,
                on_path=node.id in on_path,
                selected=node.id == selected,
                href=links.node(tree.id, node.id, numbers[node.id]),
                title=_title(node, marks.get(node.id)),
                hidden=hidden[node.id],
            )
            for node in kept
        ),
        hidden=len(tree.nodes) - len(kept),
    )


def in_order(nodes: Sequence[Node]) -> list[Node]:
    """Every message before its answers; siblings in stored order."""
    return sorted(nodes, key=lambda node: (node.turn, node.role == "assistant"))


def _x(node: Node) -> float:
    return LEFT + COLUMN * (node.turn - 1) + (TO_REPLY if node.role == "assistant" else 0)


def _near(tree: Tree, ordered: Sequence[Node], path: Sequence[Node]) -> list[Node]:
    """The path and the siblings of its nodes."""
    near = {sibling.id for node in path for sibling in tree.siblings(node.id)}
    return [node for node in ordered if node.id in near]


def _hidden(ordered: Sequence[Node], kept: set[str]) -> dict[str, int]:
    """Node id -> replies below it, if none of them is drawn."""
    below: dict[str | None, int] = dict.fromkeys((node.id for node in ordered), 0)
    drawn_below = {node.parent for node in ordered if node.id in kept}
    for node in reversed(ordered):
        below[node.parent] = below.get(node.parent, 0) + below[node.id] + (node.role == "assistant")
    return {node.id: 0 if node.id in drawn_below else below[node.id] for node in ordered}


def _title(node: Node, mark: Mark | None) -> str:
    said = [] if mark is None else [mark.label, "" if mark.score is None else f"score {mark.score:.3g}"]
    head = ", ".join(part for part in (f"Turn {node.turn}", node.label, *said) if part)
    text = node.text if len(node.text) <= _TITLE else node.text[: _TITLE - 1] + "\u2026"
    return f"{head}: {text}"
