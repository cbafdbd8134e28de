"""Commands in processes of their own that need not import everything first: forks of one that has (fork_server.py).

What a process is begun for, its exit code, its streams, a signal, a limit, is as with the installed command, which the
fixture `command` runs; that it starts at all is held there.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from conftest import Ended


class Forks:
    """One command at a time, in any folder."""

    def __init__(self, server: socket.socket, answers: TextIO) -> None:
        self._server = server
        self._answers = answers

    def start(
        self, folder: Path, *words: str | Path, out: int, err: int,
        env: Mapping[str, str] | None = None, largest_file: int | None = None,
    ) -> int:  # fmt: skip
        """Process id of the command, which writes to these two files; none of its files gets larger than that."""
        order = {"folder": str(folder), "words": [*map(str, words)], "env": {**(env or {})}}
        socket.send_fds(self._server, [json.dumps({**order, "largest_file": largest_file}).encode()], [out, err])
        return int(self._answers.readline())

    def end(self) -> int:
        """How the command ended: its exit code, or minus the signal's number."""
        return int(self._answers.readline())

    def run(
        self, folder: Path, *words: str | Path, env: Mapping[str, str] | None = None, largest_file: int | None = None
    ) -> Ended:
        """The whole command, and what it wrote."""
        pipes = [os.pipe(), os.pipe()]
        out, err = (writing for _, writing in pipes)
        with ThreadPoolExecutor() as pool:
            said = pool.map(_read, [reading for reading, _ in pipes])
            self.start(folder, *words, out=out, err=err, env=env, largest_file=largest_file)
            os.close(out)
            os.close(err)
            code = self.end()
        return Ended(code, *said)


def _read(stream: int) -> str:
    with open(stream, encoding="utf-8") as file:
        return file.read()


@contextmanager
def forking() -> Iterator[Forks]:
    """A process that forks, for as long as that is open."""
    ours, theirs = socket.socketpair()
    words = [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(theirs.fileno())]
    process = subprocess.Popen(words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    with ours, ours.makefile() as answers, process:
        theirs.close()
        try:
            yield Forks(ours, answers)
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            process.wait()
