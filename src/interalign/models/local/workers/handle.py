"""The run's side of a worker process: it is started, sent batches, and replaced when it dies (a supervisor).

After three deaths in a row without a reply it is not started again.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from interalign.errors import FailedTreeError, InteralignError, StopError
from interalign.models.local.options import LocalOptions
from interalign.models.local.request import GenerationJob, fail
from interalign.models.local.workers.protocol import answer_in, error_in, job_out, line_of

_LOG = logging.getLogger(__name__)
_MOST_EXITS = 3
"""Processes that end one after the other without a reply after which no further one is started."""
_LAST_OUTPUT_S = 1.0
"""Seconds to wait for the output of a dead process: a child of its own may hold the pipe open."""
_WORDS = 200
_START = """\
import json, sys
sys.path += [folder for folder in json.loads(sys.argv[1]) if folder not in sys.path]
from interalign.models.local.workers.main import main
main(int(sys.argv[2]))
"""
_REMEDY = "if memory ran out, lower ?max_batch=, ?cache_mb= or ?workers="


class WorkerEndedError(Exception):
    """The process ended; calls that it had not begun can be assigned to another one."""


@dataclass
class _Child:
    """A process that was started."""

    process: subprocess.Popen[bytes]
    answers: TextIO
    output_reader: threading.Thread | None = None
    last_line: str = ""
    discarded: bool = False
    """It is not used any more; its end is no news."""


class WorkerProcess:
    """A worker's process, and those that replace it. All methods but `close` are called from one thread."""

    def __init__(self, name: str, path: str, options: LocalOptions, worker: int) -> None:
        """`worker`: its number, from 0, among `options.workers`."""
        self.name = name
        self._setup = {
            "name": name,
            "path": path,
            "options": options.model_dump(mode="json", exclude_none=True),
            "worker": worker,
            "of": options.workers or 1,
        }
        self._child: _Child | None = None
        self._exits = 0
        self._last_exit = ""
        self._closed = False
        self._changing = threading.Lock()
        self._in_use = threading.RLock()
        """Held while a call waits for the process; `close` takes it after it has killed the process."""
        self.on_idle_exit: Callable[[], None] = lambda: None
        """Called, in some thread, when a process has ended while no batch was at it."""
        self.warned: set[str] = set()
        """Warnings that were logged; workers of one model share them, so that each is logged once."""

    def load(self) -> None:
        """Make sure that a process with the model loaded is there.

        Raises what loading raises in process, StopError if one process after the other ends, or after `close`.
        """
        with self._in_use:
            if self._child is not None and self._child.process.poll() is not None:
                self._discard_dead(self._child)
            while self._child is None:
                if self._exits >= _MOST_EXITS:
                    raise StopError(
                        f"{self.name}: {_MOST_EXITS} worker processes ended one after the other without a reply, "
                        f"the last one {self._last_exit}; {_REMEDY}"
                    )
                self._start()

    def answer(self, jobs: Sequence[GenerationJob]) -> None:
        """Have these calls answered: at the end every one has its reply or its error.

        If the process ends, those it was answering fail as FailedTreeError and WorkerEndedError is raised: the others
        can be asked again. Raises what `load` raises.
        """
        begun: list[GenerationJob] = []
        with self._in_use:
            self.load()
            child = self._child
            assert child is not None
            try:
                self._ask(child, jobs, begun)
            except (EOFError, OSError):
                how = self._discard_dead(child)
                fail(begun, self._died(how))
                raise WorkerEndedError(how) from None

    def close(self) -> None:
        """End the process, whatever it is doing."""
        with self._changing:
            self._closed = True
            child = self._child
        if child is not None:
            child.process.kill()
        with self._in_use:
            if self._child is not None:
                self._discard(self._child)

    def _start(self) -> None:
        """Start a process and wait for its model; if it ends meanwhile there is none afterwards."""
        with self._changing:
            if self._closed:
                raise self._was_closed()
            self._child = child = self._spawned()
        child.output_reader = threading.Thread(
            target=self._read_output, args=(child,), name="hf worker's output", daemon=True
        )
        child.output_reader.start()
        try:
            _send(child, self._setup)
            said = _receive(child)
        except (EOFError, OSError):
            self._discard_dead(child)
            return
        if "error" in said:
            self._discard(child)
            raise error_in(said)
        _LOG.debug("%s: worker %d is process %d", self.name, self._setup["worker"], child.process.pid)

    def _spawned(self) -> _Child:
        try:
            return _spawn()
        except OSError as error:
            raise StopError(f"{self.name}: no worker process can be started ({error})") from None

    def _ask(self, child: _Child, jobs: Sequence[GenerationJob], begun: list[GenerationJob]) -> None:
        _send(child, [job_out(job) for job in jobs])
        while "done" not in (said := _receive(child)):
            if "begun" in said:
                begun += [jobs[place] for place in said["begun"]]
                _LOG.debug("%s: process %d answers %d calls", self.name, child.process.pid, len(said["begun"]))
            elif "warning" in said:
                self._warn(said["warning"])
            else:
                answer_in(jobs[said["call"]], said)
                self._exits = 0

    def _warn(self, warning: str) -> None:
        if warning not in self.warned:
            self.warned.add(warning)
            _LOG.warning("%s", warning)

    def _discard_dead(self, child: _Child) -> str:
        """Discard a process that ended or does not answer; returns how it ended."""
        self._discard(child)
        self._exits += 1
        self._last_exit = _describe_exit(child)
        if not self._closed:
            then = "is replaced" if self._exits < _MOST_EXITS else "its place is given up"
            _LOG.warning("%s: a worker process %s and %s", self.name, self._last_exit, then)
        return self._last_exit

    def _discard(self, child: _Child) -> None:
        child.discarded = True
        child.process.kill()
        child.process.wait()
        if child.output_reader is not None:
            child.output_reader.join(_LAST_OUTPUT_S)
        child.answers.close()
        if child.process.stdin is not None:
            child.process.stdin.close()
        with self._changing:
            self._child = None

    def _died(self, how: str) -> InteralignError:
        if self._closed:
            return self._was_closed()
        return FailedTreeError(f"{self.name}: the worker process that was answering {how}; {_REMEDY}")

    def _was_closed(self) -> StopError:
        return StopError(f"{self.name} was closed")

    def _read_output(self, child: _Child) -> None:
        """Log the standard output and error of the process, and report its end while no batch is at it."""
        assert child.process.stdout is not None
        with child.process.stdout as output:
            for line in output:
                text = line.decode(errors="replace").strip()
                child.last_line = text or child.last_line
                _LOG.debug("process %d: %s", child.process.pid, text)
        child.process.wait()
        if not child.discarded:
            self.on_idle_exit()


