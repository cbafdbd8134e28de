"""Agents with a state, `stateful_agents:NAME` on the command line: each would betray any mixing of two branches."""

import operator
from typing import Annotated

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

import interalign as ia


class Memory(MessagesState):
    """What the agent remembers beside its chat: the numbers it has drawn, which no message shows in full."""

    drawn: Annotated[list[int], operator.add]


async def _draw(state: Memory, config: RunnableConfig) -> dict:
    number = config["configurable"]["seed"] % 1000
    drawn = [*state.get("drawn", []), number]
    heard = len([message for message in state["messages"] if message.type == "human"])
    return {"messages": [AIMessage(f"heard {heard}, drew {'+'.join(map(str, drawn))}")], "drawn": [number]}


def _compiled(node, kind=Memory):
    graph = StateGraph(kind)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    return graph.compile(checkpointer=InMemorySaver())


draws = _compiled(_draw)


class Seen(MessagesState):
    """How many messages the agent knew when it had answered last."""

    seen: int


async def _given(state: Seen) -> dict:
    now = len(state["messages"])
    return {"messages": [AIMessage(f"{now - state.get('seen', 0)} new, {now} in all")], "seen": now + 1}


counts = _compiled(_given, Seen)


async def tally(ask: ia.CandidateAsk, state: dict | None) -> tuple[ia.Said, dict]:
    """The same as `draws` in a function: heard turns, and the numbers drawn on this path."""
    numbers = [*(state or {"drawn": []})["drawn"], ask.at.seed % 1000]
    return ia.Said(text=f"heard {len(numbers)}, drew {'+'.join(map(str, numbers))}"), {"drawn": numbers}


async def forgets_the_pair(ask: ia.CandidateAsk, state: object) -> ia.Said:
    """A role with a state that answers as one without."""
    return ia.Said(text="hm")


async def keeps_a_set(ask: ia.CandidateAsk, state: object) -> tuple[ia.Said, object]:
    """A role whose state is no JSON."""
    return ia.Said(text="hm"), {1, 2}


async def _tool(state: MessagesState) -> dict:
    call = {"name": "search", "args": {"query": "rye"}, "id": "c1"}
    found = ToolMessage("a recipe", tool_call_id="c1")
    return {"messages": [AIMessage("", tool_calls=[call]), found, AIMessage("Try rye.")]}


searches = _compiled(_tool, MessagesState)


async def _asks_back(state: MessagesState) -> dict:
    heard = state["messages"][-1].text
    return {"messages": [AIMessage(f"You began with {heard!r} and answered {interrupt('May I buy it?')!r}.")]}


asks_back = _compiled(_asks_back, MessagesState)


async def _asks_for_a_form(state: MessagesState) -> dict:
    return {"messages": [AIMessage(str(interrupt({"approve": ["buy"]})))]}


asks_for_a_form = _compiled(_asks_for_a_form, MessagesState)


class _Handle:
    """Something that no file can hold."""

    def __reduce__(self):
        raise TypeError("a handle of this process")


class Holding(MessagesState):
    """A state with a handle."""

    handle: object


async def _hold(state: Holding) -> dict:
    return {"messages": [AIMessage("hm")], "handle": _Handle()}


holds = _compiled(_hold, Holding)
