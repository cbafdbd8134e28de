"""A file to numbered rows: JSON lines, JSON, CSV or TSV, Parquet; also in gzip or UTF-16."""

import codecs
import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from interalign.errors import ConfigError

_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Bad(NamedTuple):
    """A row that could not even be read."""

    reason: str


class TableRow(NamedTuple):
    """A row and where it stands: `line 3`, or `row 3` of a Parquet file or a JSON array."""

    where: str
    value: Any
    """Plain JSON, or `Bad`."""


def read_table(path: Path) -> list[TableRow]:
    """All rows of a file, blank lines left out; ConfigError for a file that cannot be read at all."""
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        if content.startswith(b"PAR1"):
            return [
                TableRow(f"row {number}", plain(row)) for number, row in enumerate(_parquet(path, content), start=1)
            ]
        return list(_rows(content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")))
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise _unreadable(path, str(error)) from None


def holds_json_lines(path: Path) -> bool:
    """Whether the first line shows JSON lines in UTF-8: then `stream_lines` has the rows of `read_table`."""
    if not path.is_file():  # a pipe could not be read a second time
        return False
    try:
        with path.open("rb") as file:
            first = next((line for line in file if line.removeprefix(codecs.BOM_UTF8).strip()), b"").decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return False
    begins = next((line for line in first.splitlines() if line.strip()), "")
    return begins.lstrip().startswith(("{", '"')) and _is_json(begins)


def stream_lines(path: Path) -> Iterator[TableRow]:
    """The rows of a file of JSON lines, one at a time in memory; errors as `read_table`."""
    at = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                row = text.decode("utf-8").removesuffix("\n")
                at += len(text)
                if row.strip():
                    yield TableRow(f"line {number}", _parsed(row))
    except UnicodeDecodeError as error:
        raise _unreadable(path, _told(error, at)) from None
    except OSError as error:
        raise _unreadable(path, str(error)) from None


def _unreadable(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"{path}: cannot be read ({reason}); give JSON lines, JSON, CSV or Parquet")


def _told(error: UnicodeDecodeError, at: int) -> str:
    """The error as it is told of a whole file, in which the text begins `at` bytes from its beginning."""
    if error.end - error.start == 1:
        what = f"byte 0x{error.object[error.start]:02x} in position {at + error.start}"
    else:
        what = f"bytes in position {at + error.start}-{at + error.end - 1}"
    return f"'{error.encoding}' codec can't decode {what}: {error.reason}"


def plain(value: Any) -> Any:
    """The value as JSON has it: a missing number is null, what JSON has no form for is a text."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _parquet(path: Path, content: bytes) -> list[Any]:
    try:
        from pyarrow import ArrowException, BufferReader, parquet
    except ImportError:
        raise ConfigError(f"{path}: Parquet needs pyarrow; pip install pyarrow, or write JSON lines") from None
    try:
        rows: list[Any] = parquet.read_table(BufferReader(content)).to_pylist()
    except (ArrowException, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())[:200]})") from None
    return rows


def _rows(content: str) -> Iterator[TableRow]:
    first = next((line for line in content.splitlines() if line.strip()), "")
    if not first.lstrip().startswith(("{", "[", '"')) or _is_header(first):
        return _csv(content)
    if not _is_json(first) or first.lstrip().startswith("["):
        try:
            whole = json.loads(content)
        except (ValueError, RecursionError):
            return _lines(content)
        if isinstance(whole, list) and not (first.strip().endswith("]") and "\n" in content.strip()):
            return (TableRow(f"row {number}", plain(row)) for number, row in enumerate(whole, start=1))
        return iter([TableRow("row 1", plain(whole))]) if isinstance(whole, dict) else _lines(content)
    return _lines(content)


def _is_header(first: str) -> bool:
    """Whether a line that begins with a quote is the head of a table, and no JSON text."""
    return first.lstrip().startswith('"') and not _is_json(first)


def _lines(content: str) -> Iterator[TableRow]:
    # Not `splitlines`: JSON texts may hold line separators of Unicode as they are.
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield TableRow(f"line {number}", _parsed(line))


def _parsed(line: str) -> Any:
    try:
        return plain(json.loads(line))
    except (ValueError, RecursionError) as error:
        return Bad(f"not JSON ({error})")


def _is_json(line: str) -> bool:
    return not isinstance(_parsed(line), Bad)


def _csv(content: str) -> Iterator[TableRow]:
    head = content.lstrip().partition("\n")[0]
    delimiter = max(",\t;|", key=lambda sign: (head.count(sign), sign == ","))
    lines = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter)
    try:
        names: list[str] = []
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = [cell.strip() for cell in cells]
                continue
            yield TableRow(f"line {lines.line_num}", _record(names, cells))
    except csv.Error as error:
        yield TableRow(f"line {lines.line_num}", Bad(f"not CSV ({error})"))


def _record(names: list[str], cells: list[str]) -> Any:
    if len(cells) > len(names):
        return Bad(f"has {len(cells)} cells, but the head has {len(names)} names; put texts with commas in quotes")
    if len(set(names)) < len(names):
        return Bad("two columns have the same name")
    return dict(zip(names, cells, strict=False))
