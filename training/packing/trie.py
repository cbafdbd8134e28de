"""Rows of token ids merged into a token trie, laid out depth first for one forward pass.

A node is keyed on its token *and the next one* of its row, so that every node has one label, as a fused language-model
head wants it: where rows part, the last token that they share stands once for each of the ways on.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

NO_LABEL = -100
"""Label of a node that no row learns from (PyTorch's and TRL's convention)."""

Ints = npt.NDArray[np.int64]


class TrieRow(NamedTuple):
    """One sequence, and what is to be learnt of it."""

    ids: Ints
    targets: npt.NDArray[np.bool_]
    """For each token whether its probability is asked for; that of the first token never is."""


class Trie(NamedTuple):
    """Rows that share their prefixes. All arrays have one entry a node, in depth-first order."""

    tokens: Ints
    depth: Ints
    """Tokens above the node: its position in every row it belongs to."""
    end: Ints
    """One past the last node of the subtree below: a node is an ancestor of node i iff node <= i < end[node]."""
    labels: Ints
    """The token that follows, where a row learns it; else NO_LABEL."""
    paths: tuple[Ints, ...]
    """For each row, in the order given, its nodes from the root on."""

    @property
    def size(self) -> int:
        """Tokens to read."""
        return len(self.tokens)


def build_trie(rows: Sequence[TrieRow]) -> Trie:
    """The trie of rows whose neighbours share the longest prefixes, as in sorted order; in another order it is as
    right, but larger.
    """
    shared = [0, *(shared_nodes(one.ids, other.ids) for one, other in pairwise(rows))]
    size = sum(len(row.ids) - prefix for row, prefix in zip(rows, shared, strict=True))
    tokens, depth, end, following = (np.zeros(size, dtype=np.int64) for _ in range(4))
    learnt, path, paths, used = np.zeros(size, dtype=bool), np.zeros(0, dtype=np.int64), [], 0
    for row, prefix in zip(rows, shared, strict=True):
        end[path[prefix:]] = used  # what this row leaves has no further descendants
        new = slice(used, used + len(row.ids) - prefix)
        tokens[new], depth[new] = row.ids[prefix:], np.arange(prefix, len(row.ids))
        following[new] = np.append(row.ids[prefix + 1 :], NO_LABEL)
        path = np.concatenate([path[:prefix], np.arange(new.start, new.stop)])
        learnt[path[:-1][row.targets[1:]]] = True
        paths.append(path)
        used = new.stop
    end[path] = used
    return Trie(tokens, depth, end, np.where(learnt, following, NO_LABEL), tuple(paths))


def shared_nodes(one: Ints, other: Ints) -> int:
    """Nodes that two rows share from the root on: of a common prefix all but its last token, whose next one differs."""
    common = min(len(one), len(other))
    different = np.flatnonzero(one[:common] != other[:common])
    same = int(different[0]) if different.size else common
    return same if same == len(one) == len(other) else max(same - 1, 0)


def sorted_order(rows: Sequence[TrieRow]) -> list[int]:
    """Places of the rows in the order in which neighbours share the longest prefixes."""
    return sorted(range(len(rows)), key=lambda place: _plain(rows[place].ids))


def _plain(ids: Ints) -> Any:
    return ids.tolist()
