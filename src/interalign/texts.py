"""Texts, stored once each: a prompt repeats the conversation, a reply becomes a node, a verdict quotes a reply."""

import hashlib
import json
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple

_REMEMBERED = 4_000_000
"""Characters of text whose ids the writer keeps in memory."""
_SERIES = 1024
"""Series whose last text the writer keeps in memory."""
_LONG = 400
"""Bytes from which a text is stored as its difference to the one before it in its series."""
_STEPS = 24
"""Differences that may follow each other before a text is stored whole again: what a reader must undo at most."""


class _Latest(NamedTuple):
    id: int
    data: bytes
    steps: int


def encode_text(text: str) -> str | bytes:
    """What SQLite gets: the text, or its bytes if it holds lone surrogates, which SQLite's text cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def decode_text(stored: str | bytes) -> str:
    """The text that `encode_text` was given."""
    return stored if isinstance(stored, str) else stored.decode("utf-8", "surrogatepass")


def encode_json(value: Any) -> str | bytes:
    """Canonical JSON: equal values, equal text. Surrogates stay as they are, since escaped pairs would merge."""
    return encode_text(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def decode_json(stored: str | bytes) -> Any:
    """The value that `encode_json` was given."""
    return json.loads(decode_text(stored))


class TextWriter:
    """Ids of texts, new ones inserted. Lives in the writer's thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.forget()

    def forget(self) -> None:
        """Drop what is remembered (after a rollback the ids may be wrong)."""
        self._ids: dict[str, int] = {}
        self._remembered = 0
        self._series: OrderedDict[Hashable, _Latest] = OrderedDict()

    def id_of(self, text: str, series: Hashable = None) -> int:
        """The text's id. Long texts of one `series` are expected to be alike and are stored as differences."""
        known = self._ids.get(text)
        if known is not None:
            return known
        data = text.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(data).digest()[:16]
        row = self._connection.execute("SELECT id FROM texts WHERE hash = ?", (digest,)).fetchone()
        text_id: int = row[0] if row else self._insert(digest, text, data, series)
        self._remember(text, text_id)
        return text_id

    def _remember(self, text: str, text_id: int) -> None:
        self._remembered += len(text)
        if self._remembered > _REMEMBERED:
            self._ids, self._remembered = {}, len(text)
        self._ids[text] = text_id

    def _insert(self, digest: bytes, text: str, data: bytes, series: Hashable) -> int:
        if series is None or len(data) < _LONG:
            return self._insert_row(digest, None, encode_text(text))
        base = self._series.pop(series, None)
        if base is None or base.steps == _STEPS:
            latest = _Latest(self._insert_row(digest, None, encode_text(text)), data, 0)
        else:
            latest = _Latest(self._insert_row(digest, base.id, _shrink(data, base.data)), data, base.steps + 1)
        self._series[series] = latest
        if len(self._series) > _SERIES:
            self._series.popitem(last=False)
        return latest.id

    def _insert_row(self, digest: bytes, base: int | None, body: str | bytes) -> int:
        cursor = self._connection.execute("INSERT INTO texts (hash, base, body) VALUES (?, ?, ?)", (digest, base, body))
        assert cursor.lastrowid is not None
        return cursor.lastrowid


def read_text(connection: sqlite3.Connection, text_id: int) -> str:
    """The text with this id."""
    base, body = _row(connection, text_id)
    return decode_text(body) if base is None else _read_bytes(connection, text_id).decode("utf-8", "surrogatepass")


def _read_bytes(connection: sqlite3.Connection, text_id: int) -> bytes:
    base, body = _row(connection, text_id)
    if base is None:
        return body.encode() if isinstance(body, str) else body
    return _unshrink(body, _read_bytes(connection, base))


def _row(connection: sqlite3.Connection, text_id: int) -> tuple[int | None, Any]:
    row: tuple[int | None, Any] = connection.execute("SELECT base, body FROM texts WHERE id = ?", (text_id,)).fetchone()
    return row


def _shrink(data: bytes, base: bytes) -> bytes:
    packer = zlib.compressobj(level=1, wbits=-15, zdict=base)
    return packer.compress(data) + packer.flush()


def _unshrink(body: bytes, base: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=-15, zdict=base)
    return unpacker.decompress(body) + unpacker.flush()
