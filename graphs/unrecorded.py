"""The seats of a simulation with nothing on record: what is done by hand is kept by LangGraph's own checkpoints."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cache

from pydantic import JsonValue

from interalign import config
from interalign.agents.own_prompts import read_prompts
from interalign.config import SimulationSettings
from interalign.graphs.seats import simulation_seats
from interalign.graphs.turn import Conversation, Seats
from interalign.ledger import Ledger
from interalign.models.base import ChatModel, Parameters
from interalign.models.resolve import resolve_model
from interalign.people import load_personas
from interalign.records import Call, Place, Reply
from interalign.tree import Message


class Unrecorded(Ledger):
    """Asks at once and keeps nothing."""

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

    def find_state(
        self, tree: str, role: str, name: str, paths: Sequence[tuple[str, bytes]]
    ) -> tuple[int, bytes] | None:
        """None: an agent gets the whole conversation in every turn, since threads are begun and edited at will."""
        return None


# In threads: files are read, and `langgraph dev` refuses that in the event loop.
async def unrecorded_seats(settings: SimulationSettings) -> Seats:
    """The seats that these settings name; ConfigError for a role or a prompt that is not there."""
    return await asyncio.to_thread(_seats, settings.model_dump_json())


async def new_conversation(settings: SimulationSettings, number: int) -> Conversation:
    """A conversation with the persona of this number, from 0, of those that the settings name."""
    personas = await asyncio.to_thread(
        load_personas, settings.personas, split="train", n=number + 1, seed=settings.seed
    )
    return Conversation(
        tree="by-hand",
        case="by-hand",
        seed=settings.seed,
        persona=personas[number % len(personas)],
        turns=settings.turns,
        end_mark=settings.end_mark,
    )


@cache
def _seats(settings: str) -> Seats:
    """One object a setting, since models may be slow to load."""
    runtime = config.Runtime()
    chosen = SimulationSettings.model_validate_json(settings)
    prompts = read_prompts(chosen, None)
    return simulation_seats(chosen, Unrecorded(), lambda spec: resolve_model(spec, runtime), prompts)
