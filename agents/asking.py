"""A role's own questions to models: on record, within the budget and replayed, as every call is."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from pydantic import TypeAdapter

from interalign.agents.answers import parse_score, parse_verdict
from interalign.agents.protocols import At
from interalign.agents.speaker import Speaker, read_text
from interalign.agents.templates import builtin_prompts
from interalign.config import Parameters
from interalign.errors import BadContentError, ConfigError, StopError
from interalign.ledger import Calls
from interalign.models.base import ChatModel
from interalign.models.call_state import CallState
from interalign.seeds import addressed_seed
from interalign.tree import Message

T = TypeVar("T")
Chat = str | Sequence[Message | Mapping[str, str]]
"""Messages as a role gives them: ours, mappings with `role` and `content`, or the text of one user message."""
_CHAT = TypeAdapter(tuple[Message, ...])
_AGAIN: dict[Any, str] = {read_text: "again_text", parse_verdict: "again_compare", parse_score: "again_score"}
"""The prompt that asks again, by what reads the reply; for any other reader: `again_form`."""


@dataclass(frozen=True)
class Invocation:
    """One time that a role is asked: what its own questions are recorded under and where they go."""

    role: str
    at: At
    ledger: Calls
    resolve: Callable[[str], ChatModel]
    """From a model's name to the model; one object a name and run. ConfigError if there is none."""


class Asking:
    """What `ask_model` uses while a role is at work. Equal questions are told apart by their number."""

    def __init__(self, invocation: Invocation, call: CallState | None) -> None:
        """`call` is the role's own call, whose slot others may use while the role waits for an answer."""
        self._invocation = invocation
        self._call = call
        self._asked: Counter[str] = Counter()
        self.is_over = False
        """The role has answered."""

    async def ask(self, name: str, chat: Chat, parameters: Parameters, label: str, read: Callable[[str], T]) -> T:
        """What `read` makes of the reply; see `ask_model`."""
        here, messages = self._invocation, _messages(chat)
        at = here.at.model_copy(update={"seed": self._seed(name, messages, parameters, label)})
        speaker = Speaker(f"{here.role}/{label}", self._model(name), parameters, here.ledger, builtin_prompts())
        async with _elsewhere(self._call):
            heard = await speaker.ask(
                at, messages, lambda reply: read(read_text(reply)), _AGAIN.get(read, "again_form")
            )
        if heard.value is None:
            raise BadContentError(f"{name} gave nothing usable, {heard.unusable()}", heard.replies[-1])
        return heard.value

    def _seed(self, name: str, messages: Sequence[Message], parameters: Parameters, label: str) -> int:
        """By what is asked, not by when: questions that are asked side by side have the same seeds in every run."""
        said = [message.model_dump() for message in messages]
        question = json.dumps([name, label, said, parameters.model_dump(mode="json", exclude_defaults=True)])
        self._asked[question] += 1
        return addressed_seed(self._invocation.at.seed, "ask", question, self._asked[question])

    def _model(self, name: str) -> ChatModel:
        try:
            return self._invocation.resolve(name)
        except ConfigError as error:
            # Not a ConfigError: the run has begun, and goes on from here once the name or its price is put right.
            raise StopError(f"the {self._invocation.role} asks {name!r}: {error}") from None


ASKING: ContextVar[Asking | None] = ContextVar("asking", default=None)
"""The role that is at work in this task; tasks that it starts know it too."""


@overload
async def ask_model(
    model: str, messages: Chat, *, label: str = ..., read: Callable[[str], T], **parameters: Any
) -> T: ...
@overload
async def ask_model(model: str, messages: Chat, *, label: str = ..., **parameters: Any) -> str: ...
async def ask_model(
    model: str,
    messages: Chat,
    *,
    label: str = "ask",
    read: Callable[[str], Any] = read_text,
    **parameters: Any,
) -> Any:
    """Ask a model from within a role, a hook or an agent that interalign has asked.

    `messages` is a text, or a list of messages with `role` and `content`; `parameters` are those of `ia.Parameters`.
    The answer is the reply's text, reasoning cut off, or what `read` makes of it: a function that raises
    BadContentError for a text it cannot read, such as `ia.parse_verdict`. The call is on record under the role's name
    and `label` before the answer is here, counts in the budget and against `--concurrency`, and is not made again when
    the run goes on. Each of several equal questions is a call of its own. What cannot be used is asked for again, at
    most twice, with a note that says so.

    Raises BadContentError when no reply can be used, StopError when there is no such model or money is limited and its
    price not known, ConfigError outside of a role.
    """
    asking = ASKING.get()
    if asking is None or asking.is_over:
        raise ConfigError("ask_model works while a role is asked in a run, and not before or after that")
    if not label or "/" in label:
        raise ValueError(f"label {label!r}: give a short word, without `/`")
    return await asking.ask(model, messages, Parameters.model_validate(parameters), label, read)


def _messages(chat: Chat) -> tuple[Message, ...]:
    if isinstance(chat, str):
        return (Message(role="user", content=chat),)
    messages = _CHAT.validate_python(tuple(chat))
    if not messages:
        raise ValueError("ask_model was given no messages")
    return messages


@asynccontextmanager
async def _elsewhere(call: CallState | None) -> AsyncIterator[None]:
    """Give the slot of this call away, and take one again before the role goes on."""
    if call is None:
        yield
        return
    call.release_slot()
    try:
        yield
    except asyncio.CancelledError:
        call.forget_slot()
        raise
    except BaseException:
        await call.regain_slot()
        raise
    await call.regain_slot()
