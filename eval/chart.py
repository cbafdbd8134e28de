"""Curves over turns as one inline SVG whose colours follow the page, so that it reads in light and in dark."""

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len

from interalign.eval.intervals import Interval
from interalign.eval.metrics import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES_COLOURS = 7
"""The page defines `--series-0` .. `--series-6`, `--ink`, `--soft` and `--grid`; further lines begin again at 0."""
# Colours that nothing else draws with, each replaced by a variable of the page: matplotlib itself knows hex only.
INK, SOFT, GRID, SERIES = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0c0{}"
MARKERS = "osD^vPX"
LABEL_CELLS = 17
"""Space for a label, in character cells (some characters are two wide)."""
LABEL_GAP = 0.055
"""Least distance of two labels, as a share of the height of the plot."""


class ChartLine(NamedTuple):
    """One curve to draw."""

    name: str
    values: Curve
    band: Sequence[Interval | None]
    """Interval at each turn; None draws none."""


class Axis(NamedTuple):
    """The vertical axis: what it shows, its ends and its ticks. `line` is a level to mark, such as chance."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    line: float | None = None


def curves_svg(lines: Sequence[ChartLine], axis: Axis) -> str:
    """An `<svg>` element of the curves over turns 1..K, labelled directly at their right ends.

    The same lines give the same bytes. Names are text in it, escaped, and drawn in the page's own font.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        # A reader's own matplotlibrc must not change the bytes.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "interalign", "svg.fonttype": "none", "font.size": 11})
        # The browser draws the text: glyphs that matplotlib's own font lacks do not matter.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        figure = Figure(figsize=(8.6, 4.4))
        axes = figure.add_axes((0.085, 0.125, 0.695, 0.84))
        _draw(axes, lines, axis)
        out = io.StringIO()
        figure.savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return _for_the_page(out.getvalue())


def _draw(axes: "Axes", lines: Sequence[ChartLine], axis: Axis) -> None:
    turns = max((len(line.values) for line in lines), default=1)
    _frame(axes, axis, turns)
    for number, line in enumerate(lines):
        _draw_line(axes, line, number)
    ends = [(number, *end) for number, line in enumerate(lines) if (end := _last(line.values)) is not None]
    heights = spread([value for _, _, value in ends], LABEL_GAP * (axis.high - axis.low), axis.low, axis.high)
    for (number, turn, value), height in zip(ends, heights, strict=True):
        edge = turns + 0.035 * max(turns - 1, 1)
        colour = _colour(number)
        axes.plot([turn, edge], [value, height], color=colour, linewidth=0.8, alpha=0.6, clip_on=False)
        axes.text(
            edge + 0.01 * max(turns - 1, 1),
            height,
            _short(lines[number].name),
            color=colour,
            va="center",
            weight="bold",
            parse_math=False,
        )


def _frame(axes: "Axes", axis: Axis, turns: int) -> None:
    from matplotlib.ticker import MaxNLocator

    pad = 0.02 * (axis.high - axis.low)
    axes.set(xlim=(1 - 0.03 * max(turns - 1, 1), turns + 0.03 * max(turns - 1, 1)), xlabel="turn k")
    axes.set(ylim=(axis.low - pad, axis.high + pad), yticks=axis.ticks, ylabel=axis.label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=11, integer=True, min_n_ticks=1))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT, length=0, labelcolor=SOFT)
    axes.xaxis.label.set_color(SOFT)
    axes.yaxis.label.set_color(SOFT)
    axes.yaxis.set_label_coords(-0.085, 0.5)
    for side, spine in axes.spines.items():
        spine.set(visible=side == "bottom", color=SOFT)
    if axis.line is not None:
        axes.axhline(axis.line, color=INK, linewidth=1, linestyle=(0, (2, 3)))


def _draw_line(axes: "Axes", line: ChartLine, number: int) -> None:
    turns = range(1, len(line.values) + 1)
    values = [math.nan if value is None else value for value in line.values]
    band = [(math.nan, math.nan) if ends is None else ends for ends in line.band]
    colour = _colour(number)
    marker = MARKERS[number % len(MARKERS)] if len(values) <= 30 else None
    low, high = [low for low, _ in band], [high for _, high in band]
    axes.fill_between(turns, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(turns, values, color=colour, linewidth=2, marker=marker, markersize=5, markeredgewidth=0)


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights near `values`, in their order, at least `gap` apart and, where there is space, within low..high."""
    order = sorted(range(len(values)), key=lambda index: (values[index], index))
    # Clusters of touching labels, each kept centred on the mean of its values: merged until none overlap.
    clusters: list[list[int]] = []
    for index in order:
        clusters.append([index])
        while len(clusters) > 1 and _overlap(clusters[-2], clusters[-1], values, gap, low, high):
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    placed = {
        index: height
        for cluster in clusters
        for index, height in zip(cluster, _heights(cluster, values, gap, low, high), strict=True)
    }
    return [placed[index] for index in range(len(values))]


def _overlap(
    below: Sequence[int], above: Sequence[int], values: Sequence[float], gap: float, low: float, high: float
) -> bool:
    top = max(_heights(below, values, gap, low, high))
    return min(_heights(above, values, gap, low, high)) - top < gap


def _heights(cluster: Sequence[int], values: Sequence[float], gap: float, low: float, high: float) -> Iterator[float]:
    half = gap * (len(cluster) - 1) / 2
    centre = sum(values[index] for index in cluster) / len(cluster)
    centre = max(low + half, min(high - half, centre))
    return (centre - half + gap * place for place in range(len(cluster)))


def _last(values: Curve) -> tuple[int, float] | None:
    defined = [(turn, value) for turn, value in enumerate(values, start=1) if value is not None]
    return defined[-1] if defined else None


def _colour(number: int) -> str:
    return SERIES.format(number % SERIES_COLOURS)


def _short(name: str) -> str:
    """The name without its middle where it is too long: names in one report often begin alike."""
    kept, short = len(name), name
    while cell_len(short) > LABEL_CELLS:
        kept -= 1
        short = f"{name[: kept - kept // 2]}…{name[len(name) - kept // 2 :]}"
    return short


def _for_the_page(svg: str) -> str:
    """The bare element: no prolog and no namespaces (HTML knows them), its colours taken from the page's variables."""
    element = svg[svg.index("<svg") :]
    head, rest = element.split(">", 1)
    head = re.sub(r' (?:xmlns(?::xlink)?|width|height|version)="[^"]*"', "", head)
    for name, colour in {"ink": INK, "soft": SOFT, "grid": GRID}.items():
        rest = rest.replace(colour, f"var(--{name})")
    for number in range(SERIES_COLOURS):
        rest = rest.replace(SERIES.format(number), f"var(--series-{number})")
    return f"{head}>{rest}"
