"""Growing a tree: the turn graph run level by level, a branching policy between the levels."""

import operator
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, NamedTuple

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send
from typing_extensions import TypedDict

from interalign.errors import ConfigError
from interalign.graphs.policy import Policy
from interalign.graphs.turn import Conversation, Farewell, Seats, Turn, run_turn
from interalign.tree import Message, Node


@dataclass(frozen=True)
class Growth:
    """Run context of the tree graph."""

    seats: Seats
    policy: Policy
    save: Callable[[str, Turn | Farewell], Awaitable[None]]
    """Keeps a finished turn, or the user's farewell, of the tree with this id; awaited before the tree goes on."""


class Start(NamedTuple):
    """Where a tree that begins with recorded messages goes on."""

    parent: Node | None
    """The reply that the user answers; None: the user's first message is on record, and nothing before it."""
    transcript: tuple[Message, ...]
    """The conversation down to it."""


class Tip(TypedDict):
    """Where a turn is to be grown: after `parent`, whose conversation so far is `transcript`."""

    conversation: Conversation
    parent: Node | None
    transcript: tuple[Message, ...]


class TreeState(TypedDict, total=False):
    """State of the tree graph. In: the conversation, and where it starts if it has recorded messages."""

    conversation: Conversation
    start: Start | None
    turn: int
    """The level that was grown last."""
    tips: tuple[Tip, ...]
    grown: Annotated[tuple[tuple[Tip, Turn], ...], operator.add]
    """Every finished turn with the tip it grew from, level by level."""


async def grow_turn(state: Tip, runtime: Runtime[Growth]) -> dict[str, Any]:
    """One turn at one tip, by the turn graph, saved before anything builds on it."""
    turn = await run_turn(state["conversation"], state["parent"], state["transcript"], runtime.context.seats)
    await runtime.context.save(state["conversation"].tree, turn)
    return {"grown": ((state, turn),) if isinstance(turn, Turn) else ()}


# Both are coroutines, though they await nothing: LangGraph sends plain functions to a thread, which costs more than
# they do.
async def branch(state: TreeState, runtime: Runtime[Growth]) -> dict[str, Any]:
    """The tips of the next level: the root at first, then what the policy continues; none after the last turn.

    A path that the user ended has no reply that could be continued.
    """
    if runtime.context is None:
        raise ConfigError("the tree graph has no seats and no policy; run it with context=Growth(...)")
    conversation, turn = state["conversation"], state.get("turn", 0)
    if turn == conversation.turns:
        return {"tips": ()}
    if turn == 0:
        start = state.get("start") or Start(None, ())
        first = Tip(conversation=conversation, parent=start.parent, transcript=start.transcript)
        return {"tips": (first,), "turn": 1 if start.parent is None else start.parent.turn + 1}
    level = [(tip, done) for tip, done in state["grown"] if done.user.turn == turn and not done.ended]
    if not level:
        return {"tips": ()}
    before = {reply.id: (tip, done) for tip, done in level for reply in done.replies}
    continued = await runtime.context.policy(conversation, [done for _, done in level])
    return {"tips": tuple(_tip(*before[reply.id], reply) for reply in continued), "turn": turn + 1}


def _tip(tip: Tip, turn: Turn, reply: Node) -> Tip:
    transcript = (*tip["transcript"], turn.user.message, reply.message)
    return Tip(conversation=tip["conversation"], parent=reply, transcript=transcript)


async def next_turns(state: TreeState) -> list[Send] | str:
    """All turns of a level side by side, or the end."""
    return [Send("grow_turn", tip) for tip in state["tips"]] or END


@cache
def tree_graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    """The compiled tree graph; its context is `Growth`."""
    graph = StateGraph(TreeState, context_schema=Growth)
    graph.add_node(branch)
    graph.add_node(grow_turn, input_schema=Tip)
    graph.add_edge(START, "branch")
    graph.add_conditional_edges("branch", next_turns, ["grow_turn", END])
    graph.add_edge("grow_turn", "branch")
    return graph.compile(name="tree")


async def grow_tree(conversation: Conversation, growth: Growth, start: Start | None = None) -> None:
    """Grow one tree to its last turn; every finished turn has then been saved."""
    limit = 2 * conversation.turns + 5  # two steps a turn; LangGraph's own default would stop at 25
    await tree_graph().ainvoke(
        TreeState(conversation=conversation, start=start),
        context=growth,
        config={"recursion_limit": limit},
        output_keys=[],
        version="v2",
    )
