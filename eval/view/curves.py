"""Curves over turns as SVG that needs no library: the template draws what is worked out here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Interval = tuple[float, float]
WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 44, 150, 12, 30
SERIES = 7
"""Colours of the style sheet; further curves begin again at the first."""


class Line(NamedTuple):
    """One curve to draw: its values at turns 1..K, None where there is none, and their intervals."""

    name: str
    values: Sequence[float | None]
    band: Sequence[Interval | None]
    n: Sequence[int]


class Point(NamedTuple):
    """A value, in pixels; a link to the conversations behind it."""

    x: float
    y: float
    title: str
    href: str


@dataclass(frozen=True)
class Curve:
    """One curve, in pixels."""

    name: str
    series: int
    path: str
    band: str
    points: tuple[Point, ...]
    label: float
    """Where its name stands, behind its end."""


@dataclass(frozen=True)
class Chart:
    """Everything the template draws."""

    curves: tuple[Curve, ...]
    rows: tuple[tuple[float, str], ...]
    """Height and text of each level that is marked."""
    columns: tuple[tuple[float, int], ...]
    """Place and number of each turn."""
    what: str
    """What the values are."""
    width: int = WIDTH
    height: int = HEIGHT
    right: int = WIDTH - RIGHT
    left: int = LEFT


def draw_curves(
    lines: Sequence[Line], what: str, levels: Sequence[float], href: Callable[[str, int], str]
) -> Chart | None:
    """The chart of these curves between the first and the last of `levels`; None without any value.

    `href`: where a point of the curve of this name at this turn leads to.
    """
    turns = max((len(line.values) for line in lines), default=0)
    if not any(value is not None for line in lines for value in line.values):
        return None
    at = _Scale(turns, levels[0], levels[-1])
    ends = [next((at.y(value) for value in reversed(line.values) if value is not None), 0.0) for line in lines]
    curves = zip(lines, range(len(lines)), _apart(ends), strict=True)
    return Chart(
        curves=tuple(_curve(line, number % SERIES, label, at, href) for line, number, label in curves),
        rows=tuple((at.y(level), f"{level:g}") for level in levels),
        columns=tuple((at.x(turn), turn) for turn in range(1, turns + 1)),
        what=what,
    )


class _Scale(NamedTuple):
    """From turns and values to pixels."""

    turns: int
    low: float
    high: float

    def x(self, turn: int) -> float:
        return LEFT + 14 + (WIDTH - LEFT - RIGHT - 28) * (turn - 1) / max(self.turns - 1, 1)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (self.high - value) / (self.high - self.low)


def _curve(line: Line, series: int, label: float, at: _Scale, href: Callable[[str, int], str]) -> Curve:
    places = [None if value is None else (at.x(k), at.y(value)) for k, value in enumerate(line.values, 1)]
    bands = [None if ends is None else (at.x(k), at.y(ends[0]), at.y(ends[1])) for k, ends in enumerate(line.band, 1)]
    points = [
        Point(at.x(k), at.y(value), _title(line, k, value), href(line.name, k))
        for k, value in enumerate(line.values, 1)
        if value is not None
    ]
    return Curve(line.name, series, _path(places), _band(bands), tuple(points), label)


def _title(line: Line, turn: int, value: float) -> str:
    ends = line.band[turn - 1] if turn <= len(line.band) else None
    said = "" if ends is None else f", interval {ends[0]:.2f} to {ends[1]:.2f}"
    return f"{line.name}, turn {turn}: {value:.2f}{said}, n {line.n[turn - 1]}"


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    steps, down = [], False
    for point in points:
        if point is not None:
            steps.append(f"{'L' if down else 'M'}{point[0]:.1f} {point[1]:.1f}")
        down = point is not None
    return "".join(steps)


def _band(ends: Sequence[tuple[float, float, float] | None]) -> str:
    """The outline of the intervals: forth along the upper ends, back along the lower ones, gap by gap."""
    outlines, part = [], list[tuple[float, float, float]]()
    for end in [*ends, None]:
        if end is not None:
            part.append(end)
        elif part:
            there = [f"{x:.1f} {high:.1f}" for x, _, high in part]
            back = [f"{x:.1f} {low:.1f}" for x, low, _ in reversed(part)]
            outlines.append(f"M{'L'.join([*there, *back])}Z")
            part = []
    return "".join(outlines)


def _apart(heights: Sequence[float], gap: float = 15) -> list[float]:
    """The same heights, moved down where one would stand on another."""
    placed, last = dict[int, float](), -gap
    for index in sorted(range(len(heights)), key=lambda each: heights[each]):
        last = placed[index] = max(heights[index], last + gap)
    return [placed[index] for index in range(len(heights))]
