"""Plug-ins for tests, `asking_roles:NAME` on the command line, that ask models themselves."""

import asyncio
import os
from contextlib import suppress

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph

import interalign as ia


def served(name: str) -> str:
    """The name of a model at the test's server."""
    return f"openai:{name}@{os.environ['ASK_URL']}"


class TwoSteps:
    """A judge that has a critic look at both replies first."""

    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        critique = await ia.ask_model(served("critic"), f"Weigh {ask.first} against {ask.second}", label="critic")
        chat = [{"role": "system", "content": "Decide."}, {"role": "user", "content": critique}]
        value = await ia.ask_model(served("decider"), chat, read=ia.parse_verdict, temperature=0)
        return ia.ChoiceOpinion(value=value, replies=(critique,))


async def drafts(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that has three drafts written side by side, two of them by equal questions, and says all."""
    asked = (ia.ask_model(name, ask.transcript) for name in ("world:average", "world:average", "world:blind"))
    return ia.Said(text=" / ".join(await asyncio.gather(*asked)))


async def impatient(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that does not wait for its first question and leaves its second behind when it answers."""
    with suppress(TimeoutError):
        await asyncio.wait_for(ia.ask_model(served("slow"), "first"), 0.01)
    impatient.left = asyncio.ensure_future(ia.ask_model(served("slow"), "second"))
    await asyncio.sleep(0)
    return ia.Said(text=await ia.ask_model(served("quick"), "third"))


async def nobody(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that asks a model that is not there."""
    return ia.Said(text=await ia.ask_model("world:nobody", "hello"))


async def priceless(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that asks a model without a price."""
    return ia.Said(text=await ia.ask_model(served("dear"), "hello"))


async def mistyped(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that gives a parameter there is not."""
    return ia.Said(text=await ia.ask_model("world:average", ask.transcript, temprature=0))


async def says_a_colour(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate that reads its model's reply itself, and goes on when it cannot be read."""

    def colour(text: str) -> str:
        if text not in ("red", "blue"):
            raise ia.BadContentError(f"no colour: {text}", text)
        return text

    try:
        return ia.Said(text=await ia.ask_model(served("painter"), "Which colour?", read=colour))
    except ia.BadContentError as error:
        return ia.Said(text=f"none ({error})")


async def asked_note(view: ia.HookView) -> dict[str, dict[str, str]]:
    """A hook that asks."""
    return {view.user.id: {"guess": await ia.ask_model("world:average", view.transcript)}}


async def _answer(state: MessagesState) -> dict[str, list[AIMessage]]:
    chat = [ia.Message(role="user", content=message.text) for message in state["messages"][-1:]]
    return {"messages": [AIMessage(await ia.ask_model("world:average", chat))]}


_graph = StateGraph(MessagesState)
_graph.add_node("answer", _answer)
_graph.add_edge(START, "answer")
_graph.add_edge("answer", END)
agent = _graph.compile()
