"""Texts, stored once each: a prompt repeats the conversation, a reply becomes a node, a verdict quotes a reply."""

import hashlib
import json
import sqlite3
import zlib
from collections import OrderedDict
from functools import lru_cache
from typing import Any, NamedTuple

from interalign.rows import Rows

_TREES = 1024
"""Trees whose texts the writer remembers at most; a tree that is over is forgotten at once."""
_REMEMBERED = 20_000
"""Characters up to which a text is remembered; longer ones are found again by their key."""
_LONG = 400
"""Bytes from which a text is stored as its difference to the one before it in its series."""
_STEPS = 24
"""Differences that may follow each other before a text is stored whole again: what a reader must undo at most."""
_WINDOW = 32_768
"""Bytes back that deflate can refer to."""

# One encoder for all: building one costs as much as encoding a prompt.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


class _Latest(NamedTuple):
    """The last long text of a series."""

    id: int
    data: bytes
    """Its end, as much as a difference can refer to."""
    steps: int
    """Differences between it and a text stored whole."""


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


def text_digest(text: str) -> bytes:
    """32 bytes that stand for this text. Prompts repeat their history, so digests are kept for a while."""
    return _cached_digest(text) if len(text) <= 4096 else _digest(text)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


_cached_digest = lru_cache(maxsize=4096)(_digest)


def tree_prefix(tree: str) -> bytes:
    """First 5 bytes of all keys of this tree, so that what is written together lies together in the index."""
    return text_digest(tree)[:5]


class TreeTexts:
    """The texts of one tree: ids of known ones, new ones inserted. Lives in the writer's thread."""

    def __init__(self, connection: sqlite3.Connection, rows: Rows, tree: str) -> None:
        rows.insert()  # what is found here is what the file has: nothing of this tree may still be waiting
        self._connection = connection
        self._rows = rows
        self._prefix = tree_prefix(tree)
        self.known: dict[str, int] = {}
        """Ids of the texts seen so far, but for the very long ones."""
        self._long: dict[bytes, int] = {}
        self._latest: dict[str, _Latest] = {}
        find = "SELECT 1 FROM texts WHERE key BETWEEN ? AND ?"
        self._began_empty = connection.execute(find, (self._prefix, self._prefix + b"\xff" * 11)).fetchone() is None

    def id_of(self, text: str, series: str | None = None) -> int:
        """The text's id in this tree. Long texts of one `series` are expected to be alike: stored as differences."""
        known = self.known.get(text)
        if known is None:
            key = self._prefix + text_digest(text)[:11]
            known = self._find(key) or self._add(key, text, series)
            if len(text) <= _REMEMBERED:
                self.known[text] = known
            else:
                self._long[key] = known
        return known

    def _find(self, key: bytes) -> int | None:
        """The id in the file, if it has the text. A tree that had none to begin with has only those known here."""
        known = self._long.get(key)
        if known is not None or self._began_empty:
            return known
        row = self._connection.execute("SELECT id FROM texts WHERE key = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def _add(self, key: bytes, text: str, series: str | None) -> int:
        if series is None or len(text) < _LONG:
            return self._insert(key, None, encode_text(text))
        return self._insert_in_series(key, text, series)

    def _insert_in_series(self, key: bytes, text: str, series: str) -> int:
        data = text.encode("utf-8", "surrogatepass")
        base = self._latest.get(series)
        if base is None or base.steps == _STEPS:
            latest = _Latest(self._insert(key, None, encode_text(text)), data[-_WINDOW:], 0)
        else:
            text_id = self._insert(key, base.id, _shrink(data, base.data))
            latest = _Latest(text_id, data[-_WINDOW:], base.steps + 1)
        self._latest[series] = latest
        return latest.id

    def _insert(self, key: bytes, base: int | None, body: str | bytes) -> int:
        text_id = self._rows.new_id("texts")
        self._rows.add("INSERT INTO texts VALUES ROWS", (text_id, key, base, body))
        return text_id


class TextWriter:
    """The texts of the trees being written. Lives in the writer's thread."""

    def __init__(self, connection: sqlite3.Connection, rows: Rows) -> None:
        self._connection = connection
        self._rows = rows
        self._trees: OrderedDict[str, TreeTexts] = OrderedDict()

    def of(self, tree: str) -> TreeTexts:
        """The texts of this tree."""
        found = self._trees.get(tree)
        if found is None:
            found = self._trees[tree] = TreeTexts(self._connection, self._rows, tree)
            if len(self._trees) > _TREES:
                self._trees.popitem(last=False)
        return found

    def forget(self, tree: str | None = None) -> None:
        """Drop what is remembered of one tree (it is over) or of all (after a rollback the ids may be wrong)."""
        if tree is None:
            self._trees.clear()
        else:
            self._trees.pop(tree, None)


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
