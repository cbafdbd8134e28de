"""What `hf:` models have read: the keys and values of token prefixes, kept between calls and shared by siblings.

A conversation grows by appending, and the siblings of a turn begin alike, so most tokens of a prompt were read before.
Prefixes lie in a radix tree over token ids: every node holds a run of tokens once, whoever shares it. Matching is by
token ids alone, so a template whose prompts do not extend one another costs reading, never a wrong reply.
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

    def cut(self, start: int, end: int) -> "Span":
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
    """None: it begins a sequence."""
    children: dict[int, "_Node"] = field(default_factory=dict)
    """By their first token."""


class PrefixStore:
    """Token prefixes and their spans, at most `max_bytes` of them: what was used longest ago goes first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._beginnings: dict[int, _Node] = {}
        self._by_use: OrderedDict[_Node, None] = OrderedDict()
        """Least recently used first. A node is touched with all its ancestors, which come after it: the first one
        is therefore always a leaf."""

    def longest(self, tokens: Tokens) -> list[Span]:
        """Spans that together cover the longest known prefix of `tokens`; views, good until the caller drops them."""
        path = self._walk(tokens)
        self._touch([node for node, _ in path])
        return [node.span.cut(0, count) for node, count in path]

    def add(self, tokens: Tokens, spans: Sequence[Span]) -> None:
        """Keep the spans of `tokens`, which they cover from the first on; tokens behind the last span are left out."""
        path = self._walk(tokens)
        known = sum(count for _, count in path)
        nodes = [node for node, _ in path]
        if path and known < len(tokens) and path[-1][1] < len(nodes[-1].tokens):
            nodes[-1] = self._split(nodes[-1], path[-1][1])
        for span in cut_spans(spans, known, len(tokens)):
            nodes.append(self._grow(nodes[-1] if nodes else None, tokens[known : known + span.tokens], span.owned()))
            known += span.tokens
        self._touch(nodes)
        while self.nbytes > self.max_bytes:
            self._drop(self._by_use.popitem(last=False)[0])

    def _walk(self, tokens: Tokens) -> list[tuple[_Node, int]]:
        """The nodes along `tokens`, each with how many of its tokens match: all of them, but for the last node."""
        path: list[tuple[_Node, int]] = []
        at, children = 0, self._beginnings
        while at < len(tokens) and (node := children.get(tokens[at])) is not None:
            count = shared(node.tokens, tokens[at : at + len(node.tokens)])
            path.append((node, count))
            if count < len(node.tokens):
                break
            at, children = at + count, node.children
        return path

    def _touch(self, path: Sequence[_Node]) -> None:
        for node in reversed(path):
            self._by_use[node] = None
            self._by_use.move_to_end(node)

    def _siblings(self, parent: _Node | None) -> dict[int, _Node]:
        return self._beginnings if parent is None else parent.children

    def _grow(self, parent: _Node | None, tokens: Tokens, span: Span) -> _Node:
        node = self._siblings(parent)[tokens[0]] = _Node(tokens, span, parent)
        self.nbytes += span.nbytes
        return node

    def _split(self, node: _Node, count: int) -> _Node:
        """Give the first `count` tokens of a node a node of their own, which becomes its parent and is returned."""
        self.nbytes -= node.span.nbytes
        first = self._grow(node.parent, node.tokens[:count], node.span.cut(0, count).owned())
        node.tokens, node.span, node.parent = node.tokens[count:], node.span.cut(count, len(node.tokens)).owned(), first
        first.children[node.tokens[0]] = node
        self.nbytes += node.span.nbytes
        return first

    def _drop(self, leaf: _Node) -> None:
        del self._siblings(leaf.parent)[leaf.tokens[0]]
        self.nbytes -= leaf.span.nbytes


def shared(one: Tokens, other: Tokens) -> int:
    """How many tokens both begin with."""
    if one == other:  # The usual case, and compared at once.
        return len(one)
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def covered(spans: Sequence[Span]) -> int:
    """How many tokens the spans cover together."""
    return sum(span.tokens for span in spans)


def cut_spans(spans: Sequence[Span], start: int, end: int) -> Iterator[Span]:
    """The parts of consecutive spans that lie between tokens `start` and `end`."""
    at = 0
    for span in spans:
        first, last = max(start - at, 0), min(end - at, span.tokens)
        if first < last:
            yield span if last - first == span.tokens else span.cut(first, last)
        at += span.tokens


def lay_out(rows: Sequence[Sequence[Span]], room: int = 0) -> tuple[Any, Any]:
    """Keys and values of a batch, [layers, rows, heads, longest + room, width]; shorter rows have zeros on the left.

    At least one row has to cover a token. `room` columns of zeros follow on the right.
    """
    longest = max(map(covered, rows))
    some = next(span for spans in rows for span in spans)
    columns = longest + room
    keys, values = (part.new_zeros((len(part), len(rows), part.shape[1], columns, part.shape[3])) for part in some)
    for row, spans in enumerate(rows):
        at = longest - covered(spans)
        for span in spans:
            keys[:, row, :, at : at + span.tokens] = span.keys
            values[:, row, :, at : at + span.tokens] = span.values
            at += span.tokens
    return keys, values


def with_room(part: Any, used: int, columns: int, spare: int) -> Any:
    """`part` [rows, heads, tokens, width] if it is that long; else a copy of what is used, with some to spare."""
    if part.shape[2] >= columns:
        return part
    roomy = part.new_empty((*part.shape[:2], columns + spare, part.shape[3]))
    roomy[:, :, :used] = part[:, :, :used]
    return roomy


def lift(layers: Sequence[Any], row: int, start: int, end: int) -> Span:
    """The span of one row of a batch, columns `start` to `end`, out of the layers [rows, heads, columns, width]."""
    keys = [layer.keys[row, :, start:end] for layer in layers]
    values = [layer.values[row, :, start:end] for layer in layers]
    return Span(_stacked(keys), _stacked(values))


def _stacked(parts: Sequence[Any]) -> Any:
    out = parts[0].new_empty((len(parts), *parts[0].shape))
    for place, part in enumerate(parts):
        out[place] = part
    return out


def next_to_read(unread: Sequence[tuple[Tokens, int]], pass_tokens: int) -> list[Tokens]:
    """Which prefixes to read in one pass, out of `unread`: (tokens, how many of them are known).

    All rows of a pass read as many tokens as the one that needs most, so rows join it, the longest first, while what
    they read in vain stays below `pass_tokens`: what a pass costs beside its tokens, in tokens. And one that begins
    like another for so long that another pass is cheaper waits, and then finds that beginning known.
    """
    apart: list[tuple[int, Tokens]] = []
    before: Tokens = ()
    for tokens, known in sorted(unread):
        if shared(before, tokens) - known < pass_tokens:
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
