"""Texts, deduplicated within a tree and delta-encoded: a prompt repeats the conversation, a verdict quotes a reply.

A long text of a stream (the prompts of one role) is stored as its delta to the one before: raw deflate with the base as
preset dictionary. Every 25th is stored whole, which bounds the chain that a reader decodes.
"""

import hashlib
import json
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from interalign.store.pending_inserts import PendingInserts

_CACHED_TREES = 1024
"""Trees whose texts are cached at most; a finished tree is dropped at once."""
_CACHED_AS_TEXT = 20_000
"""Characters up to which a text is cached as it is, longer ones by their digest."""
_LEAST_DELTA = 400
"""Bytes from which a text is stored as a delta to the one before it in its stream."""
_LONGEST_CHAIN = 24
"""Deltas in a row after which a text is stored whole again: the most that a reader must decode."""
_WINDOW = 32_768
"""Bytes back that deflate can refer to."""
_LEAST_WINDOW_BITS = 12
"""Deflate clears tables as large as its window before it begins: for a prompt of 2 kB, a window of 4 kB takes a sixth
of the time of one of 32 kB."""

# One encoder for all: building one costs as much as encoding a prompt.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


class _Base(NamedTuple):
    """The last long text of a stream: the base of the next delta."""

    id: int
    data: bytes
    """Its last bytes, as many as a delta can refer to."""
    chain: int
    """Deltas between it and a text stored whole."""


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
    """SHA-256 of this text. Prompts repeat their history, so digests are cached."""
    return _cached_digest(text) if len(text) <= 4096 else _digest(text)


def text_digests(texts: Iterable[str]) -> bytes:
    """The digests of these texts, concatenated."""
    return b"".join([_cached_digest(text) if len(text) <= 4096 else _digest(text) for text in texts])


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


_cached_digest = lru_cache(maxsize=4096)(_digest)


def tree_prefix(tree: str) -> bytes:
    """First 5 bytes of all keys of this tree: what is written together is adjacent in the index."""
    return text_digest(tree)[:5]


class TreeTexts:
    """The texts of one tree: ids of known ones, new ones inserted. Used inside write transactions only."""

    def __init__(self, connection: sqlite3.Connection, rows: PendingInserts, stored: Iterable[int]) -> None:
        """`stored`: ids of this tree's texts that the file has already."""
        self._rows = rows
        self.known: dict[str, int] = {}
        """Ids of the texts seen so far, except the very long ones."""
        self._long: dict[bytes, int] = {}
        self._bases: dict[str, _Base] = {}
        for text_id in stored:
            base, body = _row(connection, text_id)
            if base is None:  # a delta is a role's own prompt, which is unlikely to come again
                self._remember(decode_text(body), text_id)

    def id_of(self, text: str, stream: str | None = None) -> int:
        """The text's id in this tree. Long texts of one `stream` are expected to be similar: stored as deltas."""
        known = self.known.get(text) if len(text) <= _CACHED_AS_TEXT else self._long.get(_digest(text))
        if known is None:
            known = self._add(text, stream)
            self._remember(text, known)
        return known

    def _remember(self, text: str, text_id: int) -> None:
        if len(text) <= _CACHED_AS_TEXT:
            self.known[text] = text_id
        else:
            self._long[_digest(text)] = text_id

    def _add(self, text: str, stream: str | None) -> int:
        if stream is None or len(text) < _LEAST_DELTA:
            return self._insert(None, encode_text(text))
        return self._insert_delta(text, stream)

    def _insert_delta(self, text: str, stream: str) -> int:
        data = text.encode("utf-8", "surrogatepass")
        base = self._bases.get(stream)
        if base is None or base.chain == _LONGEST_CHAIN:
            newest = _Base(self._insert(None, encode_text(text)), data[-_WINDOW:], 0)
        else:
            text_id = self._insert(base.id, _encode_delta(data, base.data))
            newest = _Base(text_id, data[-_WINDOW:], base.chain + 1)
        self._bases[stream] = newest
        return newest.id

    def _insert(self, base: int | None, body: str | bytes) -> int:
        text_id = self._rows.new_id("texts")
        self._rows.add("INSERT INTO texts VALUES (?, ?, ?)", (text_id, base, body))
        return text_id


class TextWriter:
    """The texts of the trees being written. Used inside write transactions only."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        rows: PendingInserts,
        stored: Callable[[sqlite3.Connection, str], Iterable[int]],
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
            self._rows.insert()  # nothing of this tree may still be pending when the file is read
            stored = self._stored(self._connection, tree)
            found = self._trees[tree] = TreeTexts(self._connection, self._rows, stored)
            if len(self._trees) > _CACHED_TREES:
                self._trees.popitem(last=False)
        return found

    def forget(self, tree: str | None = None) -> None:
        """Drop what is cached of one tree (it is finished) or of all (after a rollback the ids may be wrong)."""
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
    return _decode_delta(body, _read_bytes(connection, base))


def _row(connection: sqlite3.Connection, text_id: int) -> tuple[int | None, Any]:
    row: tuple[int | None, Any] = connection.execute("SELECT base, body FROM texts WHERE id = ?", (text_id,)).fetchone()
    return row


def _encode_delta(data: bytes, base: bytes) -> bytes:
    bits = min(max((len(base) + len(data)).bit_length(), _LEAST_WINDOW_BITS), zlib.MAX_WBITS)
    packer = zlib.compressobj(level=1, wbits=-bits, memLevel=bits - 7, zdict=base)
    return packer.compress(data) + packer.flush()


def _decode_delta(body: bytes, base: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=-15, zdict=base)
    return unpacker.decompress(body) + unpacker.flush()
