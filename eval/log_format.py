"""What a log format is: a run as another program's log, to be looked at there. `registries.LOG_FORMATS` names them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interalign.store import Store


@dataclass(frozen=True)
class LogFormat:
    """A member of the open set."""

    title: str
    """One line that says what it is."""
    suffixes: tuple[str, ...]
    """How a file of this format may be called."""
    write: Callable[[Store, Path, str | None], int]
    """Write the run to a file that is not there yet, with what this judge said (None: with what all said), and return
    the number of conversations. ConfigError if a library is missing.
    """
