"""Texts, stored once each: a prompt repeats the conversation, a reply becomes a node, a verdict quotes a reply."""

import hashlib
import json
import sqlite3
import zlib
from collections import OrderedDict
from functools import lru_cache
from typing import Any, NamedTuple

_TREES = 1024
"""Trees whose texts the writer remembers at most; a tree that is over is forgotten at once."""
_LONG = 400
"""Bytes from which a text is stored as its difference to the one before it in its series."""
_STEPS = 24
"""Differences that may follow each other before a text is stored whole again: what a reader must undo at most."""


# One encoder for all: building one costs as much as encoding a prompt.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


class _Latest(NamedTuple):
    id: int
    data: bytes
    steps: int


class _Remembered(NamedTuple):
    """What the writer knows of a tree in progress."""

    ids: dict[str, int]
    latest: dict[str, _Latest]
    """The last long text of every series."""


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
    return encode_text(_canonical(value))


def decode_json(stored: str | bytes) -> Any:
    """The value that `encode_json` was given."""
    return json.loads(decode_text(stored))


@lru_cache(maxsize=1024)
def tree_prefix(tree: str) -> bytes:
    """First 5 bytes of all keys of this tree, so that what is written together lies together in the index."""
    return hashlib.sha256(tree.encode("utf-8", "surrogatepass")).digest()[:5]


class TextWriter:
    """Ids of a tree's texts, new ones inserted. Lives in the writer's thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._trees: OrderedDict[str, _Remembered] = OrderedDict()

    def forget(self, tree: str | None = None) -> None:
        """Drop what is remembered of one tree (it is over) or of all (after a rollback the ids may be wrong)."""
        if tree is None:
            self._trees.clear()
        else:
            self._trees.pop(tree, None)

    def id_of(self, tree: str, text: str, series: str | None = None) -> int:
        """The text's id in this tree. Long texts of one `series` are expected to be alike: stored as differences."""
        remembered = self._remembered(tree)
        known = remembered.ids.get(text)
        if known is None:
            data = text.encode("utf-8", "surrogatepass")
            key = tree_prefix(tree) + hashlib.sha256(data).digest()[:11]
            row = self._connection.execute("SELECT id FROM texts WHERE key = ?", (key,)).fetchone()
            known = row[0] if row else self._insert(key, text, data, remembered, series)
            remembered.ids[text] = known
        return known

    def _remembered(self, tree: str) -> _Remembered:
        found = self._trees.get(tree)
        if found is None:
            found = self._trees[tree] = _Remembered({}, {})
            if len(self._trees) > _TREES:
                self._trees.popitem(last=False)
        return found

    def _insert(self, key: bytes, text: str, data: bytes, remembered: _Remembered, series: str | None) -> int:
        if series is None or len(data) < _LONG:
            return self._insert_row(key, None, encode_text(text))
        base = remembered.latest.get(series)
        if base is None or base.steps == _STEPS:
            latest = _Latest(self._insert_row(key, None, encode_text(text)), data, 0)
        else:
            latest = _Latest(self._insert_row(key, base.id, _shrink(data, base.data)), data, base.steps + 1)
        remembered.latest[series] = latest
        return latest.id

    def _insert_row(self, key: bytes, base: int | None, body: str | bytes) -> int:
        cursor = self._connection.execute("INSERT INTO texts (key, base, body) VALUES (?, ?, ?)", (key, base, body))
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
