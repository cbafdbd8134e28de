"""Prefix cache of `hf:` models: keys and values of token prefixes in a radix tree, least recently used evicted first.

A conversation grows by appending, and the siblings of a turn have a common prefix, so most tokens of a prompt were
prefilled before. A node of the tree holds a run of tokens once, however many prompts share it. Unlike in paged caches,
a node is as long as the run, not a block. Matching is by token ids alone: a chat template whose prompts do not extend
one another costs prefill, never a wrong reply.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Tokens = tuple[int, ...]


class Span(NamedTuple):
    """Keys and values of a run of tokens, each a tensor [layers, heads, tokens, width]."""

    keys: Any
    values: Any

    @property
    def tokens(self) -> int:
        """How many tokens it covers."""
        return int(self.keys.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors take."""
        return int(self.keys.nbytes + self.values.nbytes)

    def slice(self, start: int, end: int) -> "Span":
        """The tokens from `start` up to `end`, as a view."""
        return Span(self.keys[:, :, start:end], self.values[:, :, start:end])

    def owned(self) -> "Span":
        """The same in memory of its own: a view would keep alive the whole tensor it was cut from."""
        return Span(*(part if part.untyped_storage().nbytes() == part.nbytes else part.clone() for part in self))


@dataclass(eq=False, slots=True)
class _Node:
    tokens: Tokens
    span: Span
    parent: "_Node | None"
    """None for a node at the root."""
    children: dict[int, "_Node"] = field(default_factory=dict)
    """By their first token."""


