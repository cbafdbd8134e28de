"""Opening a run file: whether it is a run file, undamaged, not newer than this program, and writable."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from interalign.errors import ConfigError, InteralignError, StopError
from interalign.files import refuse_companion
from interalign.store.migrations import APPLICATION_ID, VERSION, migrate, read_as_newest

_CHECKED_WHOLE = 16 * 2**20
"""Files up to this size (bytes) are checked page by page when opened; larger ones as they are read."""


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for any thread; ConfigError for anything that is not a run file."""
    try:
        _refuse_foreign(path)
        with sqlite_errors(path):
            connection = _checked(_connect(path, "ro"), path)
            read_as_newest(connection)
            return connection
    except InteralignError:
        if not path.exists():  # taken away meanwhile: whatever SQLite says of that
            raise _missing(path) from None
        raise


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection that can write, to a file made or brought up to date here. The caller holds the lock."""
    if not path.exists() or path.stat().st_size == 0:
        _make(path, migrate)
    _refuse_foreign(path)
    with sqlite_errors(path):
        connection = _checked(_connect(path, "rw"), path)
        try:
            migrate(connection)
            _use_wal(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def refuse_unusable(path: Path) -> None:
    """ConfigError, with nothing touched, for a path where no run file can be written."""
    folder = path.parent
    if not folder.is_dir():
        raise ConfigError(f"{path}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{path}: the folder {folder} is read-only; give a path that can be written")
    if not path.exists() or path.stat().st_size == 0:
        refuse_companion(path)  # not where there is a run: it goes on, whatever it is called
    else:
        _refuse_foreign(path)
        if not os.access(path, os.W_OK):
            raise ConfigError(f"{path} is read-only; make it writable or copy it to another place")


def copy(source: Path, target: Path, changes: Sequence[str]) -> None:
    """A consistent copy of a run file with these SQL statements applied, also of one being written right now.

    ConfigError if the source is no run file or there is something at the target, which is never overwritten.
    """
    with closing(open_for_reading(source)) as reader:
        if target.exists():
            raise ConfigError(f"{target} exists already; give the copy another name")
        refuse_unusable(target)
        _make(target, lambda connection: _copy_into(connection, source, reader, changes))


def _copy_into(
    connection: sqlite3.Connection, source: Path, reader: sqlite3.Connection, changes: Sequence[str]
) -> None:
    try:
        reader.backup(connection)
        connection.execute("PRAGMA journal_mode = DELETE")
        migrate(connection)
        connection.execute("BEGIN")
        for change in changes:
            connection.execute(change)
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        # Pages are copied as they are: what is damaged in the copy is damaged in the source.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
            raise as_ours(source, error) from error
        raise


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """SQLite's errors become ours, with the file's name and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise as_ours(path, error) from error


def as_ours(path: Path, error: sqlite3.Error) -> InteralignError:
    """ConfigError for a file that cannot be used as it is, StopError for what the same command may get over."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigError(f"{path} is not a run file (not SQLite); give another path, it was left as it is")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
        return ConfigError(_damaged(path, str(error)))
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return ConfigError(f"{path} cannot be opened ({error}); check the rights of the file and its folder")
    return StopError(
        f"{path} cannot be written or read ({error}); everything acknowledged is kept: see to the disk, "
        "then run the same command again"
    )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10)


def _make(path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Make a file under another name, then move it into place: a run file is never half made."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    try:
        with sqlite_errors(path), closing(_connect(new, "rwc")) as connection:
            fill(connection)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise ConfigError(f"{path}: this file system cannot do write-ahead logging; put the run on a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -4000")


def _checked(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """The connection, unless the file is damaged or newer than this program."""
    try:
        _refuse_version(path, connection.execute("PRAGMA user_version").fetchone()[0])
        # Not the size of the path: another process may take a run that never began away while it is open here.
        pages, size = (connection.execute(f"PRAGMA {of}").fetchone()[0] for of in ("page_count", "page_size"))
        if pages * size <= _CHECKED_WHOLE:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise ConfigError(_damaged(path, found))
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_foreign(path: Path) -> None:
    """ConfigError unless the file says that it is ours and not newer. Nothing is touched, no lock taken.

    SQLite does the reading, never a plain `open`: closing any descriptor of the file would drop the locks that another
    connection of this process holds on it, and with them the log of whoever is writing.
    """
    if not path.exists():
        raise _missing(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the path of a file")
    # Immutable: a file of another program gets no log of ours beside it. Not where a log exists: it may hold page one.
    logged = path.with_name(path.name + "-wal").exists()
    with sqlite_errors(path), closing(_connect(path, "ro" if logged else "ro&immutable=1")) as connection:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise ConfigError(f"{path} is another program's file; give another path, it was left as it is")
        _refuse_version(path, connection.execute("PRAGMA user_version").fetchone()[0])


def _refuse_version(path: Path, version: int) -> None:
    if version > VERSION:
        raise ConfigError(
            f"{path} was written by a newer interalign (file version {version}, this one knows {VERSION}); upgrade it"
        )


def _missing(path: Path) -> ConfigError:
    return ConfigError(f"{path} does not exist; `interalign simulate {path}` starts a run there")


def _damaged(path: Path, how: str) -> str:
    return f"{path} is damaged ({' '.join(how.split())}); restore a copy, or start another run file"
