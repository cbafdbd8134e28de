"""The live display of a run or a training on a terminal, and what may be written to a terminal at all."""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from interalign.cli.throughput import Pace, StepPace
from interalign.signals import INTERRUPTED

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_NAMED: Final = 20
"""Failed trees that are named one by one; those after them are counted."""

_LONGEST = 500
"""Characters of an event line: a server's page of HTML is no event."""
_NARROW = 76
"""Columns under which the bar has a line of its own."""


def one_line(text: str, longest: int = _LONGEST) -> str:
    """Text of a model or a server for a terminal: one line, cut, and nothing in it that steers the screen."""
    cut = text if len(text) <= longest else f"{text[:longest]} ..."
    spaced = " ".join(cut.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in spaced)


def is_terminal(stream: TextIO | None) -> bool:
    """True for a stream that somebody looks at; a closed one is none."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


class Unfailing:
    """A stream whose reader may have gone: what cannot be written is lost, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write and flush."""
        with suppress(OSError, ValueError):  # ValueError: closed
            self._stream.write(text)
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Nothing is ever held back."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Screen:
    """A live display with event lines above it. All of it is called by one thread.

    `lines` says what is shown in that many columns, None as long as nothing began; then nothing is left on the screen.
    """

    def __init__(self, stream: Unfailing, what: str, lines: Callable[[int], "RenderableType | None"]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=cast(TextIO, stream), highlight=False)
        self._what = what
        self._lines = lines
        self._failed = 0
        # Standard output is drawn around only where it is a terminal; a file must get what is written to it.
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            auto_refresh=False,
            redirect_stdout=is_terminal(sys.stdout),
        )
        self._live.start()

    def warn(self, message: str) -> None:
        """Put a line above the display."""
        self.say(message, "yellow")

    def fail(self, tree: str, reason: str) -> None:
        """Put a failed tree above the display, unless there are too many of them."""
        self._failed += 1
        if self._failed <= MOST_NAMED:
            self.say(f"failed: {tree}: {reason}", "red")

    def stop(self, reason: str) -> None:
        """Say above the display that the run stops. (Who interrupted it was told so by the signal.)"""
        if reason != INTERRUPTED:
            self.say("stopping: calls in flight get 10 s to finish", "yellow")

    def draw(self, *, last: bool) -> None:
        """Draw how things stand; the last time, leave it there."""
        if not last:
            self._live.refresh()
            return
        if self._failed > MOST_NAMED:
            self.say(f"failed: {self._failed - MOST_NAMED:,} more", "red")
        self._live.transient = self._lines(self._console.width) is None
        self._live.stop()

    def say(self, line: str, style: str = "") -> None:
        """Put a line above the display."""
        from rich.text import Text

        self._console.print(Text(one_line(line), style=style))

    def _render(self) -> "RenderableType":
        lines = self._lines(self._console.width)
        return f"{self._what}: starting" if lines is None else lines


def run_lines(what: str, pace: Pace, width: int) -> "RenderableType | None":
    """A run in two lines of 80 columns, or in more and narrower ones."""
    from rich.console import Group
    from rich.text import Text

    run = pace.run
    if run is None:
        return None
    ended = Text(f"{run.done:,}/{run.trees:,}")
    if run.failed:
        ended.append(f"  {len(run.failed):,} failed", style="bold red")
    tokens = sum(use.prompt_tokens + use.completion_tokens for use in run.usage.values())
    facts = [f"{pace.calls_per_s():,.1f} calls/s", f"{run.in_flight:,} in flight", f"{run.retried:,} retries"]
    facts += [f"{_short(tokens)} tokens", *([] if run.usd is None else [_dollars(run.usd)])]
    facts += [run.note] if run.note else []
    share = (run.done + len(run.failed) + run.under_way) / max(1, run.trees)
    return Group(_bar(what, share, ended, _times(pace.elapsed(), pace.eta()), width), Text("  ".join(facts)))


def training_line(pace: StepPace, width: int) -> "RenderableType | None":
    """A training in one line, or in several narrow ones."""
    from rich.text import Text

    if pace.total == 0:
        return None
    counted = Text(f"{pace.done:,}/{pace.total:,}" + ("" if pace.loss is None else f"  loss {pace.loss:.4f}"))
    return _bar("steps", pace.done / pace.total, counted, _times(pace.elapsed(), pace.eta()), width)


def training_text(pace: StepPace) -> str:
    """A training in one line of plain text; empty before its first step."""
    if pace.total == 0:
        return ""
    loss = "" if pace.loss is None else f", loss {pace.loss:.4f}"
    eta = "" if (left := pace.eta()) is None else f", ETA {_hours(left)}"
    return f"step {pace.done:,} of {pace.total:,}{loss}, {_hours(pace.elapsed())}{eta}"


def _bar(what: str, share: float, counted: "RenderableType", times: str, width: int) -> "RenderableType":
    """`what ------ counted times`, or these below each other."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    cells = (what, ProgressBar(total=1.0, completed=share), counted, times)
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
    if width < _NARROW:
        for cell in cells:
            grid.add_row(cell)
        return grid
    for ratio in (None, 1, None, None):
        grid.add_column(no_wrap=True, ratio=ratio)
    grid.add_row(*cells)
    return grid


def _times(elapsed: float, eta: float | None) -> str:
    return f"{_hours(elapsed)}  ETA {'-' if eta is None else _hours(eta)}"


def _hours(seconds: float) -> str:
    """3661.9 -> 1:01:01."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _short(number: int) -> str:
    """1234567 -> 1.2M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def _dollars(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"
