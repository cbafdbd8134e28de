"""The program of a worker process: it loads an `hf:` model and answers batches of calls until standard input ends.

Batches come on standard input, answers go out on a pipe of their own (protocol.py): standard output and standard error
are left to what libraries print.
"""

import json
import logging
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from io import FileIO
from queue import SimpleQueue
from typing import Any, BinaryIO

from interalign.errors import InteralignError
from interalign.models.local.engine import Engine
from interalign.models.local.options import LocalOptions
from interalign.models.local.request import GenerationJob
from interalign.models.local.workers.protocol import answer_out, error_out, job_in, line_of
from interalign.records import Reply


def main(answers: int) -> None:
    """Run a worker that writes its answers to the file descriptor `answers`, until standard input ends."""
    # An interrupted run finishes the calls in flight; when the run ends, standard input ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.set_inheritable(answers, False)
    worker = _Worker(FileIO(answers, "w"))
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(_own_input(), lines), daemon=True).start()
    worker.run(lines)


def _own_input() -> BinaryIO:
    """Standard input, replaced by /dev/null for the rest of this process."""
    mine = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return mine


def _listen(lines_in: BinaryIO, lines: SimpleQueue[bytes]) -> None:
    """Pass on the lines; when the input ends, end the process at once, also in the middle of a reply."""
    try:
        for line in lines_in:
            lines.put(line)
    finally:
        os._exit(0)


class _Worker:
    """The engine, and the pipe on which its answers go out."""

    def __init__(self, out: FileIO) -> None:
        self._out = out

    def run(self, lines: SimpleQueue[bytes]) -> None:
        """Load the model that the first line names, then answer a batch a line."""
        asked = json.loads(lines.get())
        options = LocalOptions.model_validate(asked["options"])
        engine = Engine(asked["name"], asked["path"], options, gpu=asked["worker"])
        try:
            engine.load()
        except InteralignError as error:
            self._send(error_out(error))
            return
        _share_cores(asked["of"])
        logging.getLogger("interalign").addHandler(_Warnings(self._send))
        self._send({"loaded": True})
        while True:
            self._answer(engine, [job_in(call) for call in json.loads(lines.get())])

    def _answer(self, engine: Engine, jobs: Sequence[GenerationJob]) -> None:
        places = {job: place for place, job in enumerate(jobs)}

        def tell(job: GenerationJob, _: Future[Reply]) -> None:
            self._send({"call": places[job], **answer_out(job)})

        for job in jobs:
            job.future.add_done_callback(partial(tell, job))
        engine.answer(jobs, lambda batch: self._send({"begun": [places[job] for job in batch]}))
        self._send({"done": True})

    def _send(self, value: dict[str, Any]) -> None:
        rest = memoryview(line_of(value))
        while rest:
            rest = rest[self._out.write(rest) :]


class _Warnings(logging.Handler):
    """Sends our warnings to the run, which shows them."""

    def __init__(self, tell: Any) -> None:
        super().__init__(logging.WARNING)
        self._to_run = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Send one."""
        self._to_run({"warning": record.getMessage()})


def _share_cores(workers: int) -> None:
    """Use only this worker's share of the CPU threads: more would compete for the cores."""
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
