"""A map of a persona pool: items that share rare words lie close together. The template draws it as SVG.

Principal components of TF-IDF vectors, found from the items' cosines (classical scaling).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from interalign.nearest_text import cosines_by_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST: Final = 500
"""Items that are drawn; of a larger pool every so many."""
WIDTH: Final = 640
HEIGHT: Final = 400
MARGIN: Final = 18
_FEWEST: Final = 3
"""Items that make a map."""
_TITLE: Final = 80
"""Characters of an item's text."""


class MapItem(NamedTuple):
    """What is known of an item."""

    text: str
    kind: str
    """`profile` or `personality`: items of one kind are compared with each other."""
    kept: bool
    nearest: str
    """The text of the item that it was too much like; empty if it was not."""
    href: str


@dataclass(frozen=True)
class MapPoint:
    """One item, in pixels."""

    x: float
    y: float
    kept: bool
    title: str
    href: str


@dataclass(frozen=True)
class PoolMap:
    """The items of one kind."""

    kind: str
    points: tuple[MapPoint, ...]
    lines: tuple[tuple[float, float, float, float], ...]
    """From each near-duplicate to the item that it is too much like, if both are drawn."""
    total: int
    """Items of this kind in the pool."""
    share: float
    """How much of the differences between the drawn items the two directions hold, 0 to 1."""
    width: int = WIDTH
    height: int = HEIGHT


def draw_maps(items: Sequence[MapItem]) -> tuple[PoolMap, ...]:
    """A map of each kind with three items or more that are not all the same, at most `MOST` items in all."""
    step = -(-len(items) // MOST) or 1
    kinds = {item.kind: [each for each in items if each.kind == item.kind] for item in items}
    drawn = (_draw(kind, members, members[::step]) for kind, members in kinds.items())
    return tuple(one for one in drawn if one is not None)


def _draw(kind: str, members: Sequence[MapItem], drawn: Sequence[MapItem]) -> PoolMap | None:
    placed = positions(tuple(item.text for item in drawn)) if len(drawn) >= _FEWEST else None
    if placed is None:
        return None
    points = tuple(
        MapPoint(x, y, item.kept, _title(item), item.href) for (x, y), item in zip(placed.at, drawn, strict=True)
    )
    by_text = {item.text: point for item, point in reversed([*zip(drawn, points, strict=True)])}
    pairs = [(point, by_text.get(item.nearest)) for item, point in zip(drawn, points, strict=True) if item.nearest]
    lines = tuple((one.x, one.y, other.x, other.y) for one, other in pairs if other is not None and one is not other)
    return PoolMap(kind, points, lines, len(members), placed.share)


def _title(item: MapItem) -> str:
    text = item.text if len(item.text) <= _TITLE else item.text[: _TITLE - 1] + "\u2026"
    return f"{'kept' if item.kept else 'dropped'}: {text}"


class Positions(NamedTuple):
    """Where texts lie, in pixels."""

    at: tuple[tuple[float, float], ...]
    share: float


@lru_cache(4)
def positions(texts: tuple[str, ...]) -> Positions | None:
    """Where these texts lie; None if they are all the same, or have no words."""
    import numpy as np

    cosines = cosines_by_words(texts)
    centred = cosines - cosines.mean(axis=0) - cosines.mean(axis=1)[:, None] + cosines.mean()
    values, vectors = np.linalg.eigh(centred)
    whole = float(centred.trace())
    if whole < 1e-6:
        return None
    axes = [_axis(vectors[:, -place], float(values[-place])) for place in (1, 2)]
    x, y = _scaled(axes[0], WIDTH), _scaled(axes[1], HEIGHT)
    return Positions(tuple(zip(x, y, strict=True)), float(values[-2:].clip(0).sum()) / whole)


def _axis(vector: "NDArray[Any]", value: float) -> "NDArray[Any]":
    """Coordinates along a direction, pointing the same way every time."""
    import numpy as np

    sign = 1.0 if vector[np.abs(vector).argmax()] > 0 else -1.0
    return vector * sign * math.sqrt(max(value, 0.0))


def _scaled(axis: "NDArray[Any]", size: int) -> list[float]:
    low, high = _ends(axis)
    spread = high - low or 1.0
    within = axis.clip(low, high)
    return [round(MARGIN + (size - 2 * MARGIN) * (float(each) - low) / spread, 1) for each in within]


def _ends(axis: "NDArray[Any]") -> tuple[float, float]:
    """What the picture shows of an axis: all, but for what lies further than three interquartile ranges outside.

    Tukey's outer fences. One item unlike all others would squeeze the rest into a strip; it lies at the edge.
    """
    import numpy as np

    low, high = float(axis.min()), float(axis.max())
    lower, upper = (float(each) for each in np.percentile(axis, (25, 75)))
    fence = 3 * (upper - lower)
    return (max(low, lower - fence), min(high, upper + fence)) if fence else (low, high)
