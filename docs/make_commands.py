"""Write docs/commands.md from the command line's own help: `make docs`. A test fails when the page is stale."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from interalign.cli import app

PAGE = Path(__file__).with_name("commands.md")
HEAD = """\
# Commands

This page is the help of the command line, written by `make docs`. `interalign COMMAND --help` shows the same.

Exit codes: 0 done; 1 finished, but some trees failed (they are named); 2 wrong usage or configuration, nothing was
started; 3 stopped cleanly, and the same command goes on. Data goes to standard output or to the named file, everything
else to standard error. `--debug` shows where an error comes from.
"""


def page() -> str:
    """The whole page, one section a command."""
    return HEAD + "".join(f"\n## {name}\n\n```text\n{text}\n```\n" for name, text in helps())


def helps() -> Iterator[tuple[str, str]]:
    """Name and help of every command, in the order of the help itself; groups before their commands."""
    yield from _helps(typer.main.get_command(app), None)


def _helps(command: Any, parent: Any) -> Iterator[tuple[str, str]]:
    context = typer.Context(command, info_name=command.name, parent=parent, terminal_width=100)
    yield context.command_path, command.get_help(context).rstrip()
    for inner in getattr(command, "commands", {}).values():
        yield from _helps(inner, context)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
