"""`train --nproc N`: the same command in N processes on this machine, one GPU each, or all on the CPU."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import IO, Final

from interalign.cli.exit_codes import say

_GRACE: Final = 10.0
"""Seconds that the others have to end by themselves after one has failed."""
_START: Final = "from interalign.cli import main; main()"


def in_processes(words: Sequence[str], count: int) -> int:
    """Run this command line in `count` processes that train together; the exit code of one that failed, else 0.

    Only the first process writes to standard error. If another one fails alone, its last line is shown.
    """
    port = _free_port()
    with tempfile.TemporaryFile() as unseen:
        children = [_start(words, number, count, port, unseen if number else None) for number in range(count)]
        codes = _codes(children)
        failed = next((code for code in codes if code > 0), 1 if any(codes) else 0)
        if failed and codes[0] <= 0:
            unseen.seek(0)
            say(unseen.read().decode(errors="replace").rstrip().rpartition("\n")[2])
    return failed


def without(words: Sequence[str], option: str) -> Iterator[str]:
    """The words of a command line without this option and its value."""
    given = iter(words)
    for word in given:
        if word == option:
            next(given, None)
        elif not word.startswith(f"{option}="):
            yield word


def _start(
    words: Sequence[str], number: int, count: int, port: int, errors: IO[bytes] | None
) -> "subprocess.Popen[bytes]":
    threads = max(1, (os.cpu_count() or 1) // count)
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        # Else a warning, in each process, that a setting of transformers' own costs a little time.
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
    }
    command = [sys.executable, "-c", _START, *words]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=errors)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _codes(children: "Sequence[subprocess.Popen[bytes]]") -> list[int]:
    """Exit codes of all, once all have ended. When one fails, or we are interrupted, the others are asked to stop."""
    with ThreadPoolExecutor(len(children)) as pool:
        try:
            ends = [pool.submit(_succeeded, child) for child in children]
            wait(ends, return_when=FIRST_EXCEPTION)
            wait(ends, timeout=_GRACE)  # mostly they fail alike, and the first one says why
        finally:
            for child in children:
                child.terminate()  # nothing, where it has ended
    return [child.returncode for child in children]


def _succeeded(child: "subprocess.Popen[bytes]") -> None:
    if code := child.wait():
        raise ChildProcessError(code)
