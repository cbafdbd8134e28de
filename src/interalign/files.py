"""Files are written whole or not at all, and never over a run, an input of the command, or its other output.

The usual way: a temporary file beside the target, flushed to the disk, then renamed over it. All files are written by
`write_atomically`, which refuses by itself to replace a run; `refuse_outputs` says so before anything is computed, and
knows the inputs and outputs of the command.
"""

import errno
import hashlib
import os
import shutil
import stat
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from itertools import combinations
from pathlib import Path
from urllib.parse import quote

from interalign.errors import ConfigError

COMPANIONS = ("-wal", "-shm", "-journal", ".lock", ".new")
"""What is added to the name of a run file for the files that lie beside it while it is made or written."""
_OF_SQLITE = COMPANIONS[:3]
_DATA = ("-wal", "-journal")
"""Companions that can hold what the run file does not hold yet."""
_MAGIC = (b"SQLite format 3\0", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
"""How a database, its write-ahead log (in either byte order) and its rollback journal begin."""
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, pieces: Iterable[str]) -> None:
    """Write the pieces as UTF-8 to a file beside `path`, then put it in its place; a link stays one.

    An error on the way leaves what was there before and nothing else. What is no file (a pipe, a terminal, /dev/null,
    /dev/stdout) is written to piece by piece. Raises ConfigError if the path cannot be written, or if a run file, any
    other SQLite database, or what lies beside one would be replaced; BrokenPipeError if the reader of a pipe has gone.
    """
    refuse_outputs([path])
    try:
        if is_stream(path):
            _write_to_stream(path, pieces)
        else:
            _replace(_real(path), pieces)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from error


