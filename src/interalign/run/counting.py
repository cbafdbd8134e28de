"""How many calls a tree takes: it is grown by the real graphs over a ledger that counts calls and makes none."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from string import ascii_uppercase
from typing import NamedTuple

from pydantic import JsonValue

from interalign.config import RunSettings
from interalign.graphs.policy import Policy
from interalign.graphs.tree import Growth, Start, grow_tree
from interalign.graphs.turn import Conversation, Farewell, Seats, Turn
from interalign.model_spec import ModelSpec
from interalign.models.base import ChatModel, Parameters
from interalign.personas import Persona
from interalign.records import Call, Place, Reply
from interalign.tree import Message

BYTES_A_TOKEN = 4
REPLY_TOKENS = {"user": 40, "inducer": 60, "candidate": 200, "judge": 100}
"""What replies are taken to have where none of that role is on record yet."""
WORLD_TOKENS = 25
"""The same for the embedded world, whose roles are brief."""


class Unasked:
    """A model that has a name and is never asked."""

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, parameters: Parameters) -> None:
        """ConfigError for parameters that the model itself would refuse; only local ones are known beforehand."""
        if ModelSpec.parse(self.name).scheme == "hf":
            from interalign.models.local.model import refuse_unknown_parameters

            refuse_unknown_parameters(self.name, parameters)

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """Must not be called."""
        raise AssertionError("a dry run calls no model")


class CountedCall(NamedTuple):
    """One counted call."""

    place: Place
    model: str
    prompt_tokens: int
    completion_tokens: int


class CountingLedger:
    """Stands in for the ledger: counts the calls, and answers them with filler of the usual length."""

    def __init__(self, reply_tokens: Mapping[str, int]) -> None:
        """`reply_tokens`: the usual length by role, where it is known."""
        self._known = reply_tokens
        self.made: list[CountedCall] = []

    async def call(
        self, place: Place, model: ChatModel, messages: Sequence[Message], parameters: Parameters, seed: int
    ) -> Call:
        """Filler, for a judge with a last line in the contract's form."""
        assumed = WORLD_TOKENS if ModelSpec.parse(model.name).is_world else REPLY_TOKENS.get(place.role, 0)
        tokens = min(self._known.get(place.role, assumed), parameters.max_tokens or 10**9)
        self.made.append(CountedCall(place, model.name, count_tokens(messages), tokens))
        text = _filler(tokens)
        if place.role == "judge":
            text += f"\n{_last_line(messages[-1].content, place)}"
        return Call(key="", reply=Reply(text=text, model=model.name))

    async def record(self, place: Place, name: str, request: JsonValue, answer: Callable[[], Awaitable[str]]) -> Call:
        """What a plug-in could have answered; the plug-in itself is not asked, and its tokens are its own."""
        self.made.append(CountedCall(place, name, 0, 0))
        return Call(key="", reply=Reply(text=json.dumps(_answer(place.role, request)), model=name))

    def find_state(
        self, tree: str, role: str, name: str, paths: Sequence[tuple[str, bytes]]
    ) -> tuple[int, bytes] | None:
        """No agent is asked."""
        return None


def _last_line(prompt: str, place: Place) -> str:
    """What the judge's answer to this prompt has to end with."""
    if "Ranking:" in prompt:
        return "Ranking: " + " > ".join(ascii_uppercase[: place.node.count("|") + 1])
    return "Verdict: A" if "Verdict: " in prompt else "Score: 3"


def _answer(role: str, request: JsonValue) -> JsonValue:
    if role in ("user", "inducer", "candidate"):
        return {"text": _filler(REPLY_TOKENS[role])}
    if role != "judge":  # a hook
        return {}
    asked = request if isinstance(request, dict) else {}
    if isinstance(listed := asked.get("ranked"), list):
        return {"value": list(range(len(listed))), "replies": ["A"]}
    compares = "second" in asked
    return {"value": "A", "replies": ["A"]} if compares else {"value": 3, "replies": ["3"]}


def _filler(tokens: int) -> str:
    return "word" * max(1, tokens)


def count_tokens(messages: Iterable[Message]) -> int:
    """The tokens of a prompt, about."""
    return sum(len(message.content.encode("utf-8", "replace")) for message in messages) // BYTES_A_TOKEN


async def count_calls(
    counting: CountingLedger,
    seats: Seats,
    settings: RunSettings,
    persona: Persona,
    policy: Policy,
    start: Start | None = None,
) -> None:
    """Have `counting` count the calls of one tree about this persona."""

    async def save(tree: str, turn: Turn | Farewell) -> None:
        pass

    talk = Conversation(tree="t", case="t", seed=settings.seed, persona=persona, turns=settings.turns)
    await grow_tree(talk, Growth(seats=seats, policy=policy, save=save), start)
