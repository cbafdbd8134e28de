"""A picture of a training: loss, margin, accuracy and what else was logged, by step."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from interalign.files import write_atomically

_PANELS: Final[Mapping[str, Sequence[str]]] = {
    "loss": ("loss",),
    "mean reward": ("reward",),
    "margin of chosen over rejected": ("rewards/margins", "margin"),
    "share ranked right": ("rewards/accuracies", "accuracy"),
    "share of tokens right": ("mean_token_accuracy",),
    "tokens of a reply": ("completions/mean_length",),
}
"""Title of a panel, and the names that TRL's trainers log the figure by."""


class LoggedFigure(NamedTuple):
    """One figure over the steps."""

    title: str
    steps: list[int]
    values: list[float]


def curves(log: Sequence[Mapping[str, Any]]) -> Iterator[LoggedFigure]:
    """Every known figure that was logged at two steps or more; what is no number is left out."""
    for title, names in _PANELS.items():
        name = next((name for name in names if any(name in entry for entry in log)), None)
        found = [(entry["step"], entry[name]) for entry in log if name is not None and _is_number(entry.get(name))]
        if len(found) > 1:
            yield LoggedFigure(title, [step for step, _ in found], [float(value) for _, value in found])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def write_picture(log: Sequence[Mapping[str, Any]], out: Path) -> bool:
    """Write the curves of a log as SVG; False, and no file, if too little was logged."""
    found = list(curves(log))
    if found:
        write_atomically(out, [_svg(found)])
    return bool(found)


def _svg(found: Sequence[LoggedFigure]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        # The same log gives the same bytes: a reader's own matplotlibrc left out, ids from a salt, no date.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "interalign", "font.size": 9})
        figure = Figure(figsize=(7, 1.9 * len(found)), layout="constrained")
        for place, curve in enumerate(found):
            axes = figure.add_subplot(len(found), 1, place + 1)
            axes.plot(curve.steps, curve.values, linewidth=1.2)
            axes.set_title(curve.title, loc="left", fontsize=9)
            axes.grid(alpha=0.3)
        axes.set_xlabel("optimisation step")
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()
