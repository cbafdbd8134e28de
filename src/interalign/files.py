"""Files are written whole or not at all."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from interalign.errors import ConfigError


def write_atomically(path: Path, pieces: Iterable[str]) -> None:
    """Write the pieces as UTF-8 to a file beside `path`, then put it in its place.

    An error on the way leaves what was there before and nothing else. Raises ConfigError if the path cannot be written.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file to write")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); its folder must exist") from error
    finally:
        with suppress(OSError):  # a read-only disk refuses even that
            partial.unlink(missing_ok=True)
