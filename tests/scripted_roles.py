"""Plug-ins for tests, `scripted_roles:NAME` on the command line. Each does one thing wrong, or keeps count."""

import asyncio
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime

import interalign as ia
from interalign.models.world import world_model
from interalign.records import Reply


def request_hash(messages: Sequence[ia.Message]) -> str:
    """Short name for what a role was asked, whether for the first time or again."""
    asked = [*(m.model_dump() for m in messages[:-1]), messages[-1].content.partition("\n\n[asked again]\n")[0]]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def marks_in(messages: Sequence[ia.Message]) -> list[str]:
    """The marks `#123` of the users' and candidates' messages (see Counted) that can be read in these."""
    return sorted({mark for message in messages for mark in re.findall(r"#\d+", message.content)})


def _log(line: str) -> None:
    with Path(os.environ["CALL_LOG"]).open("a") as log:
        log.write(line + "\n")


def _broken() -> bool:
    return Path(os.environ["BREAKS"]).exists()


class Counted:
    """A model of the world that writes down every call, before it answers, in the file named by CALL_LOG."""

    def __init__(self, role: str, model: str) -> None:
        self.name = f"counted-{role}"
        self._role = role
        self._model = world_model(model)

    async def __call__(self, messages: Sequence[ia.Message], parameters: ia.Parameters, seed: int) -> Reply:
        request = request_hash(messages)
        _log(f"{self._role} {request} {' '.join(marks_in(messages))}")
        await asyncio.sleep(int(request, 16) % 7 / 1000)  # uneven, so that calls overtake each other
        reply = await self._model(messages, parameters, seed)
        if self._role not in ("user", "candidate"):
            return reply
        # No two messages are the same, so that a request tells which call it is and whose replies were seen by then.
        return reply.model_copy(update={"text": f"{reply.text} #{seed % 10**9}"})


user, inducer = Counted("user", "user"), Counted("inducer", "inducer")
candidate, judge = Counted("candidate", "average"), Counted("judge", "judge")


class Scripted:
    """A chat model with a list of replies: the first one when asked something, the next when asked it again."""

    def __init__(self, *replies: str) -> None:
        self.name = "scripted"
        self._replies = replies
        self._asked: Counter[str] = Counter()

    async def __call__(self, messages: Sequence[ia.Message], parameters: ia.Parameters, seed: int) -> Reply:
        request = request_hash(messages)
        self._asked[request] += 1
        return Reply(text=self._replies[(self._asked[request] - 1) % len(self._replies)], model=self.name)


capital_first = Scripted("First.", "The first one is better.", "Verdict: A or B")
"""A judge that never answers in the contract's form."""
first_is_better = Scripted("Verdict: A")
"""A judge that likes whatever it is shown first."""
talking_scorer = Scripted("Score: 4 - because it asks.", "4", "Score: 6")
unfinished = Scripted(
    "<think>The user likes bread and", "<think>Bread.</think>", "<think>Bread.</think>\n\nTry rye.<|im_end|>"
)
"""A model whose reasoning comes with its replies: cut short, alone, and before a message."""
third_time = Scripted("I like the first.", "Verdict: first", "The first one asks.\nVerdict: A")
"""A judge that answers in the contract's form when asked for the third time."""


async def moody(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that says nothing usable for two seeds in three."""
    if ask.at.seed % 3:
        raise ia.BadContentError("not in the mood", "hm")
    return ia.Said(text=f"seed {ask.at.seed}")


class Broken(Exception):
    """What `fails_for_one` raises."""


async def fails_for_one(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that cannot cope with tree t00001 while the file named by BREAKS is there."""
    if ask.at.tree == "t00001" and _broken():
        raise Broken("no idea what to say")
    return ia.Said(text=f"Fine, number {ask.at.seed % 1000}.")


async def says_a_number(ask: Any) -> Any:
    """A role of the wrong type."""
    return 7


def not_async(ask: Any) -> ia.Said:
    """A role that forgot `async`."""
    return ia.Said(text="hello")


class OnlyScores:
    """A judge without `compare`."""

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        return ia.ScoreOpinion(value=1 + len(ask.reply) % 5, replies=("by length",))


class CannotBeBuilt:
    """A class that wants an argument."""

    def __init__(self, needed: str) -> None:
        self.needed = needed


longer = RunnableLambda(lambda messages: f"reply to {len(messages)} messages: {len(messages[-1].content)} characters")
"""A plain Runnable: list of messages in, text out."""
fake_chat = FakeListChatModel(responses=["What do you like?"])
"""A chat model of LangChain's."""
always_tie = RunnableLambda(lambda messages: "Verdict: tie")


def _reply(state: MessagesState) -> dict[str, list[AIMessage]]:
    return {"messages": [AIMessage(f"graph reply to {len(state['messages'])} messages\nVerdict: B")]}


def _graph(node: Any) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("reply", node)
    graph.add_edge(START, "reply")
    graph.add_edge("reply", END)
    return graph.compile()


graph = _graph(_reply)
"""A compiled graph over `messages`."""
silent_graph = _graph(lambda state: {"messages": []})
"""A graph that adds nothing to the chat."""


def _raise(state: MessagesState) -> dict[str, Any]:
    raise ValueError("out of ideas")


raising_graph = _graph(_raise)


class _Walk(MessagesState):
    steps: int


def _step(state: _Walk) -> dict[str, int]:
    return {"steps": state.get("steps", 0) + 1}


def _tell(state: _Walk, config: RunnableConfig, runtime: Runtime[Any]) -> dict[str, list[AIMessage]]:
    seed = config["configurable"]["seed"]
    return {"messages": [AIMessage(f"context {runtime.context}, {state['steps']} steps, seed {seed}")]}


def _curious() -> Any:
    graph = StateGraph(_Walk)
    graph.add_node("step", _step)
    graph.add_node("tell", _tell)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["steps"] < 20 else "tell", ["step", "tell"])
    graph.add_edge("tell", END)
    return graph.compile(checkpointer=InMemorySaver())


curious = _curious()
"""A graph of 20 steps with a memory of its own that tells what it can see."""


class _Count(TypedDict):
    count: int


def _without_messages() -> Any:
    graph = StateGraph(_Count)
    graph.add_node("count", lambda state: {"count": 1})
    graph.add_edge(START, "count")
    graph.add_edge("count", END)
    return graph.compile()


graph_without_messages = _without_messages()


async def stops_later(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate whose server goes away in the middle of the run, while the file named by BREAKS is there."""
    if ask.at.tree >= "t00003" and _broken():
        raise ia.StopError("the server went away")
    return ia.Said(text=f"Fine, number {ask.at.seed % 1000}.")


empty_at_first = Scripted("", "  \n", "What do you like?")
"""A candidate that says nothing when asked the first and the second time."""


class LostOnTheSecondTree:
    """A judge that finds the first reply better, and raises on tree t00001."""

    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        if ask.at.tree == "t00001":
            raise ValueError("lost")
        return ia.ChoiceOpinion(value="A", replies=("Verdict: A",))


async def half_a_pair(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate whose text holds half of a surrogate pair."""
    return ia.Said(text="odd \ud800 text")