def write_file_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` make a binary file beside `path`, then put it in its place; else as `write_atomically`.

    Raises ConfigError also for what is no file: a pipe takes text only.
    """
    refuse_outputs([path])
    if is_stream(path):
        raise ConfigError(f"{path} is no file, and this format cannot be written to a pipe; name a file")
    target = _real(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        refuse_run(target)  # again: a run may have begun there meanwhile
        partial.replace(target)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def put_run_file(path: Path, content: bytes) -> None:
    """A run file that came from another machine, whole or not at all, also in place of its earlier state."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_folder_atomically(folder: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a folder beside `folder`, then put it in its place, which must be free or an empty folder.

    An error on the way leaves nothing. Raises ConfigError if the folder cannot be made or has something in it.
    """
    refuse_full_folder(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir()
        write(partial)
        for path in partial.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_full_folder(folder: Path, inputs: Iterable[Path | str | None] = ()) -> None:
    """ConfigError unless this folder is empty, or can be made in one that is there. Nothing is touched."""
    refuse_folder(folder, inputs)
    refuse_companion(_real(folder))
    if not folder.absolute().parent.is_dir():
        raise ConfigError(f"{folder}: cannot be written (there is no folder {folder.parent}); its folder must exist")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} has something in it; remove it, or name another folder")


def read_text(path: Path) -> str:
    """The text of a file, UTF-8; ConfigError that names it if it cannot be read or is empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    if not text.strip():
        raise ConfigError(f"{path}: is empty")
    return text


def refuse_outputs(outputs: Iterable[Path | str | None], inputs: Iterable[Path | str | None] = ()) -> None:
    """ConfigError for the first of these outputs that must not or cannot be written; None is an option not given.

    An output must not be a run file or another SQLite database, what lies beside one, one of the inputs (or what lies
    beside it), or another output, whatever it is called: files are compared, not names. Nothing is touched.
    """
    asked = [Path(output) for output in outputs if output is not None]
    refuse_shared(asked, inputs)
    for output in asked:
        refuse_run(output)
        _refuse_place(output)


def refuse_folder(folder: Path | str, inputs: Iterable[Path | str | None] = ()) -> None:
    """ConfigError if this folder cannot be made or written into, or is one of the inputs. Nothing is touched."""
    folder = Path(folder)
    refuse_shared([folder], inputs)
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not stat.S_ISDIR(_mode(there)):
        raise ConfigError(f"{there} is no folder; name a folder to write into")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: the folder {there} is read-only; name one that can be written")


def refuse_shared(outputs: Iterable[Path], inputs: Iterable[Path | str | None]) -> None:
    """ConfigError for an output that is also an input or lies beside one, and for two outputs that are one file."""
    outputs = list(outputs)
    for given in (Path(given) for given in inputs if given is not None):
        beside = [given.with_name(given.name + suffix) for suffix in COMPANIONS] if is_database(given) else []
        for output in outputs:
            if is_stream(output):
                continue  # a terminal is read and written to at once
            if _same(output, given):
                raise ConfigError(f"{output} is read by this command and would be overwritten; give another path")
            if any(_same(output, companion) for companion in beside):
                raise ConfigError(_of_a_run(output, given))
    for one, other in combinations(outputs, 2):
        if not is_stream(one) and (_same(one, other) or _differ_in_case(one, other)):
            raise ConfigError(f"{one} and {other} are one file; give every output a file of its own")


def refuse_run(path: Path) -> None:
    """ConfigError if a file written here would replace a run file, another SQLite database, or a part of one."""
    target, is_file = _real(path), not is_stream(path)
    if is_file:
        refuse_companion(target)  # by its name, first: whoever opens and closes `-shm` drops this process's locks on it
    if is_database(target):
        raise ConfigError(f"{path} is a run file or another database and would be overwritten; give another path")
    logs = [target.with_name(target.name + suffix) for suffix in _DATA if is_file]
    if log := next(filter(_mode, logs), None):
        raise ConfigError(f"{path}: {log.name} beside it may hold data of a run of that name; give another path")


def refuse_companion(path: Path) -> None:
    """ConfigError for a path by whose name SQLite or a run keeps something beside a run file.

    `.lock` and `.new` are also others' endings: those are refused where there is a run file, or no file to which they
    could belong, so that they may be all that is left of one.
    """
    name = path.name.lower()
    suffix = next((suffix for suffix in COMPANIONS if name.endswith(suffix) and name != suffix), None)
    if suffix is None:
        return
    run = path.with_name(path.name[: -len(suffix)])
    left_over = _mode(path) and not _mode(run)
    if suffix in _OF_SQLITE or left_over or is_database(run):
        raise ConfigError(_of_a_run(path, run))


def _of_a_run(path: Path, run: Path) -> str:
    return f"{path} is a name that the run file {run.name} uses for itself; give another path"


def is_database(path: Path) -> bool:
    """Whether this is a file that begins as an SQLite database, or as the log of one.

    SQLite looks first, and a plain `open` is used only for what it does not take: closing any descriptor of a database
    would drop the locks that another connection of this process holds on it.
    """
    import sqlite3

    if not stat.S_ISREG(_mode(path)) or path.stat().st_size == 0:
        return False
    try:
        address = f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
            with path.open("rb") as file:
                return file.read(16).startswith(_MAGIC)
    return True  # also one that is damaged, or that we may not read


def _refuse_place(path: Path) -> None:
    """ConfigError for a folder, and where no file can be made."""
    if stat.S_ISDIR(_mode(path)):
        raise ConfigError(f"{path} is a folder; name a file to write")
    if is_stream(path):
        return
    folder = _real(path).parent
    if not stat.S_ISDIR(_mode(folder)):
        raise ConfigError(f"{path}: cannot be written (there is no folder {folder}); its folder must exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: cannot be written (the folder {folder} is read-only); give another path")


def _unwritable(path: Path, error: OSError) -> ConfigError:
    advice = "make room, then run the same command again" if error.errno in _DISK_FULL else "give another path"
    return ConfigError(f"{path}: cannot be written ({error.strerror}); {advice}")


def _replace(target: Path, pieces: Iterable[str]) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        refuse_run(target)  # again: a run may have begun there meanwhile
        partial.replace(target)
    finally:
        with suppress(OSError):  # a read-only disk refuses even that
            partial.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether the path is no file that could be replaced: a pipe, a device, a descriptor of this process."""
    mode = _mode(path)
    return _descriptor(path) is not None or (mode != 0 and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode))


def _mode(path: Path) -> int:
    """What lies there, as `stat` has it, links followed; 0 for nothing, or nothing that can be looked at."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _descriptor(path: Path) -> int | None:
    """The number of the open file that `/dev/stdout` and its like name."""
    folder, _, number = os.path.normpath(path).rpartition("/")
    if folder in ("/dev/fd", "/proc/self/fd") and number.isdecimal():
        return int(number)
    return _STREAMS.get(os.path.normpath(path))


def _write_to_stream(path: Path, pieces: Iterable[str]) -> None:
    """Write to what is open already through a copy of its descriptor: opened anew, `>>` would begin at the start."""
    number = _descriptor(path)
    with open(path if number is None else os.dup(number), "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123
        file.writelines(pieces)


def _same(one: Path, other: Path) -> bool:
    """Whether both are one file: by device and inode where both exist, whatever links and letter case say."""
    try:
        return one.samefile(other)
    except OSError:
        return _real(one) == _real(other)


def _differ_in_case(one: Path, other: Path) -> bool:
    """Whether two paths are one file on a file system that ignores letter case; not if both exist, and so differ."""
    if _mode(one) and _mode(other):
        return False
    first, second = _real(one), _real(other)
    return _same(first.parent, second.parent) and _folded(first.name) == _folded(second.name)


def _real(path: Path) -> Path:
    """The path without links; what is not there yet is named by the links to it."""
    return Path(os.path.realpath(path))  # not `resolve`, which raises for links that go round in a circle


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def sha256(path: Path) -> str:
    """Hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
