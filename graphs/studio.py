"""The state machines as `langgraph dev` opens them; langgraph.json points here."""

from interalign.graphs.stepping import turn_by_hand
from interalign.graphs.tree import tree_graph

turn = turn_by_hand()
tree = tree_graph()
