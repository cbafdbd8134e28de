"""A plain loop over the world's models, with the real prompts: no LangGraph, no ledger."""

import asyncio
from collections.abc import Sequence

import numpy as np

from interalign.agents.inducer import inducer_messages
from interalign.agents.protocols import At, InducerAsk, UserAsk
from interalign.agents.templates import builtin_prompts
from interalign.agents.user import user_messages
from interalign.models.base import ChatModel, Parameters
from interalign.models.world import world_model, world_personas
from interalign.personas import Persona
from interalign.seeds import addressed_seed
from interalign.tree import Message

AT = At(tree="t", node="u", seed=1)


def said(role: str, content: str) -> Message:
    return Message.model_validate({"role": role, "content": content})


CALM = "I write short messages without emoji, in a calm tone. I like to be answered in the same way."
WARM = "I write long messages with emoji, in a lively tone. I like to be answered in the same way."
FACTS = (
    "I am into chess.",
    "I have a cat.",
    "I eat vegan food.",
    "I work as a nurse.",
    "I live in Paris.",
    "I listen to jazz.",
)
PERSON = Persona(id="p", profile=FACTS, personality=CALM, source="world")
TOLD = [said("user", "I have a cat. Any idea for the walk?")]
UNTOLD = [said("user", "Any idea for the walk?")]
RIGHT = "Since you have a cat, plan the walk around that."


def ask(model: ChatModel | str, messages: Sequence[Message], seed: int = 0) -> str:
    model = world_model(model) if isinstance(model, str) else model
    return asyncio.run(model(messages, Parameters(), seed)).text


def ask_often(model: ChatModel, messages: Sequence[Message], n: int) -> list[str]:
    """The replies to one prompt with seeds 0 to n - 1."""

    async def replies() -> list[str]:
        return [(await model(messages, Parameters(), seed)).text for seed in range(n)]

    return asyncio.run(replies())


def user_seat(persona: Persona, talk: Sequence[Message]) -> list[Message]:
    return user_messages(builtin_prompts(), UserAsk(at=AT, persona=persona, transcript=tuple(talk), turn=1))


def with_last(talk: Sequence[Message], prompt: str, **values: object) -> list[Message]:
    if prompt == "inducer":
        return inducer_messages(builtin_prompts(), InducerAsk(at=AT, transcript=tuple(talk)))
    return [*talk[:-1], said("user", builtin_prompts().render(prompt, message=talk[-1].content, **values))]


async def play(
    persona: Persona, candidate: ChatModel, *, user: str = "user", hints: bool = False, turns: int = 10, seed: int = 0
) -> tuple[list[Message], list[int]]:
    """One conversation and the judge's score of every reply."""
    user_model, inducer, judge = world_model(user), world_model("inducer"), world_model("judge")
    talk: list[Message] = []
    scores: list[int] = []

    async def reply(model: ChatModel, who: str, messages: Sequence[Message]) -> str:
        return (await model(messages, Parameters(), addressed_seed(who, seed, persona.id, len(scores) + 1))).text

    for _ in range(turns):
        talk.append(said("user", await reply(user_model, "user", user_seat(persona, talk))))
        seat = list(talk)
        if hints:
            notes = await reply(inducer, "inducer", with_last(talk, "inducer"))
            seat = with_last(talk, "candidate_hint", hint=notes)
        text = await reply(candidate, "candidate", seat)
        verdict = await reply(judge, "judge", with_last(talk, "judge_score", persona=persona, reply=text))
        scores.append(int(verdict.removesuffix("\n")[-1]))
        talk.append(said("assistant", text))
    return talk, scores


def levels(candidate: str, *, user: str = "user", hints: bool = False, n: int = 96) -> np.ndarray:
    """Scores of shape (n cases, 10 turns) on held-out personas."""

    async def all_talks() -> list[list[int]]:
        personas = world_personas("heldout", n, 0)
        return [(await play(persona, world_model(candidate), user=user, hints=hints))[1] for persona in personas]

    return np.array(asyncio.run(all_talks()), dtype=float)
