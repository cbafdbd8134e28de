"""A worker process of an `hf:` model, seen from the run: started, asked in batches, replaced when it dies, ended."""

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
from interalign.models.local.request import Job, fail
from interalign.models.local.workers.protocol import answer_in, error_in, job_out, line_of

_LOG = logging.getLogger(__name__)
_MOST_ENDS = 3
"""Processes that end one after the other without a single answer until their place is given up."""
_LAST_WORDS_S = 1.0
"""How long a dead process's standard error is waited for: a child of its own may hold it open."""
_WORDS = 200
_START = """\
import json, sys
sys.path += [folder for folder in json.loads(sys.argv[1]) if folder not in sys.path]
from interalign.models.local.workers.main import main
main(int(sys.argv[2]))
"""
_REMEDY = "if memory ran out, lower ?max_batch=, ?cache_mb= or ?workers="


class WorkerEndedError(Exception):
    """The process ended; calls it had not begun have no answer yet."""


@dataclass
class _Child:
    """A process that was started."""

    process: subprocess.Popen[bytes]
    answers: TextIO
    noise: threading.Thread | None = None
    last_words: str = ""
    dismissed: bool = False
    """It is known that it is of no more use."""


class WorkerProcess:
    """One place for a worker, and the process that fills it. All but `close` is called from one thread."""

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
        self._ends = 0
        self._how_last = ""
        self._closed = False
        self._changing = threading.Lock()
        self._in_use = threading.RLock()
        """Held while the process is waited for; `close` takes it once the process is dead."""
        self.when_gone: Callable[[], None] = lambda: None
        """Called, in some thread, when a process has ended that was not being asked anything."""
        self.warned: set[str] = set()
        """Warnings that were logged; workers of one model share them, so that each is logged once."""

    def load(self) -> None:
        """Have a process with the model loaded.

        Raises what loading raises in process, StopError if one process after the other ends, or after `close`.
        """
        with self._in_use:
            if self._child is not None and self._child.process.poll() is not None:
                self._bury(self._child)
            while self._child is None:
                if self._ends >= _MOST_ENDS:
                    raise StopError(
                        f"{self.name}: {_MOST_ENDS} worker processes ended one after the other without a reply, "
                        f"the last one {self._how_last}; {_REMEDY}"
                    )
                self._start()

    def answer(self, jobs: Sequence[Job]) -> None:
        """Have these calls answered: at the end every one has its reply or its error.

        If the process ends, those it was answering fail as FailedTreeError and WorkerEndedError is raised: the others
        can be asked again. Raises what `load` raises.
        """
        begun: list[Job] = []
        with self._in_use:
            self.load()
            child = self._child
            assert child is not None
            try:
                self._ask(child, jobs, begun)
            except (EOFError, OSError):
                how = self._bury(child)
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
                self._dismiss(self._child)

    def _start(self) -> None:
        """Start a process and wait for its model; if it ends meanwhile there is none afterwards."""
        with self._changing:
            if self._closed:
                raise self._was_closed()
            self._child = child = self._spawned()
        child.noise = threading.Thread(target=self._attend, args=(child,), name="hf worker's output", daemon=True)
        child.noise.start()
        try:
            _tell(child, self._setup)
            said = _hear(child)
        except (EOFError, OSError):
            self._bury(child)
            return
        if "error" in said:
            self._dismiss(child)
            raise error_in(said)
        _LOG.debug("%s: worker %d is process %d", self.name, self._setup["worker"], child.process.pid)

    def _spawned(self) -> _Child:
        try:
            return _spawn()
        except OSError as error:
            raise StopError(f"{self.name}: no worker process can be started ({error})") from None

    def _ask(self, child: _Child, jobs: Sequence[Job], begun: list[Job]) -> None:
        _tell(child, [job_out(job) for job in jobs])
        while "done" not in (said := _hear(child)):
            if "begun" in said:
                begun += [jobs[place] for place in said["begun"]]
                _LOG.debug("%s: process %d answers %d calls", self.name, child.process.pid, len(said["begun"]))
            elif "warning" in said:
                self._warn(said["warning"])
            else:
                answer_in(jobs[said["call"]], said)
                self._ends = 0

    def _warn(self, warning: str) -> None:
        if warning not in self.warned:
            self.warned.add(warning)
            _LOG.warning("%s", warning)

    def _bury(self, child: _Child) -> str:
        """Clear away a process that ended or does not answer any more; returns how it ended."""
        self._dismiss(child)
        self._ends += 1
        self._how_last = _how(child)
        if not self._closed:
            then = "is replaced" if self._ends < _MOST_ENDS else "its place is given up"
            _LOG.warning("%s: a worker process %s and %s", self.name, self._how_last, then)
        return self._how_last

    def _dismiss(self, child: _Child) -> None:
        child.dismissed = True
        child.process.kill()
        child.process.wait()
        if child.noise is not None:
            child.noise.join(_LAST_WORDS_S)
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

    def _attend(self, child: _Child) -> None:
        """Log what the process says on standard output and error, and notice its end when nobody asks it anything."""
        assert child.process.stdout is not None
        with child.process.stdout as noise:
            for line in noise:
                text = line.decode(errors="replace").strip()
                child.last_words = text or child.last_words
                _LOG.debug("process %d: %s", child.process.pid, text)
        child.process.wait()
        if not child.dismissed:
            self.when_gone()


def _spawn() -> _Child:
    answers, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            # -P: a file in the current folder must not stand in for a module; what this process finds, it finds too.
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
    """Where this process finds modules, for what the worker would not find by itself; not the current folder."""
    package = str(Path(__file__).resolve().parents[3])
    return [*(str(Path(folder).absolute()) for folder in sys.path if folder), package]


def _tell(child: _Child, value: Any) -> None:
    assert child.process.stdin is not None
    rest = memoryview(line_of(value))
    while rest:  # past the buffer: what lies there could not be dropped when the process is gone
        rest = rest[os.write(child.process.stdin.fileno(), rest) :]


def _hear(child: _Child) -> dict[str, Any]:
    """What the process says next; EOFError if it ended, in the middle of a line too."""
    line = child.answers.readline()
    if not line.endswith("\n"):
        raise EOFError
    said: dict[str, Any] = json.loads(line)
    return said


def _how(child: _Child) -> str:
    """How a process ended, and the last thing it said."""
    code = child.process.returncode
    names = {number.value: number.name for number in signal.Signals}
    how = f"was killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"ended with exit code {code}"
    words = "".join(letter if letter.isprintable() else " " for letter in child.last_words[:_WORDS])
    return f"{how}, after saying {words!r}" if words else how
