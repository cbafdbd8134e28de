"""The turn graph for stepping by hand, as in LangGraph Studio: seats by name, nothing recorded.

The context is the settings of a simulation as plain JSON, all of them optional: `{"candidate": "world:oracle"}`. Run
again in the same thread, the graph adds the next turn. To keep a conversation, use `interalign simulate`.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from pydantic import JsonValue

from interalign import config
from interalign.agents.templates import builtin_prompts
from interalign.config import SimulationSettings
from interalign.errors import ConfigError
from interalign.graphs.many_trees import unwrapped
from interalign.graphs.policy import branching_policy
from interalign.graphs.seats import simulation_seats
from interalign.graphs.turn import TURN, Conversation, Seats, Turn, TurnState
from interalign.ledger import Ledger
from interalign.models.base import ChatModel, Parameters
from interalign.models.resolve import resolve_model
from interalign.models.world import world_personas
from interalign.personas import Persona, parse_personas
from interalign.records import Call, Place, Reply
from interalign.tree import Message


class Nothing(TypedDict):
    """No input: what the graph needs is in its context and in its thread."""


class Unrecorded(Ledger):
    """Asks at once and keeps nothing: LangGraph's own checkpoints are the record of what is done by hand."""

    def __init__(self) -> None:
        """There is no file and no limit."""

    async def call(
        self, place: Place, model: ChatModel, messages: Sequence[Message], parameters: Parameters, seed: int
    ) -> Call:
        """What the model says now."""
        return Call(key="", reply=await model(messages, parameters, seed))

    async def record(self, place: Place, name: str, request: JsonValue, answer: Callable[[], Awaitable[str]]) -> Call:
        """What the plug-in says now."""
        return Call(key="", reply=Reply(text=await answer(), model=name))


async def begin(state: TurnState, runtime: Runtime[SimulationSettings]) -> dict[str, Any]:
    """The first persona and an empty conversation; in a thread that holds a turn already, the reply to go on with."""
    settings = runtime.context or SimulationSettings()
    if "replies" not in state:
        persona = _first_persona(settings)
        talk = Conversation(
            tree="by-hand", case="by-hand", seed=settings.seed, persona=persona, turns=settings.turns,
            end_mark=settings.end_mark,
        )  # fmt: skip
        return {"conversation": talk, "parent": None, "transcript": ()}
    if state.get("ended"):
        raise ConfigError("the user has ended this talk; begin another one")
    turn = Turn(**{name: state[name] for name in Turn.model_fields if name in state})  # type: ignore[literal-required]
    taken = (await branching_policy(settings.policy)(state["conversation"], [turn]))[0]
    return {"parent": taken, "transcript": (*state["transcript"], taken.message)}


def _first_persona(settings: SimulationSettings) -> Persona:
    if settings.personas == "world":
        return world_personas("train", 1, settings.seed)[0]
    return parse_personas(Path(settings.personas).read_text(encoding="utf-8").splitlines(), settings.personas)[0]


@cache
def _seats(settings: str) -> Seats:
    """The seats that these settings name; one object a setting, since models may be slow to load."""
    runtime = config.Runtime()
    return simulation_seats(
        SimulationSettings.model_validate_json(settings),
        Unrecorded(),
        lambda spec: resolve_model(spec, runtime),
        builtin_prompts(),
    )


def _seated(node: Any) -> Any:
    """The node of the turn graph with the seats that the settings name. (Any: LangGraph types nodes by overloads.)"""

    async def run(state: TurnState, runtime: Runtime[Any]) -> Any:
        settings = runtime.context or SimulationSettings()
        async with unwrapped():
            return await node(state, runtime.override(context=_seats(settings.model_dump_json())))

    return run


@cache
def turn_by_hand() -> CompiledStateGraph[Any, Any, Any, Any]:
    """The compiled graph; its context is a SimulationSettings, None for all defaults."""
    graph = StateGraph(TurnState, context_schema=SimulationSettings, input_schema=Nothing)
    graph.add_node(begin)
    for before, node in pairwise([begin, *TURN]):
        graph.add_node(node.__name__, _seated(node))
        graph.add_edge(before.__name__, node.__name__)
    graph.add_edge(START, "begin")
    graph.add_edge("annotate", END)
    return graph.compile(name="turn by hand")
