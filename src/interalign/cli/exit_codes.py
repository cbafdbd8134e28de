"""How a command ends: messages on standard error, and the exit code of an error."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, NoReturn

import typer

from interalign.cli.live_display import one_line
from interalign.cli.progress import json_line
from interalign.errors import DataError, InteralignError
from interalign.signals import INTERRUPTED, WORDED

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
"""The option that every command has."""
ROWS_NAMED = 4000
"""Characters of a message that names bad rows, each with its reason; of any other message 500 are shown."""


def say(line: str) -> None:
    """Write a line to standard error."""
    # Where nobody reads standard error any more, the exit code tells the truth all the same.
    with suppress(OSError, ValueError):
        typer.echo(line, err=True)


@contextmanager
def errors_as_exit_codes(debug: bool, log_json: bool = False) -> Iterator[None]:
    """One line on standard error, after the traceback if that is wanted, and the exit code that goes with the error."""

    if log_json:
        WORDED.set(lambda message: json_line("error", message=message, exit=3))

    def end(message: str, code: int, longest: int = 500) -> NoReturn:
        trace = _trace() if debug else ""
        if log_json:
            say(json_line("error", message=message, exit=code, **({"traceback": trace} if trace else {})))
        else:
            say(trace + one_line(f"interalign: {message}", longest))
        raise typer.Exit(code) from None

    try:
        yield
    except DataError as error:
        end(str(error), error.exit_code, ROWS_NAMED)
    except InteralignError as error:
        end(str(error), error.exit_code)
    except KeyboardInterrupt:
        end(INTERRUPTED, 3)
    except BrokenPipeError:
        raise  # who read standard output has gone: Click ends quietly
    except Exception as error:  # noqa: BLE001  (the last line of defence: no traceback unless it is wanted)
        end(_unexpected(error), 3)


def _trace() -> str:
    """The traceback of the error being dealt with, without keys."""
    from interalign.models.langchain import without_keys  # not at the start of every command

    return without_keys(traceback.format_exc())


def _unexpected(error: Exception) -> str:
    """What is said of an error that nobody foresaw."""
    from interalign.models.langchain import without_keys

    what = without_keys(f"{type(error).__name__}: {error}")
    if isinstance(error, OSError):
        return f"{what}; mend it and run the same command again"
    return f"unexpected {what}; what was finished is kept. --debug shows where: please report it"


def say_short(shortfalls: str) -> None:
    """What fell short, where anything did: a run whose every tree is done may still hold nothing that can be used."""
    if shortfalls:
        say(one_line(shortfalls))
