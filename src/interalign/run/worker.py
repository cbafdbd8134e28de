"""A worker process of `--workers N`: it works on the trees of one file and says on standard output how it stands."""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

from interalign.records import RunSummary
from interalign.run.worker_orders import carry_out_orders
from interalign.signals import OWN_PROCESS


class _Messages(logging.Handler):
    """Messages of this process, and what is logged in it, as JSON lines."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._out = os.dup(1)
        self._one_at_a_time = threading.Lock()
        os.dup2(2, 1)  # what a plug-in prints is no message of ours

    def send(self, **message: Any) -> None:
        rest = json.dumps(message).encode() + b"\n"
        with self._one_at_a_time:
            while rest:
                rest = rest[os.write(self._out, rest) :]

    def emit(self, record: logging.LogRecord) -> None:
        self.send(level=record.levelno, log=record.getMessage())

    def tell(self, summary: RunSummary) -> None:
        """Say how the share stands."""
        self.send(summary=summary.model_dump(mode="json", exclude={"shortfalls"}))


def main() -> None:
    """Read what to do from standard input, do it, and say how it ended."""
    signal.signal(signal.SIGINT, _leave)  # until the run itself has begun, and handles it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    orders = sys.stdin.buffer
    told = json.loads(orders.readline())
    os.chdir(told["folder"])
    sys.path[:] = told["path"]
    OWN_PROCESS.set(True)
    messages = _Messages()
    logging.getLogger("interalign").addHandler(messages)
    threading.Thread(target=_end_with, args=(orders,), daemon=True).start()
    ending = carry_out_orders(told, Path(told["file"]), messages.tell)
    messages.send(end=ending.reason, code=ending.code)
    os._exit(0)


def _leave(number: int, frame: object) -> None:
    os._exit(3)


def _end_with(orders: BinaryIO) -> None:
    """Leave when standard input ends: nobody would bring back what is grown now. Every reply on record is safe."""
    orders.read(1)
    os._exit(3)


if __name__ == "__main__":
    main()