def _spawn() -> _Child:
    answers, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            # -P: a file in the current folder must not shadow a module. The search path is that of this process.
            [sys.executable, "-P", "-c", _START, json.dumps(_folders()), str(theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs,),
            process_group=0,  # Ctrl-C is for the run, not for its workers
        )
    except OSError:
        os.close(answers)
        raise
    finally:
        os.close(theirs)
    return _Child(process, os.fdopen(answers, encoding="ascii"))


def _folders() -> list[str]:
    """The module search path of this process without the current folder, for the worker."""
    package = str(Path(__file__).resolve().parents[3])
    return [*(str(Path(folder).absolute()) for folder in sys.path if folder), package]


def _send(child: _Child, value: Any) -> None:
    assert child.process.stdin is not None
    rest = memoryview(line_of(value))
    while rest:  # unbuffered: buffered bytes could not be dropped once the process is gone
        rest = rest[os.write(child.process.stdin.fileno(), rest) :]


def _receive(child: _Child) -> dict[str, Any]:
    """The next message of the process; EOFError if it ended, also in the middle of a line."""
    line = child.answers.readline()
    if not line.endswith("\n"):
        raise EOFError
    said: dict[str, Any] = json.loads(line)
    return said


def _describe_exit(child: _Child) -> str:
    """How a process ended, and the last line of its output."""
    code = child.process.returncode
    names = {number.value: number.name for number in signal.Signals}
    how = f"was killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"ended with exit code {code}"
    words = "".join(letter if letter.isprintable() else " " for letter in child.last_line[:_WORDS])
    return f"{how}, after saying {words!r}" if words else how
