"""Rows to Parquet, in one file or in several as `datasets` names them; a row group at a time is held in memory."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from interalign.errors import ConfigError
from interalign.files import write_file_atomically, write_folder_atomically

_AT_ONCE: Final = 1000
"""Rows of a row group: no more are held."""
_PART: Final = "part-{:05}"
"""What a file is called until it is known how many there are."""
_SHARD: Final = "train-{:05}-of-{:05}.parquet"


def write_parquet(found: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write rows to a file and return their number. Columns get the types of the first rows; no rows, no column.

    The file appears whole or not at all. Raises ConfigError if it cannot be written or pyarrow is not installed.
    """
    _refuse_missing_library(path)
    rows = _Groups(found)
    write_file_atomically(path, lambda target: rows.write(target, most=None))
    return rows.written


def write_parquet_shards(found: Iterable[Mapping[str, Any]], folder: Path, rows_per_file: int) -> int:
    """The same as `train-00000-of-00005.parquet` and so on in a new folder, each of so many rows but the last.

    At least one file is written. The folder appears whole or not at all; ConfigError for one that has something in it.
    """
    _refuse_missing_library(folder)
    rows = _Groups(found)

    def write(target: Path) -> None:
        files = 0
        while files == 0 or not rows.at_end:
            rows.write(target / _PART.format(files), most=rows_per_file)
            files += 1
        for number in range(files):
            (target / _PART.format(number)).rename(target / _SHARD.format(number, files))

    write_folder_atomically(folder, write)
    return rows.written


class _Groups:
    """Rows that come one by one, and are written as row groups of the schema that the first of them have."""

    def __init__(self, found: Iterable[Mapping[str, Any]]) -> None:
        self.written = 0
        self._rows = iter(found)
        self._next: list[Mapping[str, Any]] | None = None
        self._schema: Any = None

    @property
    def at_end(self) -> bool:
        """Whether no row is left."""
        return not self._ahead()

    def write(self, target: Path, most: int | None) -> None:
        """Write the next rows, `most` of them or all that are left."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._schema is None:
            self._schema = pa.Table.from_pylist(self._ahead()).schema
        with pq.ParquetWriter(target, self._schema) as writer:
            for some in self._up_to(most):
                writer.write_table(pa.Table.from_pylist(some, schema=self._schema))
                self.written += len(some)

    def _up_to(self, most: int | None) -> Iterator[list[Mapping[str, Any]]]:
        left = most
        while (left is None or left > 0) and (some := self._ahead()):
            taken = some if left is None else some[:left]
            self._next = some[len(taken) :]
            left = None if left is None else left - len(taken)
            yield taken

    def _ahead(self) -> list[Mapping[str, Any]]:
        """The next rows, read but not written; empty if none is left."""
        if not self._next:
            self._next = list(islice(self._rows, _AT_ONCE))
        return self._next


def _refuse_missing_library(path: Path) -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"{path}: Parquet is written by pyarrow, not installed; `pip install pyarrow`, or name a .jsonl file"
        ) from None
