"""A terminal for tests: a pseudo-terminal in place of standard error, and what somebody would see on it."""

import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

_PIECE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|.", re.DOTALL)


class Terminal:
    """What was written to it is in `raw` once it is closed; somebody has to `look`, or it must `go_away`."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8", errors="backslashreplace")
        self.raw = b""
        self._reader = threading.Thread(target=self._read)

    def look(self) -> None:
        """Begin to read. Until then it is like a paused terminal: whoever writes much waits."""
        self._reader.start()

    def go_away(self) -> None:
        """As a window that is closed: writing fails from now on."""
        os.close(self._master)

    def close(self) -> None:
        """Nobody writes any more; what was written is in `raw`."""
        with suppress(OSError):  # it went away
            self.stream.close()
        if self._reader.ident:
            self._reader.join()
            os.close(self._master)

    def _read(self) -> None:
        with suppress(OSError):  # the other side is closed
            while piece := os.read(self._master, 65536):
                self.raw += piece

    def screen(self) -> list[str]:
        """The lines that are seen in the end, colours left out. Fails at a control sequence that it does not know."""
        lines, row, column = [""], 0, 0
        for piece in _PIECE.findall(self.raw.decode()):
            if piece == "\r":
                column = 0
            elif piece == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif piece.startswith("\x1b["):
                match piece[-1]:
                    case "A":
                        row -= int(piece[2:-1])
                    case "K":
                        lines[row] = ""
                    case _:
                        assert piece[-1] == "m" or piece in ("\x1b[?25l", "\x1b[?25h"), f"unknown: {piece!r}"
            else:
                lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + 1 :]
                column += 1
        return [line.rstrip() for line in lines if line.strip()]


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, *, columns: int = 80) -> Iterator[Terminal]:
    """Standard error is a terminal until the block ends; its `screen()` is whole after the block."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    seen = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", seen.stream)
        try:
            yield seen
        finally:
            seen.close()
