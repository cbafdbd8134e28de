"""What a terminal shows of one step of a chain."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from interalign.cli.exit_codes import say


@contextmanager
def shown_step(title: str) -> Iterator[Callable[[float], None]]:
    """A titled bar on standard error, gone when the step is done; only the title where there is no terminal."""
    say(title)
    if not sys.stderr.isatty():
        yield lambda share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("   "), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share: bar.update(task, completed=share)
