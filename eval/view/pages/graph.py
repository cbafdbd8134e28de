"""The run's state machines with calls, seconds, tokens and failures, and the calls of one tree in time."""

from interalign.eval.view.graph_page import find_graph
from interalign.eval.view.page import Page, PageRequest
from interalign.store import Store


def graph(store: Store, asked: PageRequest) -> str:
    """The graphs, and the calls of the tree `tree`."""
    return asked.render("graph", view=find_graph(store, asked.query.get("tree"), asked.links))


PAGE = Page("/graph", "Graph", graph)
