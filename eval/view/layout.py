"""Tidy tree layout by the contour method (Reingold and Tilford): one column a message."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Placed(Protocol):
    """What the layout needs of a node."""

    @property
    def id(self) -> str:
        """Unique in the tree."""
        ...

    @property
    def parent(self) -> str | None:
        """Id of the node before it; None for the root."""
        ...


class _Outline:
    """The upper and lower edge of a subtree, column by column, deepest column first: a parent is appended for free."""

    def __init__(self) -> None:
        self.tops: list[float] = [0.0]
        self.bottoms: list[float] = [0.0]
        self.shift = 0.0
        """Added to every stored edge, so that moving a subtree touches nothing of it."""

    def distance_below(self, other: "_Outline") -> float:
        """How far down `other` must move to be one row below this one in every column they share."""
        shared = range(1, min(len(self.tops), len(other.tops)) + 1)
        return max(self.bottoms[-d] + self.shift - other.tops[-d] - other.shift for d in shared) + 1

    def joined(self, lower: "_Outline") -> "_Outline":
        """The outline of both; the longer one is kept and corrected where they share columns."""
        shared = range(1, min(len(self.tops), len(lower.tops)) + 1)
        if len(lower.tops) > len(self.tops):
            for d in shared:
                lower.tops[-d] = self.tops[-d] + self.shift - lower.shift
            return lower
        for d in shared:
            self.bottoms[-d] = lower.bottoms[-d] + lower.shift - self.shift
        return self

    def under(self) -> "_Outline":
        """The outline with a parent at height 0 in front."""
        self.tops.append(-self.shift)
        self.bottoms.append(-self.shift)
        return self


def rows(nodes: Sequence[Placed]) -> dict[str, float]:
    """Node id -> its row (0 is the top one; halves and quarters occur). `nodes`: every parent before its children.

    A parent stands in the middle of its children, siblings keep their order, and no two nodes of one column come
    closer than one row (the contour method for tidy trees). Time and space are linear in the number of nodes.
    """
    children: dict[str | None, list[Placed]] = {}
    for node in nodes:
        children.setdefault(node.parent, []).append(node)
    outlines: dict[str, _Outline] = {}
    offsets: dict[str, float] = {}
    for node in reversed(nodes):
        outlines[node.id] = _stacked(
            [(child.id, outlines.pop(child.id)) for child in children.get(node.id, [])], offsets
        )
    return _from_top(nodes, offsets)


def _stacked(subtrees: Sequence[tuple[str, _Outline]], offsets: dict[str, float]) -> _Outline:
    """The outline of a node with these subtrees below each other; notes each child's offset from the node."""
    if not subtrees:
        return _Outline()
    whole: _Outline | None = None
    for child, outline in subtrees:
        offsets[child] = 0.0 if whole is None else whole.distance_below(outline)
        outline.shift += offsets[child]
        whole = outline if whole is None else whole.joined(outline)
    assert whole is not None
    middle = (offsets[subtrees[0][0]] + offsets[subtrees[-1][0]]) / 2
    for child, _ in subtrees:
        offsets[child] -= middle
    whole.shift -= middle
    return whole.under()


def _from_top(nodes: Sequence[Placed], offsets: Mapping[str, float]) -> dict[str, float]:
    heights: dict[str, float] = {}
    for node in nodes:
        heights[node.id] = heights.get(node.parent or "", 0.0) + offsets.get(node.id, 0.0)
    top = min(heights.values())
    return {node: height - top for node, height in heights.items()}
