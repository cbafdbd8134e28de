"""Batches whose items are trees: rows grouped by tree, and a collator that adds the packed layout to TRL's own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from interalign.training.packing.parts import Part, parts
from interalign.training.packing.trie import TrieRow

PACKED = "packed"
"""Key of the packed layout in a batch, and name of the argument that hands it to the model."""
_SIDES = ("prompt_ids", "chosen_ids", "rejected_ids")

PairIds = Mapping[str, Any]
"""Token ids of a pair as TRL names them: `prompt_ids`, `chosen_ids`, `rejected_ids`; and the `tree` it belongs to."""


def grouped(pairs: Iterable[PairIds]) -> list[dict[str, Any]]:
    """One item a tree, in the order in which trees first appear: the pairs' columns as lists, and `length`, the tokens
    in all of its rows.

    Pairs that name no `tree` belong together where their prompts begin with the same prompt (the first turn's).
    """
    pairs = list(pairs)
    groups: dict[Any, list[PairIds]] = {}
    for pair, root in zip(pairs, _roots([pair["prompt_ids"] for pair in pairs]), strict=True):
        tree = pair.get("tree")
        groups.setdefault(root if tree is None else str(tree), []).append(pair)
    return [_item(group) for group in groups.values()]


def _item(group: Sequence[PairIds]) -> dict[str, Any]:
    columns = {name: [list(pair[name]) for pair in group] for name in _SIDES}
    length = sum(2 * len(pair["prompt_ids"]) + len(pair["chosen_ids"]) + len(pair["rejected_ids"]) for pair in group)
    return {**columns, "pairs": len(group), "length": length}


def _roots(prompts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """For each prompt the shortest one among them that it begins with."""
    known: dict[int, set[tuple[int, ...]]] = {}
    found: dict[int, tuple[int, ...]] = {}
    for place in sorted(range(len(prompts)), key=lambda place: len(prompts[place])):
        prompt = tuple(prompts[place])
        starts = (prompt[:size] for size in known)  # from the shortest on: a dict keeps its order
        found[place] = next((start for start in starts if start in known[len(start)]), prompt)
        known.setdefault(len(found[place]), set()).add(found[place])
    return [found[place] for place in range(len(prompts))]


def pairs_of(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pairs of a tree's item again."""
    return [dict(zip(_SIDES, ids, strict=True)) for ids in zip(*(item[name] for name in _SIDES), strict=True)]


def packed_tokens(item: Mapping[str, Any]) -> int:
    """Tokens of a tree's item that are read if what its rows share is read once."""
    rows = [
        TrieRow(np.array([*pair["prompt_ids"], *pair[side]]), _learnt(len(pair["prompt_ids"]), len(pair[side])))
        for pair in pairs_of(item)
        for side in _SIDES[1:]
    ]
    return lay_out([range(len(rows))], rows, None).tokens


def _learnt(prompt: int, reply: int) -> np.ndarray[Any, Any]:
    return np.arange(prompt + reply) >= prompt


class Layout(NamedTuple):
    """How the rows of a batch are read."""

    parts: list[Part]
    place: np.ndarray[Any, Any]
    """[rows, longest row - 1]: for each token but the first of a row, where in the parts' nodes, one part after the
    other, its probability is found; -1 where it is not asked for."""

    @property
    def tokens(self) -> int:
        """Tokens that the model reads."""
        return sum(part.trie.size for part in self.parts)


def lay_out(trees: Sequence[Sequence[int]], rows: Sequence[TrieRow], max_tokens: int | None) -> Layout:
    """The layout of a batch; `trees` names the rows of each tree by their places."""
    found = parts(trees, rows, max_tokens)
    place = np.full((len(rows), max(len(row.ids) for row in rows) - 1), -1, dtype=np.int64)
    before = 0
    for part in found:
        for number, path in zip(part.rows, part.trie.paths, strict=True):
            asked = np.flatnonzero(rows[number].targets[1:])
            place[number, asked] = before + path[asked]
        before += part.trie.size
    return Layout(found, place)


class TreeCollator:
    """Items that are trees to one batch: TRL's collator over all of their pairs, with the packed layout besides."""

    def __init__(self, pairs: Callable[[list[dict[str, Any]]], dict[str, Any]], max_tokens: int | None) -> None:
        """`pairs` is TRL's collator of pairs, which truncates and pads; `max_tokens` the size of a part."""
        self._pairs = pairs
        self._max_tokens = max_tokens

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """TRL's batch (all chosen rows, then all rejected ones) and, under `packed`, tensors of the layout."""
        found = [pairs_of(item) for item in items]
        batch = self._pairs([pair for pairs in found for pair in pairs])
        ends = np.cumsum([len(pairs) for pairs in found])
        trees = [
            [side + place for place in range(end - len(pairs), end) for side in (0, int(ends[-1]))]
            for pairs, end in zip(found, ends.tolist(), strict=True)
        ]
        return {**batch, PACKED: as_tensors(lay_out(trees, rows_of(batch), self._max_tokens))}


def rows_of(batch: Mapping[str, Any]) -> list[TrieRow]:
    """The rows of TRL's padded batch."""
    whole = zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True)
    return [TrieRow(ids[mask.bool()].numpy(), learnt[mask.bool()].bool().numpy()) for ids, mask, learnt in whole]


def as_tensors(layout: Layout) -> dict[str, Any]:
    """The layout as `packing.forward` reads it; the tensors of a part have a batch dimension of 1."""
    import torch

    names = ("tokens", "depth", "end", "labels")
    tensors = [{name: torch.from_numpy(getattr(part.trie, name))[None] for name in names} for part in layout.parts]
    return {"parts": tensors, "place": torch.from_numpy(layout.place)}
