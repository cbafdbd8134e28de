"""Texts, stored once each: a prompt repeats the conversation, a reply becomes a node, a verdict quotes a reply."""

import hashlib
import json
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from interalign.store.pending_inserts import Rows

_TREES = 1024
"""Trees whose texts the writer remembers at most; a tree that is over is forgotten at once."""
_REMEMBERED = 20_000
"""Characters up to which a text is remembered as it is, longer ones by their digest."""
_LONG = 400
"""Bytes from which a text is stored as its difference to the one before it in its series."""
_STEPS = 24
"""Differences that may follow each other before a text is stored whole again: what a reader must undo at most."""
_WINDOW = 32_768
"""Bytes back that deflate can refer to."""
_LEAST_WINDOW_BITS = 12
"""Deflate fills tables as large as its window before it begins: for a prompt of 2 kB a window of 4 kB takes a sixth of
the time that one of 32 kB takes."""

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


def text_digests(texts: Iterable[str]) -> bytes:
    """The digests of these texts, one behind the other."""
    return b"".join([_cached_digest(text) if len(text) <= 4096 else _digest(text) for text in texts])


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


_cached_digest = lru_cache(maxsize=4096)(_digest)


def tree_prefix(tree: str) -> bytes:
    """First 5 bytes of all keys of this tree, so that what is written together lies together in the index."""
    return text_digest(tree)[:5]


class TreeTexts:
    """The texts of one tree: ids of known ones, new ones inserted. Used within the writer's transactions only."""

    def __init__(self, connection: sqlite3.Connection, rows: Rows, stored: Iterable[int]) -> None:
        """`stored`: ids of this tree's texts that the file has already."""
        self._rows = rows
        self.known: dict[str, int] = {}
        """Ids of the texts seen so far, but for the very long ones."""
        self._long: dict[bytes, int] = {}
        self._latest: dict[str, _Latest] = {}
        for text_id in stored:
            base, body = _row(connection, text_id)
            if base is None:  # a difference is a role's own prompt, which hardly comes again
                self._remember(decode_text(body), text_id)

    def id_of(self, text: str, series: str | None = None) -> int:
        """The text's id in this tree. Long texts of one `series` are expected to be alike: stored as differences."""
        known = self.known.get(text) if len(text) <= _REMEMBERED else self._long.get(_digest(text))
        if known is None:
            known = self._add(text, series)
            self._remember(text, known)
        return known

    def _remember(self, text: str, text_id: int) -> None:
        if len(text) <= _REMEMBERED:
            self.known[text] = text_id
        else:
            self._long[_digest(text)] = text_id

    def _add(self, text: str, series: str | None) -> int:
        if series is None or len(text) < _LONG:
            return self._insert(None, encode_text(text))
        return self._insert_in_series(text, series)

    def _insert_in_series(self, text: str, series: str) -> int:
        data = text.encode("utf-8", "surrogatepass")
        base = self._latest.get(series)
        if base is None or base.steps == _STEPS:
            latest = _Latest(self._insert(None, encode_text(text)), data[-_WINDOW:], 0)
        else:
            text_id = self._insert(base.id, _shrink(data, base.data))
            latest = _Latest(text_id, data[-_WINDOW:], base.steps + 1)
        self._latest[series] = latest
        return latest.id

    def _insert(self, base: int | None, body: str | bytes) -> int:
        text_id = self._rows.new_id("texts")
        self._rows.add("INSERT INTO texts VALUES (?, ?, ?)", (text_id, base, body))
        return text_id


class TextWriter:
    """The texts of the trees being written. Used within the writer's transactions only."""

    def __init__(
        self, connection: sqlite3.Connection, rows: Rows, stored: Callable[[sqlite3.Connection, str], Iterable[int]]
    ) -> None:
        """`stored` looks up the ids of the texts that the file has of a tree."""
        self._connection = connection
        self._rows = rows
        self._stored = stored
        self._trees: OrderedDict[str, TreeTexts] = OrderedDict()

    def of(self, tree: str) -> TreeTexts:
        """The texts of this tree."""
        found = self._trees.get(tree)
        if found is None:
            self._rows.insert()  # nothing of this tree may still be waiting when the file is asked
            stored = self._stored(self._connection, tree)
            found = self._trees[tree] = TreeTexts(self._connection, self._rows, stored)
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
    bits = min(max((len(base) + len(data)).bit_length(), _LEAST_WINDOW_BITS), zlib.MAX_WBITS)
    packer = zlib.compressobj(level=1, wbits=-bits, memLevel=bits - 7, zdict=base)
    return packer.compress(data) + packer.flush()


def _unshrink(body: bytes, base: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=-15, zdict=base)
    return unpacker.decompress(body) + unpacker.flush()
