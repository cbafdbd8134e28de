"""The one error hierarchy, drawn once.

InteralignError
├── ConfigError        wrong usage, configuration or input file; nothing started          exit 2
│   └── DataError      a file of the user's has a bad row (named by line)                 exit 2
├── StopError          stopped cleanly; the same command goes on                          exit 3
│   └── LockedError    another process holds the run file                                 exit 3
├── FailedTreeError    this tree cannot go on; the others can                             exit 1 at the end
│   └── RoleError      a plug-in broke its contract: the same in the first trees stops     exit 1, or 3
├── BadContentError    a reply came, but cannot be used: ask again, then missing
├── MalformedTreeError nodes that do not form one conversation tree
└── MetricError        a metric is not defined for these numbers
"""

from collections.abc import Iterable


class InteralignError(Exception):
    """Base of every error interalign raises on purpose; `exit_code` is what the command line ends with."""

    exit_code = 1


class ConfigError(InteralignError):
    """Wrong usage or configuration: nothing was started, nothing was written."""

    exit_code = 2


class DataError(ConfigError):
    """An input file holds a row that cannot be used; the message names file, line, field and reason."""


class StopError(InteralignError):
    """The run stopped cleanly and everything finished is committed; the same command goes on from there."""

    exit_code = 3


class LockedError(StopError):
    """Another process is writing this run file."""


class FailedTreeError(InteralignError):
    """One tree cannot go on (the reason is the message); all other trees do.

    `same` is equal for the same fault in another tree, and empty for one that is like no other. A server's refusal has
    the server, the model, the HTTP status and the server's words without their numbers in it.
    """

    def __init__(self, message: str, *same: str) -> None:
        super().__init__(message)
        self.same = same

    same: tuple[str, ...] = ()
    """Equal for the same fault whatever the message holds; the first three trees that fail alike stop the run.

    Empty: this failure is like no other.
    """


class RoleError(FailedTreeError):
    """A plug-in raised or broke its contract; a plug-in that means to fail a tree raises FailedTreeError itself.

    `same` is equal for the same fault in the same place of the same plug-in, whatever the message holds (a persona's
    name, say): its name and what is wrong, with the line if it raised.
    """


class BadContentError(InteralignError):
    """A reply was received but is empty, refused or not in the contract's form. `reply` is the raw text.

    `tokens` are those of the prompt and of the reply: what cannot be used is paid for all the same.
    """

    def __init__(self, message: str, reply: str = "", tokens: tuple[int, int] = (0, 0)) -> None:
        super().__init__(message)
        self.reply = reply
        self.tokens = tokens


class MalformedTreeError(InteralignError):
    """Nodes that do not form one conversation tree: a cycle, an orphan, two roots, a user under a user."""


class MetricError(InteralignError):
    """A metric is not defined for the numbers it was given."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` with the known name most like this one, letter case aside; empty if none is like it."""
    from difflib import get_close_matches  # only where something is wrong

    by_folded = {each.casefold(): each for each in known}
    near = get_close_matches(name.casefold(), by_folded, n=1)
    return f"; did you mean {by_folded[near[0]]}?" if near else ""
