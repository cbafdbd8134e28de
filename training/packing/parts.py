"""Trees of rows cut, or put together, into parts of about the size that one forward pass should read."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from interalign.training.packing.trie import Trie, TrieRow, build_trie, shared_nodes, sorted_order

_SMALL = 1024
"""Trees that fit together into as many tokens are read together: a mask of that size costs next to nothing."""


class Part(NamedTuple):
    """What one forward pass reads."""

    rows: tuple[int, ...]
    """Places of the rows whose nodes it has, in the order of `trie.paths`."""
    trie: Trie


def parts(trees: Sequence[Sequence[int]], rows: Sequence[TrieRow], max_tokens: int | None) -> list[Part]:
    """The rows of each tree (their places in `rows`) in parts of at most `max_tokens`, None for no limit.

    A tree that is larger is cut between its subtrees, and each part reads the path from the root to its subtrees again;
    a row that is longer by itself is a part of its own. Two trees share a part only where both are small.
    """
    cut = [piece for tree in trees for piece in _cut(tree, rows, max_tokens)]
    return [Part(tuple(part), build_trie([rows[place] for place in part])) for part in _joined(cut, max_tokens)]


class _Piece(NamedTuple):
    rows: list[int]
    size: int


def _cut(tree: Sequence[int], rows: Sequence[TrieRow], max_tokens: int | None) -> Iterator[_Piece]:
    order = [tree[place] for place in sorted_order([rows[place] for place in tree])]
    piece, size = [order[0]], len(rows[order[0]].ids)
    for previous, place in pairwise(order):
        new = len(rows[place].ids) - shared_nodes(rows[previous].ids, rows[place].ids)
        if max_tokens is not None and size + new > max_tokens:
            yield _Piece(piece, size)
            piece, size = [], 0
            new = len(rows[place].ids)
        piece.append(place)
        size += new
    yield _Piece(piece, size)


def _joined(pieces: Sequence[_Piece], max_tokens: int | None) -> list[list[int]]:
    limit = _SMALL if max_tokens is None else min(_SMALL, max_tokens)
    found: list[_Piece] = []
    for piece in pieces:
        if found and found[-1].size + piece.size <= limit:
            last = found.pop()
            piece = _Piece(last.rows + piece.rows, last.size + piece.size)
        found.append(piece)
    return [piece.rows for piece in found]
