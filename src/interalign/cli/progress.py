"""What is seen of a run while it goes on, on standard error: a live display, event lines only, or JSON lines.

A thread of its own writes. A screen that waits (a paused terminal, a full pipe) or is gone never makes the run wait.
"""

import json
import logging
import shlex
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

from interalign.cli.live_display import (
    Screen,
    Unfailing,
    is_terminal,
    one_line,
    run_lines,
    training_line,
    training_text,
)
from interalign.cli.throughput import Pace, StepPace

if TYPE_CHECKING:
    from interalign.records import RunSummary

JSON_EVERY: Final = 5.0
"""Seconds between two lines of progress for machines."""
LINE_EVERY: Final = 10.0
"""Seconds between two lines of a training where there is no terminal."""
LONG: Final = 20.0
"""Seconds after which a run where there is no terminal is said to be seen in the viewer: a short one just ends."""

_TICK = 0.25
"""Seconds between two looks at what is to be written."""
_LOGGER = "interalign"


def view_command(run: Path) -> str:
    """What shows this run file."""
    return f"interalign view {shlex.quote(str(run))}"


@contextmanager
def shown(what: str, *, log_json: bool = False, run: Path | None = None) -> Iterator[Callable[["RunSummary"], None]]:
    """Show a run on standard error; what is yielded is to be told, from one thread, how the run stands.

    `what` is counted: `trees` or `conversations`. On a terminal a live display; elsewhere only event lines; with
    `log_json` JSON lines (docs/running.md). Events are the warnings of the logger `interalign`, and the failed trees
    where `names_failed` says so. `run`: the run file, whose viewer is named once it grows, to people.
    """
    pace, stream = Pace(), sys.stderr
    hint = "" if run is None else f"`{view_command(run)}` shows it as it grows"
    form: _Form
    if log_json:
        form = _Json(pace, Unfailing(stream))
    elif is_terminal(stream):
        form = RunScreen(Unfailing(stream), what, pace, hint)
    else:
        form = RunLines(pace, Unfailing(stream), hint)
    with _written(form, pace.newly_failed, pace.stopping) as warn, _warnings_go_to(warn, stream):
        yield pace.note


def names_failed(*, log_json: bool = False) -> bool:
    """True where `shown` names the trees as they fail, so that nobody has to name them again at the end."""
    return log_json or is_terminal(sys.stderr)


@contextmanager
def shown_training() -> Iterator[Callable[[int, int, float | None], None]]:
    """Show a training on standard error: as one bar, or line by line (`TrainingLines`) where that is no terminal.

    What is yielded is to be told after every step: steps done, steps in all, the last loss (None before the first).
    """
    pace, stream = StepPace(), Unfailing(sys.stderr)
    screen = is_terminal(sys.stderr)
    form: _Form = Screen(stream, "training", partial(training_line, pace)) if screen else TrainingLines(pace, stream)
    with _written(form, dict):
        yield pace.note


