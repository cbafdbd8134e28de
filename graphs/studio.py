"""The state machines as `langgraph dev` opens them; langgraph.json points here."""

from interalign.graphs.stepping import turn_by_hand
from interalign.graphs.tree_by_hand import tree_by_hand

turn = turn_by_hand()
tree = tree_by_hand()