class PrefixCache:
    """Token prefixes and their spans, at most `max_bytes` of them; the least recently used leaf is evicted first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._roots: dict[int, _Node] = {}
        self._least_recent: OrderedDict[_Node, None] = OrderedDict()
        """Least recently used first. A node is touched with all its ancestors, which come after it, so that the first
        one is always a leaf."""

    def longest(self, tokens: Tokens) -> list[Span]:
        """Spans that together cover the longest known prefix of `tokens`; as views."""
        path = self._walk(tokens)
        self._touch([node for node, _ in path])
        return [node.span.slice(0, count) for node, count in path]

    def add(self, tokens: Tokens, spans: Sequence[Span]) -> None:
        """Add the spans of `tokens`, which begin at the first token; tokens after the last span are left out."""
        path = self._walk(tokens)
        known = sum(count for _, count in path)
        nodes = [node for node, _ in path]
        if path and known < len(tokens) and path[-1][1] < len(nodes[-1].tokens):
            nodes[-1] = self._split(nodes[-1], path[-1][1])
        for span in slice_spans(spans, known, len(tokens)):
            nodes.append(self._grow(nodes[-1] if nodes else None, tokens[known : known + span.tokens], span.owned()))
            known += span.tokens
        self._touch(nodes)
        while self.nbytes > self.max_bytes:
            self._drop(self._least_recent.popitem(last=False)[0])

    def _walk(self, tokens: Tokens) -> list[tuple[_Node, int]]:
        """The nodes along `tokens`, each with how many of its tokens match: all of them, but for the last node."""
        path: list[tuple[_Node, int]] = []
        at, children = 0, self._roots
        while at < len(tokens) and (node := children.get(tokens[at])) is not None:
            count = common_prefix(node.tokens, tokens[at : at + len(node.tokens)])
            path.append((node, count))
            if count < len(node.tokens):
                break
            at, children = at + count, node.children
        return path

    def _touch(self, path: Sequence[_Node]) -> None:
        for node in reversed(path):
            self._least_recent[node] = None
            self._least_recent.move_to_end(node)

    def _siblings(self, parent: _Node | None) -> dict[int, _Node]:
        return self._roots if parent is None else parent.children

    def _grow(self, parent: _Node | None, tokens: Tokens, span: Span) -> _Node:
        node = self._siblings(parent)[tokens[0]] = _Node(tokens, span, parent)
        self.nbytes += span.nbytes
        return node

    def _split(self, node: _Node, count: int) -> _Node:
        """Split a node after `count` tokens; returns the first part, the parent of the second."""
        self.nbytes -= node.span.nbytes
        first = self._grow(node.parent, node.tokens[:count], node.span.slice(0, count).owned())
        node.tokens, node.span, node.parent = (
            node.tokens[count:],
            node.span.slice(count, len(node.tokens)).owned(),
            first,
        )
        first.children[node.tokens[0]] = node
        self.nbytes += node.span.nbytes
        return first

    def _drop(self, leaf: _Node) -> None:
        del self._siblings(leaf.parent)[leaf.tokens[0]]
        self.nbytes -= leaf.span.nbytes


def common_prefix(one: Tokens, other: Tokens) -> int:
    """Length of the common prefix of both."""
    if one == other:  # the usual case, and one fast comparison
        return len(one)
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def covered_tokens(spans: Sequence[Span]) -> int:
    """How many tokens the spans cover together."""
    return sum(span.tokens for span in spans)


def slice_spans(spans: Sequence[Span], start: int, end: int) -> Iterator[Span]:
    """The parts of consecutive spans that lie between tokens `start` and `end`."""
    at = 0
    for span in spans:
        first, last = max(start - at, 0), min(end - at, span.tokens)
        if first < last:
            yield span if last - first == span.tokens else span.slice(first, last)
        at += span.tokens


def left_padded_batch(rows: Sequence[Sequence[Span]], spare: int = 0) -> tuple[Any, Any]:
    """Keys and values of a batch, [layers, rows, heads, longest + spare, width]; shorter rows have zeros on the left.

    At least one row has to cover a token. `spare` columns of zeros follow on the right.
    """
    longest = max(map(covered_tokens, rows))
    some = next(span for spans in rows for span in spans)
    columns = longest + spare
    keys, values = (part.new_zeros((len(part), len(rows), part.shape[1], columns, part.shape[3])) for part in some)
    for row, spans in enumerate(rows):
        at = longest - covered_tokens(spans)
        for span in spans:
            keys[:, row, :, at : at + span.tokens] = span.keys
            values[:, row, :, at : at + span.tokens] = span.values
            at += span.tokens
    return keys, values


def with_capacity(part: Any, used: int, columns: int, spare: int) -> Any:
    """`part` [rows, heads, tokens, width] if it has that many columns; else a longer copy of the used ones."""
    if part.shape[2] >= columns:
        return part
    grown = part.new_empty((*part.shape[:2], columns + spare, part.shape[3]))
    grown[:, :, :used] = part[:, :, :used]
    return grown


def extract_row(layers: Sequence[Any], row: int, start: int, end: int) -> Span:
    """The span of one row of a batch, columns `start` to `end`, out of the layers [rows, heads, columns, width]."""
    keys = [layer.keys[row, :, start:end] for layer in layers]
    values = [layer.values[row, :, start:end] for layer in layers]
    return Span(_stacked(keys), _stacked(values))


def _stacked(parts: Sequence[Any]) -> Any:
    out = parts[0].new_empty((len(parts), *parts[0].shape))
    for place, part in enumerate(parts):
        out[place] = part
    return out


def next_to_prefill(unread: Sequence[tuple[Tokens, int]], pass_tokens: int) -> list[Tokens]:
    """Which prefixes to prefill in one pass, out of `unread`: (tokens, how many of them are cached).

    Every row of a pass is padded to the longest prefill, so rows are taken, the longest first, while the padding stays
    below `pass_tokens`, the fixed cost of a pass in tokens. A prefix whose common beginning with another one is worth
    more than a pass waits for the next pass, and then finds that beginning cached.
    """
    apart: list[tuple[int, Tokens]] = []
    before: Tokens = ()
    for tokens, known in sorted(unread):
        if common_prefix(before, tokens) - known < pass_tokens:
            apart.append((len(tokens) - known, tokens))
        before = tokens
    apart.sort(reverse=True)
    chosen: list[Tokens] = []
    waste = 0
    for need, tokens in apart:
        waste += apart[0][0] - need
        if waste > pass_tokens:
            break
        chosen.append(tokens)
    return chosen
