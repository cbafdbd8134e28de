"""The state machines by name, and their pictures."""

from langgraph.graph.state import CompiledStateGraph

from interalign.errors import ConfigError, did_you_mean
from interalign.graphs.persona_pool import pool_graph
from interalign.graphs.tree import tree_graph
from interalign.graphs.turn import turn_graph

GRAPHS = {"turn": turn_graph, "tree": tree_graph, "personas": pool_graph}
"""An evaluation is the tree graph too, with one candidate and a scoring judge in its seats."""


def mermaid(name: str) -> str:
    """Mermaid text of the state machine called `name`; ConfigError lists the names there are."""
    if name not in GRAPHS:
        raise ConfigError(f"no graph is called {name!r}; there are {', '.join(GRAPHS)}{did_you_mean(name, GRAPHS)}")
    graph: CompiledStateGraph = GRAPHS[name]()  # type: ignore[type-arg]
    return graph.get_graph().draw_mermaid()


def steps(name: str) -> tuple[tuple[str, ...], tuple[tuple[str, str, bool], ...]]:
    """The nodes of this state machine, start and end among them, and its edges: from, to, whether conditional."""
    graph: CompiledStateGraph = GRAPHS[name]()  # type: ignore[type-arg]
    drawn = graph.get_graph()
    edges = [(edge.source, edge.target, edge.conditional) for edge in drawn.edges]
    # LangGraph keeps the order in which nodes were added, which is the order of the steps.
    return tuple(drawn.nodes), tuple(edges)
