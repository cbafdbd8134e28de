"""The tree graph for stepping by hand, as in LangGraph Studio: seats by name, nothing recorded.

The context is the settings of a simulation, as for the turn graph. Run again in the same thread with more `turns`, the
tree grows on, from the replies as they may have been edited in `grown`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from interalign.config import SimulationSettings
from interalign.graphs.policy import branching_policy
from interalign.graphs.tree import Growth, Tip, TreeState, branch, grow_turn
from interalign.graphs.turn import Conversation, Farewell, Turn
from interalign.graphs.unrecorded import new_conversation, unrecorded_seats

Grown = tuple[tuple[Tip, Turn], ...]
_GROWN = TypeAdapter(Grown)
_STATE = TypeAdapter(TreeState)
_TIP = TypeAdapter(Tip)


def _regrown(earlier: Sequence[Any], later: Sequence[Any]) -> Grown:
    """All turns; one that is there already is replaced, so that it can be edited. What was edited comes as JSON."""
    turns = _GROWN.validate_python((*earlier, *later))
    return tuple({turn.user.id: (tip, turn) for tip, turn in turns}.values())


class TreeInput(TypedDict, total=False):
    """Input, all of it optional."""

    persona: int
    """Number of the persona, from 0; the first one if it is not given. It counts at the beginning of a thread."""


class GrowingState(TypedDict, total=False):
    """State: that of the tree graph, whose turns can be edited."""

    persona: int
    conversation: Conversation
    turn: int
    tips: tuple[Tip, ...]
    grown: Annotated[Grown, _regrown]


async def _not_kept(tree: str, turn: Turn | Farewell) -> None:
    """LangGraph's checkpoints are the record of what is done by hand."""


async def _growth(settings: SimulationSettings) -> Growth:
    return Growth(await unrecorded_seats(settings), branching_policy(settings.policy), _not_kept)


async def branch_by_hand(state: GrowingState, runtime: Runtime[Any]) -> dict[str, Any]:
    """The tips of the next level, up to the turn that the settings name now."""
    settings = runtime.context or SimulationSettings()
    read = _STATE.validate_python({"grown": (), **state})
    talk = read.get("conversation") or await new_conversation(settings, state.get("persona", 0))
    read["conversation"] = talk.model_copy(update={"turns": settings.turns})
    tips = await branch(read, runtime.override(context=await _growth(settings)))
    return {"conversation": read["conversation"], **tips}


async def grow_by_hand(state: Tip, runtime: Runtime[Any]) -> dict[str, Any]:
    """One turn at one tip."""
    growth = await _growth(runtime.context or SimulationSettings())
    return await grow_turn(_TIP.validate_python(state), runtime.override(context=growth))


async def next_by_hand(state: GrowingState) -> list[Send] | str:
    """All turns of a level side by side, or the end."""
    return [Send("grow_turn", tip) for tip in state["tips"]] or END


@cache
def tree_by_hand() -> CompiledStateGraph[Any, Any, Any, Any]:
    """The compiled graph; its context is a SimulationSettings, None for all defaults."""
    graph = StateGraph(GrowingState, context_schema=SimulationSettings, input_schema=TreeInput)
    graph.add_node("branch", branch_by_hand)
    graph.add_node("grow_turn", grow_by_hand, input_schema=Tip)
    graph.add_edge(START, "branch")
    graph.add_conditional_edges("branch", next_by_hand, ["grow_turn", END])
    graph.add_edge("grow_turn", "branch")
    return graph.compile(name="tree by hand")
