"""Any LangChain chat model in any seat."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from interalign.errors import BadContentError, ConfigError, FailedTreeError, InteralignError
from interalign.models.base import Parameters, Reply
from interalign.tree import Message

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_PLUGIN = "a plug-in is MODULE:ATTRIBUTE, and its module one that Python can import here"


class LangChainModel:
    """A `BaseChatModel` as our ChatModel. Its own retries should be off: retrying is not its business."""

    def __init__(self, name: str, chat: "BaseChatModel") -> None:
        self.name = name
        self.chat = chat

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """One reply; BadContentError for an empty, refused or tool-calling one, FailedTreeError for any error."""
        from langchain_core.messages import convert_to_messages

        chat = convert_to_messages([message.model_dump() for message in messages])
        settings = {**parameters.model_dump(exclude={"extra"}, exclude_none=True), **parameters.extra}
        try:
            answer = await self.chat.ainvoke(chat, **settings)
        except InteralignError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise FailedTreeError(f"{self.name}: {type(error).__name__}: {reason}") from error
        return self._reply(answer)

    def _reply(self, answer: Any) -> Reply:
        text, facts = str(answer.text), answer.response_metadata
        if answer.tool_calls:
            raise BadContentError(f"{self.name} answered with a tool call where text was due", text)
        refusal = answer.additional_kwargs.get("refusal")
        if refusal or facts.get("finish_reason") == "content_filter":
            raise BadContentError(f"{self.name} refused ({refusal or 'content filter'})", text)
        if not text.strip():
            raise BadContentError(f"{self.name} answered nothing", text)
        usage = answer.usage_metadata or {}
        return Reply(
            text=text,
            model=facts.get("model_name") or self.name,
            finish_reason=facts.get("finish_reason"),
            prompt_tokens=usage.get("input_tokens", 0),
            completion_tokens=usage.get("output_tokens", 0),
        )


def langchain_model(spec: str) -> LangChainModel:
    """The model `provider:name` through `init_chat_model`; ConfigError if LangChain cannot build it."""
    try:
        from langchain.chat_models import init_chat_model
    except ImportError:
        provider = spec.partition(":")[0]
        raise ConfigError(
            f"model {spec!r} needs LangChain's integration; pip install langchain langchain-{provider} ({_PLUGIN})"
        ) from None
    try:
        return LangChainModel(spec, init_chat_model(spec))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise ConfigError(f"model {spec!r}: {reason} ({_PLUGIN})") from error
