"""Single writer: an advisory file lock (flock) beside the run file, which the kernel releases when a process dies."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from interalign.errors import ConfigError, LockedError

_AGAIN = 0.05
"""Seconds until a lock is tried once more: somebody may only have looked whether it is held."""


def is_locked(path: Path) -> bool:
    """Whether a process is writing the run file at this path."""
    try:
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


class Lock:
    """The exclusive right to write a run file: flock on `RUN.db.lock`."""

    def __init__(self, path: Path) -> None:
        """Take the lock; LockedError names the process that holds it, ConfigError if no lock file can be made there."""
        self._path = path.with_name(path.name + ".lock")
        try:
            self._take_at_last(path)
        except BlockingIOError:
            raise LockedError(self._held(path)) from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot lock it ({error.strerror}); put the run on a local disk") from None

    def _take_at_last(self, path: Path) -> None:
        try:
            while not self._take(path):
                pass
        except BlockingIOError:
            time.sleep(_AGAIN)
            while not self._take(path):
                pass

    def _take(self, path: Path) -> bool:
        """True when locked; False if the file locked was removed by its last holder in the meantime."""
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._path.exists() and os.path.samestat(os.fstat(self._handle), self._path.stat()):
                self._sign()
                return True
        except OSError:
            os.close(self._handle)
            raise
        os.close(self._handle)
        return False

    def _sign(self) -> None:
        with suppress(OSError):  # on a full disk the lock works without the process id in it
            os.ftruncate(self._handle, 0)
            os.write(self._handle, f"{os.getpid()}\n".encode())

    def _held(self, path: Path) -> str:
        owner = ""
        with suppress(OSError):
            owner = self._path.read_text().strip()
        if not owner:
            return f"{path} is being written by another process; wait until it ends"
        return f"{path} is being written by process {owner}; wait until it ends, or stop it (kill -INT {owner})"

    def release(self) -> None:
        """Release the lock and remove its file; a second call does nothing."""
        if self._handle >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = -1
