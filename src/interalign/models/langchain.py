"""Any LangChain chat model in any seat, retried as `openai:` models are."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from interalign.config import Runtime
from interalign.errors import BadContentError, ConfigError, FailedTreeError, InteralignError
from interalign.model_spec import ModelSpec
from interalign.models.base import Parameters, provider_seed
from interalign.models.endings import Ending, ending_of
from interalign.models.faults import AttemptContext, Transient, fault_of_status
from interalign.models.governor import Governor
from interalign.models.names import importable, needed_package, unknown_name
from interalign.models.retry import DeadlineError, RetryUselessError, ask_until_answered
from interalign.records import Reply
from interalign.tree import Message

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_FINISH_REASONS = ("finish_reason", "stop_reason", "done_reason")
"""Where providers say how a reply ended."""
_ADDRESSES = ("openai_api_base", "anthropic_api_url", "azure_endpoint", "base_url", "endpoint_url", "endpoint")
"""Where chat models keep the address they ask."""


class LangChainModel:
    """A `BaseChatModel` as our ChatModel. Its own retries should be off: ours are the only ones."""

    def __init__(self, name: str, chat: "BaseChatModel", runtime: Runtime | None = None) -> None:
        runtime = runtime or Runtime()
        self.name = name
        self.chat = chat
        self.governor = Governor(runtime.concurrency, runtime.deadline / 2)
        self._deadline = runtime.deadline
        self._server = _address_of(chat) or ModelSpec.parse(name).scheme

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """One reply; BadContentError for an empty, refused or tool-calling one, else as docs/faults.md says."""
        from langchain_core.messages import convert_to_messages

        chat = convert_to_messages([message.model_dump() for message in messages])
        given = parameters.model_dump(exclude={"seed", "extra_body"}, exclude_none=True)
        number = provider_seed(parameters, seed)
        settings = {**given, **({} if number is None else {"seed": number}), **parameters.extra_body}
        asked = AttemptContext(
            ModelSpec.parse(self.name).scheme, self.name, sum(message.role == "user" for message in messages)
        )
        sends = 0

        async def once(_: LangChainModel) -> Reply:
            nonlocal sends
            sends += 1
            try:
                return self._reply(await self.chat.ainvoke(chat, **settings), sends)
            except InteralignError:
                raise
            except Exception as error:  # noqa: BLE001 - raised again in our words
                raise _translated(asked, error) from None  # its text may hold a key

        try:
            return await ask_until_answered(
                [self], once, self._deadline, latency_class=id(parameters)
            )  # a seat hands in the same object
        except DeadlineError as error:
            late = f"{self.name} did not answer within the deadline; raise --deadline ({error})"
            raise FailedTreeError(late) from None
        except RetryUselessError as error:
            raise error.as_stop(asked.server) from None

    def _reply(self, answer: Any, sends: int) -> Reply:
        text, facts, usage = str(answer.text), answer.response_metadata, answer.usage_metadata or {}
        told = next((facts[name] for name in _FINISH_REASONS if facts.get(name)), None)
        ending = ending_of(told)
        tokens = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
        if answer.tool_calls:
            raise BadContentError(f"{self.name} answered with a tool call where text was due", text, tokens)
        refusal = answer.additional_kwargs.get("refusal")
        if refusal or ending is Ending.filtered:
            raise BadContentError(f"{self.name} refused ({refusal or 'content filter'})", text, tokens)
        if not text.strip():
            raise BadContentError(f"{self.name} answered nothing", text, tokens)
        if ending is Ending.broken:
            raise BadContentError(f"{self.name} broke off (finish_reason {told})", text, tokens)
        return Reply(
            text=text,
            model=facts.get("model_name") or self.name,
            finish_reason=ending.value or None,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            server=self._server,
            sends=sends,
        )


def _address_of(chat: object) -> str:
    """The address that a chat model was told to ask; empty if it has none of its own."""
    told = next((url for name in _ADDRESSES if isinstance(url := getattr(chat, name, None), str) and url), "")
    scheme, mark, rest = told.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}".partition("?")[0]


def _translated(asked: AttemptContext, error: Exception) -> InteralignError | Transient:
    """What a foreign error means: by its HTTP status if it has one, else a lost connection, else a failed tree."""
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    kind, said = type(error).__name__, " ".join(without_keys(str(error)).split())[:200]
    if isinstance(status, int) and status >= 300:
        body = without_keys(str(getattr(response, "text", None) or error))
        return fault_of_status(asked, status, getattr(response, "headers", None) or {}, body)
    if isinstance(error, TimeoutError | ConnectionError) or "Timeout" in kind or "Connect" in kind:
        return Transient(f"{kind}: {said}")
    return FailedTreeError(f"{asked.model}: {kind}: {said}")


def without_keys(text: str) -> str:
    """The text without the value of any key in the environment: every provider has a variable of its own."""
    for name, value in os.environ.items():
        if name.endswith(("_API_KEY", "_TOKEN", "_SECRET")) and len(value) > len("(key)"):
            text = text.replace(value, "(key)")
    return text


def langchain_model(spec: str, runtime: Runtime | None = None) -> LangChainModel:
    """The model `provider:name` through `init_chat_model`; ConfigError if LangChain cannot build it."""
    provider = ModelSpec.parse(spec).scheme
    package = needed_package(provider)
    try:
        from langchain.chat_models import init_chat_model
    except ImportError:
        if package is None and not importable(f"langchain_{provider.replace('-', '_')}"):
            raise ConfigError(unknown_name(spec)) from None
        packages = f"langchain {package or f'langchain-{provider}'}"
        raise ConfigError(f"model {spec!r} needs LangChain's integration; pip install {packages}") from None
    try:
        return LangChainModel(spec, init_chat_model(spec, max_retries=0), runtime)
    except Exception as error:
        if package is None and isinstance(error, ValueError | ImportError):  # LangChain knows no such provider either
            raise ConfigError(unknown_name(spec)) from error
        reason = str(error).strip().partition("\n")[0][:200]
        raise ConfigError(f"model {spec!r}: {reason}") from error
