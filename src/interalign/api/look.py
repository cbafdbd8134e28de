"""Runs and state machines to look at."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from interalign.files import read_text

if TYPE_CHECKING:
    from interalign.store import Store


def open_run(run: Path | str) -> "Store":
    """The run file, for reading: trees, verdicts, calls. Close it, or use it in a `with` statement."""
    from interalign.store import Store

    return Store.open(Path(run))


def view(
    run: Path | str,
    *others: Path | str,
    host: str = "127.0.0.1",
    port: int = 8321,
    instructions: Path | str | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the pages of a run, beside `others`, until interrupted; `announce` is told the address.

    `instructions`: a text file that labellers are shown; by default what the labels of the run were given by.
    """
    from interalign.eval.view import serve

    told = None if instructions is None else read_text(Path(instructions))
    serve(Path(run), host, port, announce, [Path(other) for other in others], told)


def view_export(run: Path | str, out: Path | str) -> int:
    """Write the pages of a run as one HTML file; number of trees in it."""
    from interalign.eval.view import export_html

    return export_html(Path(run), Path(out))


def graph(name: str) -> str:
    """Mermaid text of the state machine `turn`, `tree` or `personas`."""
    from interalign.graphs.drawing import mermaid

    return mermaid(name)
