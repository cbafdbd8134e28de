"""Estimate what a generation will take: the real graph over a ledger that answers with filler, half of it usable."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from interalign.agents.own_prompts import persona_prompts
from interalign.config import PersonaSettings, Runtime
from interalign.graphs.persona_pool import PER_CALL
from interalign.ledger.budget import Prices
from interalign.model_spec import ModelSpec
from interalign.models.base import ChatModel, Parameters
from interalign.people.seeds import Seeds
from interalign.records import Call, Place, Reply, Usage
from interalign.run.counting import BYTES_A_TOKEN, Unasked, count_tokens
from interalign.run.dry_run import (
    BYTES_A_CALL,
    BYTES_A_REPLY_BYTE,
    UNMEASURED_SECONDS,
    Estimate,
    EstimateLine,
)
from interalign.run.generation import Writer, both_pools, refuse_other, seeds_held
from interalign.run.session import refuse_unknown_prices
from interalign.tree import Message

_KEPT: Final = PER_CALL // 2
"""Items of a call that are taken to be kept."""


async def estimate_generation(path: Path, settings: PersonaSettings, seeds: Seeds, runtime: Runtime) -> Estimate:
    """What `run_generation` with the same arguments is expected to take, from its beginning; nothing is asked.

    Raises ConfigError where that would refuse to go on.
    """
    refuse_unknown_prices([settings.model], runtime)
    recorded = refuse_other(path, settings, seeds)
    counting = _Counting(seeds)
    writer = Writer(counting, Unasked(settings.model), settings, persona_prompts(settings, recorded))
    await both_pools(settings, seeds, seeds_held(seeds, settings.model_copy(update={"embedding": "tfidf"})), writer)
    used, prices = counting.used, Prices(runtime.prices)
    cost = prices.usd(settings.model, used.prompt_tokens, used.completion_tokens)
    line = EstimateLine(role="writer", model=settings.model, used=used.model_copy(update={"usd": cost}))
    is_world = ModelSpec.parse(settings.model).is_world
    return Estimate(
        trees=settings.n,
        what="personas",
        lines=(line,),
        seconds=0.0 if is_world else UNMEASURED_SECONDS * used.calls / min(runtime.concurrency, used.calls),
        unmeasured=() if is_world else ("writer",),
        bytes_on_disk=round(BYTES_A_CALL * used.calls + BYTES_A_REPLY_BYTE * BYTES_A_TOKEN * used.completion_tokens),
        basis=(
            f"half of what is written is taken to be kept, texts as long as the seeds; {BYTES_A_TOKEN} bytes a token; "
            "no retries; "
            "calls already on record are counted as well"
        ),
    )


class _Counting:
    """Stands in for the ledger: counts the calls, and answers them with people that are like nobody."""

    def __init__(self, seeds: Seeds) -> None:
        self._seeds = seeds
        self.used = Usage(calls=0, prompt_tokens=0, completion_tokens=0, bad=0)

    async def call(
        self, place: Place, model: ChatModel, messages: Sequence[Message], parameters: Parameters, seed: int
    ) -> Call:
        """As many people as are asked for, half of them usable, each as long as one of the seeds."""
        people = self._seeds.of(place.tree.partition("-")[0])
        numbers = range(self.used.calls * PER_CALL, (self.used.calls + 1) * PER_CALL)
        text = "\n".join(_filler(number, people[number % len(people)]) for number in numbers)
        new = Usage(
            calls=1, prompt_tokens=count_tokens(messages), completion_tokens=len(text) // BYTES_A_TOKEN, bad=0, usd=None
        )
        self.used += new
        return Call(key="", reply=Reply(text=text, model=model.name))

    async def record(self, place: Place, name: str, request: JsonValue, answer: Callable[[], Awaitable[str]]) -> Call:
        """No plug-in is asked here."""
        raise AssertionError("a generation asks models only")

    def find_state(
        self, tree: str, role: str, name: str, paths: Sequence[tuple[str, bytes]]
    ) -> tuple[int, bytes] | None:
        """No agent is asked."""
        return None


def _filler(number: int, lines: Sequence[str]) -> str:
    """A person whose words nobody else has; of every two one says nothing."""
    if number % PER_CALL >= _KEPT:
        return "\n".join([f"Person {number}", *("- " + "." * len(line) for line in lines)])
    words = (f"w{number}x{place}" for place in range(len(lines)))
    return "\n".join(
        [
            f"Person {number}",
            *(f"- {word}{'w' * (len(line) - len(word))}" for word, line in zip(words, lines, strict=True)),
        ]
    )
