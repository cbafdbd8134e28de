"""The state machines of a run with what each of their nodes did, and the calls of one tree in the order of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from interalign.eval.view.links import ServedLinks
from interalign.eval.view.queries import NotThereError
from interalign.records import CallRecord, RunKind
from interalign.store import Store
from interalign.store.tree_list import RoleTime

ROW, WIDTH, BOX = 62, 460, 300
"""Pixels: from node to node, of the picture, of a node."""
_GRAPHS: Mapping[RunKind, tuple[str, ...]] = {
    "simulation": ("tree", "turn"),
    "evaluation": ("tree", "turn"),
    "personas": ("personas",),
    "import": (),
}
_ROLES = {"candidates": "candidate", "ask": "writer"}
"""Node -> role, where they have two names."""


class GraphNode(NamedTuple):
    """One node of a state machine, in pixels."""

    name: str
    y: float
    facts: str
    """Calls, seconds, tokens and failures; empty for a node that asks no model."""


class GraphEdge(NamedTuple):
    """One step from node to node."""

    path: str
    conditional: bool


@dataclass(frozen=True)
class DrawnGraph:
    """One state machine, its nodes below each other in the order of their steps."""

    name: str
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    width: int = WIDTH
    box: int = BOX

    @property
    def height(self) -> int:
        """Pixels."""
        return ROW * len(self.nodes)


class Bar(NamedTuple):
    """One call in time, as shares of the whole."""

    call: str
    href: str | None
    start: float
    length: float
    facts: str
    failed: bool


@dataclass(frozen=True)
class GraphPage:
    """Everything the page shows."""

    graphs: tuple[DrawnGraph, ...]
    tree: str | None
    bars: tuple[Bar, ...]
    seconds: float
    """From the first request to the last reply of the tree."""


def find_graph(store: Store, tree: str | None, links: ServedLinks) -> GraphPage:
    """The graphs of this kind of run, and the calls of `tree` (None: the first one). NotThereError for no such tree."""
    from interalign.graphs.drawing import steps

    run, times = store.run, {time.role: time for time in store.role_times()}
    names = () if run is None else _GRAPHS[run.kind]
    if tree is None:
        tree = next((record.id for record in store.trees(most=1)), None)
    elif store.tree_record(tree) is None:
        raise NotThereError(f"There is no tree {tree!r} in this run.")
    calls = [] if tree is None else [call for call in store.calls_of(tree) if call.began is not None]
    bars, seconds = waterfall(calls, links)
    return GraphPage(tuple(draw_graph(name, *steps(name), times) for name in names), tree, bars, seconds)


def draw_graph(
    name: str, nodes: Sequence[str], edges: Sequence[tuple[str, str, bool]], times: Mapping[str, RoleTime]
) -> DrawnGraph:
    """A state machine from its nodes in order and its edges (from, to, conditional)."""
    at = {node: ROW * place for place, node in enumerate(nodes)}
    return DrawnGraph(
        name=name,
        nodes=tuple(GraphNode(node.strip("_"), at[node], _facts(times.get(_ROLES.get(node, node)))) for node in nodes),
        edges=tuple(GraphEdge(_path(at[one], at[other]), conditional) for one, other, conditional in edges),
    )


def _path(from_y: float, to_y: float) -> str:
    """An arrow straight down to the next node, or a curve on the right past others and back up."""
    start, end = from_y + ROW - 22, to_y
    if to_y == from_y + ROW:
        return f"M{BOX / 2:g} {start:g}V{end:g}m-4-7l4 7 4-7"
    side = BOX + 30 + abs(to_y - from_y) / 8
    return f"M{BOX} {from_y + 20:g}C{side:g} {from_y + 20:g} {side:g} {to_y + 20:g} {BOX} {to_y + 20:g}m7-4l-7 4 7 4"


def _facts(time: RoleTime | None) -> str:
    if time is None:
        return ""
    took = "" if time.seconds is None else f", {time.seconds / time.calls:,.3g} s each"
    bad = f", {time.bad:,} not usable" if time.bad else ""
    return f"{time.calls:,} calls{took}, {time.tokens:,} tokens{bad}"


def waterfall(calls: Sequence[CallRecord], links: ServedLinks) -> tuple[tuple[Bar, ...], float]:
    """The calls as bars over the time from the first request to the last reply, and its seconds."""
    timed = sorted((call.began.timestamp(), call.seconds or 0.0, call) for call in calls if call.began is not None)
    if not timed:
        return (), 0.0
    first = timed[0][0]
    whole = max(began + took for began, took, _ in timed) - first or 1e-3
    bars = tuple(
        Bar(
            call=f"{call.place.role} {call.place.node}",
            href=links.call(call.place.tree, call.key),
            start=(began - first) / whole,
            length=took / whole,
            facts=f"{took:,.3f} s, {call.reply.prompt_tokens + call.reply.completion_tokens:,} tokens",
            failed=call.error is not None,
        )
        for began, took, call in timed
    )
    return bars, whole
