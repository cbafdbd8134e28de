"""Plug-ins for tests, `faulty_roles:NAME` on the command line: what they do wrong concerns more than their own tree."""

import asyncio
import functools
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

import interalign as ia
from interalign.records import Reply

BLOCKED = 1.0
"""Seconds for which the roles below block the event loop."""


async def patient(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that takes its time, but lets others work meanwhile."""
    await asyncio.sleep(BLOCKED)
    return ia.Said(text="Tell me more.")


async def blocking(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that keeps the event loop for itself in its first two answers of a tree."""
    if "/" not in ask.at.node:
        time.sleep(BLOCKED)  # noqa: ASYNC251  (that is the fault)
    return ia.Said(text="Tell me more.")


async def blocking_in_a_library(ask: ia.CandidateAsk) -> ia.Said:
    """The same, in a function of the standard library, which is written in Python."""
    if "/" not in ask.at.node:
        subprocess.run([sys.executable, "-c", f"import time; time.sleep({BLOCKED})"])  # noqa: ASYNC221
    return ia.Said(text="Tell me more.")


async def writes_into_its_ask(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that tries to change what it was handed: pydantic refuses, in a line of its own."""
    ask.transcript[0].content = "something else"  # type: ignore[misc]
    return ia.Said(text="Tell me more.")


def plain(ask: ia.CandidateAsk) -> ia.Said:
    return ia.Said(text="Tell me more.")


class PlainCall:
    def __call__(self, ask: ia.CandidateAsk) -> ia.Said:
        return ia.Said(text="Tell me more.")


class PlainJudge:
    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        return ia.ChoiceOpinion(value="tie", replies=("",))

    def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        return ia.ScoreOpinion(value=3, replies=("",))


@functools.wraps(patient)
def wrapped(ask: ia.CandidateAsk) -> Any:
    """A plain function around one that is async answers something to wait for."""
    return patient(ask)


async def _blocking_node(state: MessagesState) -> dict[str, list[AIMessage]]:
    if len(state["messages"]) == 1:
        time.sleep(BLOCKED)  # noqa: ASYNC251  (that is the fault)
    return {"messages": [AIMessage("Tell me more.")]}


def _graph() -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("reply", _blocking_node)
    graph.add_edge(START, "reply")
    graph.add_edge("reply", END)
    return graph.compile()


blocking_graph = _graph()
"""A graph whose node keeps the event loop; LangGraph runs it in a task of its own."""


def _changed(value: object) -> list[str]:
    """Try to change a value in every way its types offer; what could be changed."""
    found: list[str] = []
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            try:
                setattr(value, name, None)
                found.append(f"{type(value).__name__}.{name}")
            except ValueError:
                found += _changed(getattr(value, name))
    elif isinstance(value, MappingProxyType):
        found += [change for part in value.values() for change in _changed(part)]
    elif isinstance(value, tuple):
        found += [change for part in value for change in _changed(part)]
    elif value is not None and not isinstance(value, str | int | float):
        found.append(type(value).__name__)
    return found


async def changing(ask: ia.UserAsk | ia.InducerAsk | ia.CandidateAsk) -> ia.Said:
    """A role that tries to change what it was asked with, and says what it could change."""
    return ia.Said(text=f"I could change {_changed(ask)} of this.")


async def changing_hook(view: ia.HookView) -> dict[str, dict[str, Any]]:
    """A hook that tries to change what it sees, and notes what it could change."""
    seen = sum(map(bool, (view.hint, view.replies, view.verdicts or view.scores)))
    return {view.user.id: {f"changed at point {seen}": list(_changed(view))}}


class ChangingJudge:
    """A judge that tries to change what it is shown, and says what it could change."""

    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        return ia.ChoiceOpinion(value="A", replies=(f"I could change {_changed(ask)} of this.",))

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        return ia.ScoreOpinion(value=3, replies=(f"I could change {_changed(ask)} of this.",))


class ChangingModel:
    """A chat model that makes a mess of its parameters and tries the same with the messages."""

    name = "changing"

    async def __call__(self, messages: Sequence[ia.Message], parameters: ia.Parameters, seed: int) -> Reply:
        parameters.extra_body["mess"] = parameters.extra_body.get("mess", 0) + 1
        return Reply(text=f"{_changed(messages)} and {parameters.extra_body['mess']} of this.", model=self.name)


changing_model = ChangingModel()


class RaisingModel:
    """A chat model with a bug."""

    name = "raising"

    async def __call__(self, messages: Sequence[ia.Message], parameters: ia.Parameters, seed: int) -> Reply:
        raise KeyError("choices")


raising_model = RaisingModel()


class WordyModel(RaisingModel):
    """A chat model that answers with a bare string."""

    async def __call__(self, messages: Sequence[ia.Message], parameters: ia.Parameters, seed: int) -> Any:
        return "Tell me more."


wordy_model = WordyModel()


class Confident(ia.Said):
    """An answer of somebody's own kind."""

    confidence: float


async def says_more(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate whose answer has a field too many."""
    return Confident(text="Tell me more.", confidence=0.5)


async def built_without_checks(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that goes round the checks of its answer."""
    return ia.Said.model_construct(text=7)


async def leaves(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that ends the process."""
    sys.exit("no key")


async def waits_for_the_cancelled(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate whose own helper was cancelled."""
    helper = asyncio.create_task(asyncio.sleep(9))
    helper.cancel()
    await helper
    return ia.Said(text="never said")


async def misconfigured(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that finds out late that it is not set up."""
    raise ia.ConfigError("set MY_KEY")


async def unlucky_at_first(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that raises the same, in other words each time, on the first two trees."""
    if ask.at.tree < "t00002":
        raise ValueError(f"no idea about {ask.at.tree}")
    return ia.Said(text="Tell me more.")


async def unlucky_in_two_ways(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that raises on every tree, but not the same."""
    if ask.at.tree == "t00001":
        raise ValueError("no idea")
    raise LookupError("not found")


async def fails_on_purpose(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that gives up trees in the way that is meant for it."""
    if ask.at.tree < "t00004":
        raise ia.FailedTreeError("not this one")
    return ia.Said(text="Tell me more.")


def _broken() -> bool:
    return Path(os.environ["BREAKS"]).exists()


async def raises_for_now(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate with a bug while the file named by BREAKS is there; its message is another one each time."""
    if _broken():
        raise ValueError(f"no idea about {ask.at.tree}")
    return ia.Said(text="Tell me more.")


async def of_the_wrong_type_for_now(ask: ia.CandidateAsk) -> Any:
    """A candidate of the wrong type while the file named by BREAKS is there."""
    return 7 if _broken() else ia.Said(text="Tell me more.")


class SameScore:
    """A judge that likes everything alike."""

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        return ia.ScoreOpinion(value=3, replies=("3",))
