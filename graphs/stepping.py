"""The turn graph for stepping by hand and for chatting, as in LangGraph Studio: seats by name, nothing recorded.

The context is the settings of a simulation as plain JSON, all of them optional: `{"candidate": "world:oracle"}`. Run
again in the same thread, the graph adds the next turn. The conversation is in `messages`: what is changed there is what
the next turn goes on from, and a message of the user's that nobody has answered yet is said in place of the user
agent's. To keep a conversation, use `interalign simulate`.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from interalign.agents.protocols import Said, UserAsk
from interalign.config import SimulationSettings
from interalign.errors import ConfigError
from interalign.graphs.many_trees import unwrapped
from interalign.graphs.policy import branching_policy
from interalign.graphs.turn import TURN, Seats, Turn, TurnState
from interalign.graphs.unrecorded import new_conversation, unrecorded_seats
from interalign.tree import Message, Node


class TalkInput(TypedDict, total=False):
    """Input, all of it optional: nothing is needed for the user agent to speak."""

    messages: Annotated[list[AnyMessage], add_messages]
    """What you say in place of the user agent; or a whole conversation, to begin in the middle of it."""
    persona: int
    """Number of the persona, from 0; the first one if it is not given. It counts at the beginning of a thread."""


class TalkState(TurnState, total=False):
    """State: that of the turn graph, the conversation as chat messages, and the reply that it goes on with."""

    messages: Annotated[list[AnyMessage], add_messages]
    persona: int
    taken: Node


_STATE = TypeAdapter(TurnState)
_ROLES = {"human": "user", "ai": "assistant"}


def _read(state: TalkState) -> TalkState:
    """The state with values of our types: what was edited by hand comes as JSON."""
    read: TalkState = {**state, **_STATE.validate_python(state)}
    if "taken" in state:
        read["taken"] = Node.model_validate(state["taken"])
    return read


async def begin(state: TalkState, runtime: Runtime[SimulationSettings]) -> dict[str, Any]:
    """The persona, the conversation so far, and the reply that this turn goes on from."""
    state, settings = _read(state), runtime.context or SimulationSettings()
    if state.get("ended"):
        raise ConfigError("the user has ended this talk; begin another one")
    talk = state.get("conversation") or await new_conversation(settings, state.get("persona", 0))
    transcript = _answered(state.get("messages", []))
    parent = _parent(transcript, state)
    if parent is not None:
        transcript = (*transcript[:-1], parent.message)
    return {"conversation": talk, "parent": parent, "transcript": transcript}


def _answered(messages: Sequence[AnyMessage]) -> tuple[Message, ...]:
    """The conversation up to the last reply; ConfigError if it is none."""
    said = [(_ROLES.get(message.type), str(message.text)) for message in messages]
    if [role for role, _ in said] != [("user", "assistant")[place % 2] for place in range(len(said))]:
        raise ConfigError("messages must be of the user and the assistant in turns, the user's first")
    whole = said[: len(said) // 2 * 2]
    return tuple(Message.model_validate({"role": role, "content": text}) for role, text in whole)


def _parent(transcript: Sequence[Message], state: TalkState) -> Node | None:
    """The reply at the end of the conversation: the one that was taken, as it may have been edited, or one that was
    given from outside."""
    turn = len(transcript) // 2
    if turn == 0:
        return None
    taken, text = state.get("taken"), transcript[-1].content
    if taken is None or taken.turn != turn:
        path = "/".join("1" * turn)
        above = path.rpartition("/")[0]
        asked = f"{above}/u" if above else "u"
        return Node(id=path, parent=asked, turn=turn, role="assistant", text=text, by="given")
    if text == taken.text:  # then it was edited among the replies, if at all
        text = next((reply.text for reply in state.get("replies", ()) if reply.id == taken.id), text)
    return taken.model_copy(update={"text": text})


async def show(state: TalkState) -> dict[str, Any]:
    """The user's message among the messages, as soon as it is said."""
    said = _read(state)["user"]
    return {"messages": [] if _unanswered(state) is not None else [HumanMessage(said.text, id=said.id)]}


async def take(state: TalkState, runtime: Runtime[SimulationSettings]) -> dict[str, Any]:
    """The reply that the branching policy continues (of several the first)."""
    read, settings = _read(state), runtime.context or SimulationSettings()
    turn = Turn(**{name: read[name] for name in Turn.model_fields if name in read})  # type: ignore[literal-required]
    taken = (await branching_policy(settings.policy)(read["conversation"], [turn]))[0]
    return {"taken": taken, "messages": [AIMessage(taken.text, id=taken.id)]}


def _unanswered(state: TalkState) -> str | None:
    """What was said to the candidates by hand, and not answered yet."""
    messages = state.get("messages", [])
    return str(messages[-1].text) if messages and messages[-1].type == "human" else None


def _spoken_by_hand(seats: Seats, text: str) -> Seats:
    async def user(ask: UserAsk) -> Said:
        return Said(text=text)

    return replace(seats, user=user)


def _seated(node: Any) -> Any:
    """The node of the turn graph with the seats that the settings name. (Any: LangGraph types nodes by overloads.)"""

    async def run(state: TalkState, runtime: Runtime[Any]) -> Any:
        seats = await unrecorded_seats(runtime.context or SimulationSettings())
        by_hand = _unanswered(state)
        async with unwrapped():
            return await node(
                _read(state), runtime.override(context=seats if by_hand is None else _spoken_by_hand(seats, by_hand))
            )

    return run


_NODES: tuple[tuple[str, Any], ...] = (
    ("begin", begin),
    *((name, _seated(node)) for name, node, _ in TURN[:1]),
    ("show", show),
    *((name, _seated(node)) for name, node, _ in TURN[1:]),
    ("take", take),
)


@cache
def turn_by_hand() -> CompiledStateGraph[Any, Any, Any, Any]:
    """The compiled graph; its context is a SimulationSettings, None for all defaults."""
    graph = StateGraph(TalkState, context_schema=SimulationSettings, input_schema=TalkInput)
    for name, node in _NODES:
        graph.add_node(name, node)
    for (before, _), (name, _) in pairwise([(START, None), *_NODES, (END, None)]):
        graph.add_edge(before, name)
    return graph.compile(name="turn by hand")
