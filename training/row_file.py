"""A training file as people have them, to numbered rows: JSON lines, a JSON array or Parquet, also in UTF-16 or gzip.

A file of another kind is refused by its name, with what to do.
"""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

from interalign.errors import ConfigError

_REFUSED: Final = {
    b"SQLite format 3\0": "is a run file; write its rows with `interalign export` first",
    b"PK\3\4": "is a zip archive; unpack it first",
    b"BZh": "is packed with bzip2; unpack it first (gzip is read as it is)",
    b"\xfd7zXZ": "is packed with xz; unpack it first (gzip is read as it is)",
    b"\x28\xb5\x2f\xfd": "is packed with zstd; unpack it first (gzip is read as it is)",
    b"ARROW1": "is an Arrow file; write JSON lines with `datasets.Dataset.from_file(FILE).to_json(OUT)`",
}
_PARQUET: Final = b"PAR1"
_GZIP: Final = b"\x1f\x8b"
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_COLUMNS: Final = {"prompt", "chosen", "messages", "instruction", "text", "question", "conversations", "completion"}
"""Names by which the head of a table is known."""


class RowFile(NamedTuple):
    """The rows of a training file."""

    unit: str
    """What their numbers count: `line`, or `row` in a Parquet file or a JSON array."""
    rows: Iterator[tuple[int, Any]]
    """Each row's number, from 1, and its content: the bytes of a line that is not blank, or a value read already."""


@contextmanager
def open_rows(path: Path) -> Iterator[RowFile]:
    """The rows of a file, read as they are asked for; ConfigError for a file of another kind or a damaged one."""
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        for magic, what in _REFUSED.items():
            if head.startswith(magic):
                raise ConfigError(f"{path} {what}")
        try:
            if head.startswith(_PARQUET):
                yield RowFile("row", enumerate(_parquet(path, file), start=1))
            else:
                yield _text(path, _as_utf8(file, head))
        except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is damaged ({error}); make it again") from None


def _parquet(path: Path, file: BinaryIO) -> Iterator[Any]:
    from pyarrow import ArrowException, parquet

    try:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=1000):
            yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise ConfigError(f"{path} cannot be read as Parquet ({' '.join(str(error).split())})") from None


def _as_utf8(file: BinaryIO, head: bytes) -> BinaryIO:
    """The same text unpacked, in UTF-8, without a byte order mark."""
    if head.startswith(_GZIP):
        file = cast(BinaryIO, gzip.GzipFile(fileobj=file))
        head = file.read(16)
        file.seek(0)
    if head.startswith(_UTF16):
        return io.BytesIO(file.read().decode("utf-16").encode())
    file.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)
    return file


def _text(path: Path, file: BinaryIO) -> RowFile:
    # Line by line as bytes, so that a broken byte is reported with its line.
    lines = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    number, first = next(lines, (0, b""))
    if first.lstrip().startswith(b"["):
        return _array(path, [(number, first), *lines])
    if not first or _is_json(first):
        return RowFile("line", chain([(number, first)] if first else [], lines))
    kept = [(number, first), *lines]
    _refuse_table(path, first)
    _refuse_spread_objects(path, kept)
    return RowFile("line", iter(kept))


def _array(path: Path, lines: Sequence[tuple[int, bytes]]) -> RowFile:
    """One JSON array of rows; lines that are an array each are lines all the same."""
    try:
        return RowFile("row", enumerate(json.loads(b"".join(line for _, line in lines)), start=1))
    except ValueError as error:
        if len(lines) > 1 and _is_json(lines[0][1]):
            return RowFile("line", iter(lines))
        raise ConfigError(f"{path} begins as a JSON array, but is no JSON ({error})") from None


def _refuse_table(path: Path, first: bytes) -> None:
    columns = {part.strip(' "\r\n') for part in first.decode(errors="replace").replace("\t", ",").split(",")}
    if len(columns) > 1 and columns & _COLUMNS:
        raise ConfigError(
            f"{path} is a table (CSV), and a row here is a conversation: write JSON lines as docs/data-format.md shows "
            "them, with Python's csv.DictReader and json.dumps"
        )


def _refuse_spread_objects(path: Path, lines: Sequence[tuple[int, bytes]]) -> None:
    try:
        _, end = json.JSONDecoder().raw_decode(b"".join(line for _, line in lines).decode().lstrip())
    except ValueError:
        return
    if end > len(lines[0][1]):
        raise ConfigError(f"{path} holds JSON objects of several lines each; write one row a line (`jq -c . FILE`)")


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
