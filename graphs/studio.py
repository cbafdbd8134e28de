"""The state machines as `langgraph dev` opens them; langgraph.json points here."""

from interalign.graphs.tree import tree_graph
from interalign.graphs.turn import turn_graph

turn = turn_graph()
tree = tree_graph()
evaluation = tree_graph()
