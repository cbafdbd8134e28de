"""A candidate that is a LangGraph agent: it looks up what the user has said of themselves, then answers with it."""

import random
import re

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, MessagesState, StateGraph

_ABOUT_ONESELF = re.compile(r"\b((?:I|My|my)\b[^.!?\n]*)[.!?]")
_OPENINGS = ("Since you told me", "I remember", "You said")


class State(MessagesState):
    """The chat, and what was looked up in it."""

    recalled: list[str]
    """The user's sentences about themselves, the latest last."""


def recall(state: State) -> dict[str, list[str]]:
    """Look up what the user has said of themselves so far."""
    said = [message.text for message in state["messages"] if isinstance(message, HumanMessage)]
    return {"recalled": [sentence for text in said for sentence in _ABOUT_ONESELF.findall(text)]}


def answer(state: State, config: RunnableConfig) -> dict[str, list[AIMessage]]:
    """Answer with one of the things recalled."""
    # What is drawn at random is drawn from the seed of this call: the same run gives the same replies.
    rng = random.Random(config["configurable"]["seed"])
    if not state["recalled"]:
        return {"messages": [AIMessage("Tell me a little about you first. What do you like?")]}
    opening = rng.choice(_OPENINGS)
    return {"messages": [AIMessage(f'{opening}: "{rng.choice(state["recalled"])}". Let us plan it around that.')]}


def _agent() -> StateGraph:
    graph = StateGraph(State)
    graph.add_sequence([recall, answer])
    graph.add_edge(START, "recall")
    graph.add_edge("answer", END)
    return graph


agent = _agent().compile(name="recalling-agent")
"""The compiled graph: in goes `{"messages": [...]}`, and the last message that comes out is the reply."""
