"""CPU milliseconds of a 10-turn conversation through the whole stack: `python bench/conversation.py [TREES] [REPEATS]`.

60 calls of the embedded world a conversation (user, inducer, two candidates, both orders of the judge), LangGraph,
ledger and a real run file included. Beside it stands an empty LangGraph machine of the same shape, so that the figure
can be read on a busy machine too: the aim is 50 ms where the empty machine takes 20.
"""

import asyncio
import operator
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from interalign import api
from interalign.config import Runtime


class State(TypedDict, total=False):
    turn: int
    done: Annotated[list[int], operator.add]


def empty_machine():
    """Ten rounds of an outer graph that runs an inner one of five nodes, none of which does anything."""

    async def nothing(state: State) -> dict:
        return {"turn": state["turn"]}

    inner = StateGraph(State)
    inner.add_sequence([(name, nothing) for name in "abcde"])
    inner.add_edge(START, "a")
    turn = inner.compile()

    async def grow(state: State) -> dict:
        return {"done": [(await turn.ainvoke({"turn": state["turn"]}))["turn"]]}

    async def count(state: State) -> dict:
        return {"turn": state.get("turn", 0) + 1}

    async def route(state: State) -> list[Send] | str:
        return END if state["turn"] > 10 else [Send("grow", {"turn": state["turn"]})]

    outer = StateGraph(State)
    outer.add_node(grow)
    outer.add_node(count)
    outer.add_edge(START, "count")
    outer.add_conditional_edges("count", route, ["grow", END])
    outer.add_edge("grow", "count")
    return outer.compile()


def cpu_of_empty(machine, repeats: int) -> float:
    async def run() -> None:
        for _ in range(repeats):
            await machine.ainvoke({}, config={"recursion_limit": 100})

    began = time.process_time()
    asyncio.run(run())
    return (time.process_time() - began) / repeats * 1e3


def cpu_of_conversation(trees: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        api.simulate(Path(folder) / "run.db", trees=trees, runtime=Runtime(concurrency=16))
        return (time.process_time() - began) / trees * 1e3


def main() -> None:
    trees, repeats = (int(word) for word in (sys.argv[1:] + ["60", "5"][len(sys.argv) - 1 :]))
    machine = empty_machine()
    cpu_of_empty(machine, 5)
    cpu_of_conversation(4)
    pairs = [(cpu_of_empty(machine, 20), cpu_of_conversation(trees)) for _ in range(repeats)]
    empty, whole = (median(column) for column in zip(*pairs, strict=True))
    print(f"empty LangGraph machine    {empty:6.1f} ms")
    print(f"10-turn conversation       {whole:6.1f} ms   {whole / empty:.2f} x")


if __name__ == "__main__":
    main()
