"""The budget of a run: the worst case of a call is reserved before it, and settled by the reply."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from interalign.config import Parameters, Price, Runtime
from interalign.errors import ConfigError, StopError, did_you_mean
from interalign.invalid import first_wrong, shown
from interalign.model_spec import ModelSpec
from interalign.records import Spent, Usage, sum_of
from interalign.store.lease_file import LeaseFile, More
from interalign.tree import Message
from interalign.yaml_file import read_yaml

_FREE = ("world", "hf")
"""Models that run in this process and cost nothing."""
_LONGEST_REPLY = 4096
"""Tokens that a reply is taken to have at most where neither `max_tokens` nor the price table says it."""
_NO_TABLE = "give a table with --prices FILE.yaml"
_LONGEST_OF_WORLD = 512
_POLL = 0.05
"""Seconds between two looks whether others have given back a part of a shared budget."""
_TOKENS_A_MESSAGE, _TOKENS_A_PROMPT = 8, 64
"""What a chat template adds at most: the marks of each message, and a system prompt of its own."""


def read_prices(path: Path) -> tuple[tuple[str, Price], ...]:
    """The price table in a YAML file, `MODEL: {prompt: USD, completion: USD}` per million tokens.

    Raises ConfigError that names the model whose entry cannot be read.
    """
    return price_table(read_yaml(path), str(path))


def price_table(given: Mapping[str, object], name: str) -> tuple[tuple[str, Price], ...]:
    """The same from a mapping, which is called `name` in what is raised."""
    return tuple((model, _price(model, prices, name)) for model, prices in given.items())


def _price(model: str, given: object, name: str) -> Price:
    try:
        return Price.model_validate(given)
    except ValidationError as error:
        wrong = first_wrong(error, Price, given if isinstance(given, Mapping) else {})
        reason = wrong.reason if isinstance(given, Mapping) else f"expected two prices, got {shown(given)}"
        where = ".".join([model, *wrong.where])
        raise ConfigError(
            f"{name}: {where}: {reason} (write `{model}: {{prompt: 0.15, completion: 0.6}}`, USD per million tokens)"
        ) from None


class Prices:
    """What the models of a run cost."""

    def __init__(self, table: Iterable[tuple[str, Price]]) -> None:
        """`table`: full model name and price."""
        self._table = dict(table)

    def __bool__(self) -> bool:
        return bool(self._table)

    def of(self, model: str) -> Price | None:
        """The model's price; None if it is not known."""
        spec = ModelSpec.parse(model)
        if spec.scheme in _FREE:
            longest = _LONGEST_OF_WORLD if spec.is_world else None
            return Price(prompt=0.0, completion=0.0, longest_reply=longest)
        return self._table.get(model)

    def usd(self, model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
        """The cost of so many tokens; None if the price is not known."""
        price = self.of(model)
        if price is None:
            return None
        return (prompt_tokens * price.prompt + completion_tokens * price.completion) / 1e6

    def priced(self, model: str, used: Usage) -> Usage:
        """The same with its cost, if there is a price table; unknown where the server counted no tokens at all."""
        cost = self.usd(model, used.prompt_tokens, used.completion_tokens) if self else None
        if (
            used.calls
            and not (used.prompt_tokens or used.completion_tokens)
            and ModelSpec.parse(model).scheme not in _FREE
        ):
            cost = None
        return used.model_copy(update={"usd": cost})

    def refuse_unknown(self, models: Iterable[str], why: str) -> None:
        """ConfigError that names the first of these models without a price."""
        for model in models:
            if self.of(model) is None:
                near = did_you_mean(model, self._table).replace("; ", ", or ")
                has = f"the table has {', '.join(self._table)}: add it{near}" if self else _NO_TABLE
                raise ConfigError(
                    f"{why} needs the price of {model}; {has} "
                    f"(`{model}: {{prompt: 0.15, completion: 0.6}}`, USD per million tokens)"
                )


@dataclass(frozen=True, slots=True)
class Reservation:
    """The worst case of an outstanding call."""

    model: str
    prompt_tokens: int
    completion_tokens: int
    worst: Spent


class Budget:
    """The limits of a run, over all calls in its file. Calls that do not fit wait for outstanding ones to settle."""

    def __init__(self, runtime: Runtime, used: Iterable[tuple[str, Usage]]) -> None:
        """`used`: what is on record already, by model."""
        self._usd, self._tokens = runtime.max_usd, runtime.max_tokens
        self._prices = Prices(runtime.prices)
        self._settled = Spent()
        self._reserved = Spent()
        self._outstanding = 0
        self._changed = asyncio.Event()
        self._leases: LeaseFile | None = None
        self._asking = asyncio.Lock()
        self._max_usd, self._max_tokens = runtime.max_usd, runtime.max_tokens
        self._others = Spent()
        """What the others have that share this budget."""
        self._longest: dict[str, int] = {}
        """Tokens of the longest reply seen so far, by model."""
        self._settled = self.spent(used)

    def spent(self, used: Iterable[tuple[str, Usage]]) -> Spent:
        """What so much usage, by model, comes to."""
        costs = (self._cost(model, use.prompt_tokens, use.completion_tokens) for model, use in used)
        return sum_of(costs)

    def settle_again(self, used: Iterable[tuple[str, Usage]]) -> None:
        """Count from what is on record: others have written into the run's file."""
        self._settled = self.spent(used)

    def share(self, leases: LeaseFile) -> None:
        """Keep the limits together with all other processes that have this file; call it before any `reserve`."""
        self._leases = leases
        self._lease(leases.register(self._settled))

    def close(self) -> None:
        """Give back what was leased and not spent."""
        if self._leases is not None:
            self._leases.close(self._settled.plus(self._reserved))
            self._leases = None

    async def reserve(self, model: str, messages: Sequence[Message], parameters: Parameters) -> Reservation:
        """Set aside what the call can cost at most; StopError if that could pass a limit."""
        prompt, completion = most_prompt_tokens(messages), self._longest_reply(model, parameters)
        worst = self._cost(model, prompt, completion)
        while not self._fits(worst):
            if self._leases is not None and await self._lease_more(self._leases, worst):
                continue
            if not self._outstanding:
                raise StopError(self._reached(worst))
            self._changed.clear()
            await self._changed.wait()
        self._reserved = self._reserved.plus(worst)
        self._outstanding += 1
        return Reservation(model, prompt, completion, worst)

    def settle(self, reserved: Reservation, tokens: tuple[int, int] | None, text: str = "") -> None:
        """Count what the call really took: the server's count; without one, the most it can have been.

        `tokens`: of prompt and reply; None if no reply came, which then costs nothing.
        """
        self._reserved = self._reserved.minus(reserved.worst)
        self._outstanding -= 1
        if tokens is not None:
            prompt, completion = tokens[0] or reserved.prompt_tokens, tokens[1] or _most_tokens(text)
            self._longest[reserved.model] = max(completion, self._longest.get(reserved.model, 0))
            self._settled = self._settled.plus(self._cost(reserved.model, prompt, completion))
        self._changed.set()

    def wait_for_others(self) -> None:
        """A reserved call waits for calls of its own role: it is none that others could wait for."""
        self._outstanding -= 1
        self._changed.set()

    def go_on(self) -> None:
        """It does not wait any more."""
        self._outstanding += 1

    async def _lease_more(self, leases: LeaseFile, worst: Spent) -> bool:
        """Whether it pays to look again: more was leased, or others may give back what they have not spent."""
        async with self._asking:  # one call at a time
            if self._fits(worst):
                return True
            taken = self._settled.plus(self._reserved)
            amount, self._others, more = leases.ask(taken, worst, waits=not self._outstanding)
            self._lease(amount)
            if more is More.may_come:
                await asyncio.sleep(_POLL)
            return more is not More.never

    def _lease(self, lease: Spent) -> None:
        """Go up to what is leased now."""
        self._usd = None if self._usd is None else lease.usd
        self._tokens = None if self._tokens is None else lease.tokens

    def _longest_reply(self, model: str, parameters: Parameters) -> int:
        price = self._prices.of(model)
        unbounded = max(_LONGEST_REPLY, self._longest.get(model, 0))  # one long reply shows that others may be as long
        return parameters.max_tokens or (price and price.longest_reply) or unbounded

    def _cost(self, model: str, prompt_tokens: int, completion_tokens: int) -> Spent:
        usd = self._prices.usd(model, prompt_tokens, completion_tokens) or 0.0
        return Spent(usd, prompt_tokens + completion_tokens)

    def _fits(self, worst: Spent) -> bool:
        usd, tokens = self._settled.plus(self._reserved).plus(worst)
        return (self._usd is None or usd <= self._usd) and (self._tokens is None or tokens <= self._tokens)

    def _reached(self, worst: Spent) -> str:
        taken = self._settled.plus(self._reserved).plus(self._others)
        how = "used or set aside for agents that ask" if self._reserved.tokens else "used"
        by = f" by all that share {self._leases.path.name}" if self._leases is not None else ""
        if self._max_tokens is not None and taken.tokens + worst.tokens > self._max_tokens:
            used = f"{taken.tokens:,} of --max-tokens {self._max_tokens:,} are {how}{by}, and the next call could take"
            return f"{used} {worst.tokens:,}; raise --max-tokens and run the same command again"
        used = f"${taken.usd:.4f} of --max-usd {self._max_usd:g} are spent{by}, and the next call could cost"
        return f"{used} ${worst.usd:.4f}; raise --max-usd and run the same command again"


def counted(tokens: tuple[int, int], messages: Sequence[Message], text: str) -> tuple[int, int]:
    """Tokens of a prompt and its reply: the server's own count, and where it counted nothing the most it can be."""
    return tokens[0] or most_prompt_tokens(messages), tokens[1] or _most_tokens(text)


def _most_tokens(text: str) -> int:
    """A text has no more tokens than bytes."""
    return len(text.encode("utf-8", "replace"))


def most_prompt_tokens(messages: Sequence[Message]) -> int:
    """More tokens than any tokenizer in use makes of these messages: one a byte, and what a chat template adds."""
    text = sum(len(message.content.encode("utf-8", "replace")) for message in messages)
    return text + _TOKENS_A_MESSAGE * len(messages) + _TOKENS_A_PROMPT