def json_line(event: str, **fields: Any) -> str:
    """One line for machines: the UTC time, the event, its fields. Valid JSON whatever the texts hold; no line end."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    whole = {name: _whole(value) if isinstance(value, str) else value for name, value in fields.items()}
    return json.dumps({"time": now, "event": event, **whole})


def _whole(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which strict readers of JSON refuse."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class _Form(Protocol):
    """One way of showing a run. All of it is called by one thread."""

    def warn(self, message: str) -> None: ...

    def fail(self, tree: str, reason: str) -> None: ...

    def stop(self, reason: str) -> None: ...

    def draw(self, *, last: bool) -> None: ...


class _Plain:
    """Event lines only; the command names the failed trees at its end."""

    def __init__(self, stream: Unfailing) -> None:
        self._stream = stream

    def warn(self, message: str) -> None:
        self._stream.write(f"{one_line(message)}\n")

    def fail(self, tree: str, reason: str) -> None:
        pass

    def stop(self, reason: str) -> None:
        pass

    def draw(self, *, last: bool) -> None:
        pass


class RunLines(_Plain):
    """Event lines, and the hint once the run has lasted for LONG."""

    def __init__(self, pace: Pace, stream: Unfailing, hint: str) -> None:
        super().__init__(stream)
        self._pace = pace
        self._hint = hint

    def draw(self, *, last: bool) -> None:
        """Give the hint if it is due."""
        if self._hint and not last and self._pace.run is not None and self._pace.elapsed() >= LONG:
            self.warn(self._hint)
            self._hint = ""


class RunScreen(Screen):
    """The live display of a run, with the hint above it as soon as the run has begun."""

    def __init__(self, stream: Unfailing, what: str, pace: Pace, hint: str) -> None:
        super().__init__(stream, what, partial(run_lines, what, pace))
        self._pace = pace
        self._hint = hint

    def draw(self, *, last: bool) -> None:
        """Give the hint if it is due, and draw how things stand."""
        if self._hint and not last and self._pace.run is not None:
            self.say(self._hint)
            self._hint = ""
        super().draw(last=last)


class TrainingLines(_Plain):
    """A line at the first step that is seen, then one every LINE_EVERY seconds, and one at the end."""

    def __init__(self, pace: StepPace, stream: Unfailing) -> None:
        super().__init__(stream)
        self._pace = pace
        self._due = 0.0
        self._told = 0

    def draw(self, *, last: bool) -> None:
        """Write a line if there is a new step and one is due."""
        if self._pace.done != self._told and (last or self._pace.elapsed() >= self._due):
            self._due, self._told = self._pace.elapsed() + LINE_EVERY, self._pace.done
            self.warn(training_text(self._pace))


class _Json:
    """JSON lines, for machines."""

    def __init__(self, pace: Pace, stream: Unfailing) -> None:
        self._pace = pace
        self._stream = stream
        self._due = 0.0

    def warn(self, message: str) -> None:
        self._write("warning", message=message)

    def fail(self, tree: str, reason: str) -> None:
        self._write("failed", tree=tree, reason=reason)

    def stop(self, reason: str) -> None:
        self._write("stopping", reason=reason)

    def draw(self, *, last: bool) -> None:
        if self._pace.run is not None and (last or self._pace.elapsed() >= self._due):
            self._due = self._pace.elapsed() + JSON_EVERY
            self._write("progress", **_figures(self._pace.run, self._pace))

    def _write(self, event: str, **fields: Any) -> None:
        self._stream.write(json_line(event, **fields) + "\n")


def _figures(run: "RunSummary", pace: Pace) -> dict[str, int | float | str | None]:
    eta = pace.eta()
    return {
        "trees": run.trees,
        "done": run.done,
        "failed": len(run.failed),
        "calls": run.calls,
        "replayed": run.replayed,
        "calls_per_s": round(pace.calls_per_s(), 2),
        "in_flight": run.in_flight,
        "retried": run.retried,
        "prompt_tokens": sum(use.prompt_tokens for use in run.usage.values()),
        "completion_tokens": sum(use.completion_tokens for use in run.usage.values()),
        "usd": run.usd,
        "eta_s": None if eta is None else round(eta, 1),
        **({"note": run.note} if run.note else {}),
    }


@contextmanager
def _written(
    form: _Form, failed: Callable[[], Mapping[str, str]], stopping: Callable[[], str | None] = lambda: None
) -> Iterator[Callable[[str], None]]:
    """Write events and draw, in a thread, until the block ends; yields what takes a warning.

    `failed` says which trees have failed so far, and why; `stopping` why the run stops, if it does.
    """
    warnings: deque[str] = deque(maxlen=1000)  # bounded, as the screen may wait for hours
    named: dict[str, str] = {}
    ended = threading.Event()
    told: list[str] = []

    def write(*, last: bool) -> None:
        while warnings:
            form.warn(warnings.popleft())
        if not told and (reason := stopping()) is not None:
            told.append(reason)
            form.stop(reason)
        for tree, reason in failed().items():
            if named.get(tree) != reason:
                named[tree] = reason
                form.fail(tree, reason)
        form.draw(last=last)

    def write_until_ended() -> None:
        while not ended.wait(_TICK):
            write(last=False)
        write(last=True)

    writer = threading.Thread(target=write_until_ended, name="interalign-progress", daemon=True)
    writer.start()
    try:
        yield warnings.append
    finally:
        ended.set()
        writer.join()


class _Warnings(logging.Handler):
    """Hands on the messages of warnings and worse."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Hand its message on."""
        try:
            self._tell(record.getMessage())
        except Exception:  # noqa: BLE001  (as every handler does: a wrong message is no reason to end a run)
            self.handleError(record)


@contextmanager
def _warnings_go_to(tell: Callable[[str], None], stream: TextIO) -> Iterator[None]:
    """Hand on the warnings of our logger; what the root logger writes to `stream` leaves them out meanwhile."""
    logger, handler = logging.getLogger(_LOGGER), _Warnings(tell)
    doubling = [other for other in logging.getLogger().handlers if getattr(other, "stream", None) is stream]
    logger.addHandler(handler)
    for other in doubling:
        other.addFilter(_is_not_shown)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        for other in doubling:
            other.removeFilter(_is_not_shown)


def _is_not_shown(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING or record.name.partition(".")[0] != _LOGGER
