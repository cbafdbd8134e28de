"""What a Ray task does: it works on the trees of one batch, in a file, as a worker process does.

On the machine of the command the file lies in the run's own folder: every reply that a task commits is kept, whatever
becomes of the task. On another machine the file comes and goes as bytes; until the batch is done it stays there, and a
second attempt on the same machine goes on with it.
"""

import logging
import os
import socket
import sys
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from interalign.errors import ConfigError
from interalign.files import put_run_file
from interalign.records import RunSummary
from interalign.run.worker_orders import WorkerEnding, carry_out_orders
from interalign.version import __version__


class GrownBatch(NamedTuple):
    """What came of a batch."""

    ending: WorkerEnding
    summary: dict[str, Any] | None
    """A RunSummary as JSON; None if nothing was begun."""
    log: list[tuple[int, str]]
    """Level and text of messages."""
    content: bytes | None
    """The file, packed, from another machine."""


class _Log(logging.Handler):
    """Keeps the messages of a batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.kept: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.levelno, record.getMessage()))


def batch_orders(told: dict[str, Any], name: str) -> dict[str, Any]:
    """What a task is told beside what a worker process is; `name` is no other batch's, on any machine."""
    here = {"machine": machine(), "folder": str(Path.cwd()), "path": sys.path, "version": __version__}
    return {**told, **here, "name": name}


def grow_batch(told: dict[str, Any], content: bytes) -> GrownBatch:
    """Grow the trees of this batch as far as possible. `content`: its file, packed, for another machine."""
    if told["version"] != __version__:
        reason = f"a Ray worker has interalign {__version__} and not {told['version']}; install the same everywhere"
        return GrownBatch(WorkerEnding(reason, ConfigError.exit_code), None, [], None)
    _see_plug_ins(told)
    own = Path(told["file"])
    if told["machine"] == machine() and own.exists():
        return _grown(told, own)
    if told["runtime"]["budget"] is not None:
        reason = "--max-usd and --max-tokens hold on one machine, and a Ray worker is on another; leave them out there"
        return GrownBatch(WorkerEnding(reason, ConfigError.exit_code), None, [], None)
    copy = _scratch() / f"{told['name']}.db"
    if not copy.exists():
        put_run_file(copy, unpacked(content))
    grown = _grown(told, copy)._replace(content=packed(copy))
    copy.unlink()
    return grown


def packed(file: Path) -> bytes:
    """A file that no process has open, as it is sent."""
    return zlib.compress(file.read_bytes(), 1)


def unpacked(content: bytes) -> bytes:
    """The file's bytes."""
    return zlib.decompress(content)


def machine() -> str:
    """Something that two machines do not have in common, and two processes of one have."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else ''}"


def _grown(told: dict[str, Any], file: Path) -> GrownBatch:
    stood: list[RunSummary] = []
    log, logger = _Log(), logging.getLogger("interalign")
    logger.addHandler(log)
    try:
        ending = carry_out_orders(told, file, stood.append)
    finally:
        logger.removeHandler(log)
    summary = stood[-1].model_dump(mode="json", exclude={"shortfalls"}) if stood else None
    return GrownBatch(ending, summary, log.kept, None)


def _see_plug_ins(told: dict[str, Any]) -> None:
    """Work in the command's folder and find its modules, where this machine has them."""
    with suppress(OSError):
        os.chdir(told["folder"])
    sys.path.extend(each for each in told["path"] if each not in sys.path)


def _scratch() -> Path:
    """This user's folder for batches from other machines."""
    folder = Path(tempfile.gettempdir()) / f"interalign-ray-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
