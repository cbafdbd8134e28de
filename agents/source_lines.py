"""Which line of somebody's code it was: theirs, not that of the library they called."""

import sysconfig
from collections.abc import Iterable
from itertools import takewhile
from traceback import walk_stack, walk_tb
from types import FrameType, TracebackType

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
Line = tuple[FrameType, int]


def raised_at(traceback: TracebackType | None) -> str:
    """`FILE:LINE` of the last line of their own code that an error passed."""
    return _named(reversed(list(walk_tb(traceback))))


def running_at(frame: FrameType) -> str:
    """`FILE:LINE` of the innermost line of their own code on this stack, which ends where ours begins."""
    return _named([*takewhile(lambda line: not _ours(line), walk_stack(frame))] or [(frame, frame.f_lineno)])


def _named(innermost_first: Iterable[Line]) -> str:
    """The first that is theirs; of a role that is installed among the libraries, or not Python, the innermost one."""
    lines = list(innermost_first)
    frame, number = next((line for line in lines if _theirs(line)), lines[0])
    return f"{frame.f_code.co_filename}:{number}"


def _ours(line: Line) -> bool:
    return str(line[0].f_globals.get("__name__", "")).startswith("interalign.")


def _theirs(line: Line) -> bool:
    file = line[0].f_code.co_filename
    # By name too: an environment may show the packages of another one.
    library = file.startswith((*_LIBRARIES, "<frozen ")) or "/site-packages/" in file or "/dist-packages/" in file
    return not _ours(line) and not library
