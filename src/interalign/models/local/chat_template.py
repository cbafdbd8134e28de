"""A tokenizer's chat template: conversations to text and to token ids, for serving and for training alike."""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Final

from interalign.errors import ConfigError
from interalign.models.chat_shape import alternating, without_system
from interalign.models.local.control_tokens import ControlTokens, ConversationRefusedError, Rendered
from interalign.tree import Message

KWARGS: Final = "chat_template_kwargs"
"""Name of the template's arguments: in requests, in training settings, and in a trained tokenizer_config.json."""

_LOG = logging.getLogger(__name__)
_OURS = (
    "conversation", "messages", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize", "sanitize_control_tokens", "padding", "truncation", "max_length",
    "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs",
)  # fmt: skip
"""What the template's arguments may not set."""
_SYSTEM, _USER = Message(role="system", content="Answer plainly."), Message(role="user", content="Good morning.")
_ASSISTANT = Message(role="assistant", content="You are welcome.")
_Shape = Callable[[Sequence[Message]], list[Message]]


class ChatTemplate:
    """The chat template of a tokenizer, with its arguments: those that came with the tokenizer, then those given."""

    def __init__(self, tokenizer: Any, kwargs: Mapping[str, Any] | None = None, said: set[str] | None = None) -> None:
        """`said`: what was logged already; templates that share it do not repeat one another."""
        self.tokenizer = tokenizer
        self.kwargs: dict[str, Any] = {**(tokenizer.init_kwargs.get(KWARGS) or {}), **(kwargs or {})}
        self._said = set() if said is None else said

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the conversation up to where the assistant begins to speak.

        No control token is among them that the template did not write. Raises ConversationRefusedError.
        """
        return self.control.encode(self.render(messages, generation_prompt=True))

    def render(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> Rendered:
        """What the template writes, and where messages spell control tokens out; ConversationRefusedError if it cannot.

        System messages go into the next user message, and neighbours of one role together, if it takes no others.
        """
        for shape in self._shapes:
            shaped = shape(messages)
            self._say_once(shape, changed=shaped != list(messages))
            messages = shaped
        texts = [message.content for message in messages]
        text = self._text(messages, texts, generation_prompt)
        if not self.control.are_in(texts):
            return Rendered(text)
        return self.control.locate(text, self._text(messages, map(self.control.mark, texts), generation_prompt))

    @cached_property
    def control(self) -> ControlTokens:
        """The tokenizer's control tokens, and text to token ids."""
        probe = [_USER, _ASSISTANT]
        written = [self.source]
        for messages in (probe, [_SYSTEM, *probe]):
            try:
                text = self._text(messages, [message.content for message in messages], generation_prompt=True)
            except ConversationRefusedError:
                continue
            for message in messages:
                text = text.replace(message.content, "\0")
            written.append(text)
        return ControlTokens(self.tokenizer, "\0".join(written))

    @property
    def source(self) -> str:
        """The template itself."""
        return str(self.tokenizer.get_chat_template())

    def variables(self) -> frozenset[str]:
        """Names that the template reads; those of its arguments are among them."""
        import jinja2.meta

        environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
        # A tag that only transformers knows; it marks what an assistant says and writes nothing.
        plain = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", self.source)
        return frozenset(jinja2.meta.find_undeclared_variables(environment.parse(plain)))

    def arguments(self) -> list[str]:
        """Names of the arguments that may be given: what the template reads beside what transformers gives it."""
        given = {*_OURS, "range", "dict", "namespace", "raise_exception", "strftime_now"}
        return sorted(name for name in self.variables() - given if not name.endswith("_token"))

    def _text(self, messages: Sequence[Message], texts: Any, generation_prompt: bool) -> str:
        chat = [{"role": message.role, "content": text} for message, text in zip(messages, texts, strict=True)]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    chat, tokenize=False, add_generation_prompt=generation_prompt, **self.kwargs
                )
            )
        except Exception as error:  # noqa: BLE001 - a template is a program of somebody else's
            why = " ".join(str(error).split())
            raise ConversationRefusedError(f"the chat template refuses the conversation ({why})") from None

    @cached_property
    def _shapes(self) -> list[_Shape]:
        """What a conversation goes through before the template takes it."""
        if not self._takes([_USER]):
            return []
        shapes: list[_Shape] = [] if self._takes([_SYSTEM, _USER]) else [without_system]
        return shapes if self._takes([_USER, _USER]) else [*shapes, alternating]

    def _takes(self, messages: Sequence[Message]) -> bool:
        """Whether the template writes all of these messages; some leave system messages out without a word."""
        texts = [message.content for message in messages]
        try:
            written = self._text(messages, texts, generation_prompt=True).casefold()
        except ConversationRefusedError:
            return False
        return all(text.casefold() in written for text in texts)

    def _say_once(self, shape: _Shape, *, changed: bool) -> None:
        if not changed or shape.__name__ in self._said:
            return
        self._said.add(shape.__name__)
        _LOG.warning(_SHAPED[shape.__name__], self.tokenizer.name_or_path)


_SHAPED: Final = {
    "without_system": "the chat template of %s has no system role: system messages go into the user's next one",
    "alternating": "the chat template of %s wants the roles to take turns: neighbours of one role are joined",
}


def chat_template_of(tokenizer: Any) -> ChatTemplate:
    """The chat template that a tokenizer has now, with its arguments; the same object as long as they are the same."""
    template = ChatTemplate(tokenizer)
    return _known(tokenizer, template.source, kwargs_key(template.kwargs))


@lru_cache(maxsize=1)
def _known(tokenizer: Any, _source: str, _kwargs: str) -> ChatTemplate:
    return ChatTemplate(tokenizer)


def check_kwargs(kwargs: object, where: str) -> dict[str, Any]:
    """The template's arguments as given; ConfigError if they are no mapping of names, or set what is not theirs."""
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise ConfigError(f"{where}: {KWARGS} takes names and values, such as {{enable_thinking: false}}")
    if ours := [key for key in kwargs if key in _OURS]:
        raise ConfigError(f"{where}: {KWARGS} cannot set {', '.join(ours)}: interalign sets it")
    return dict(kwargs)


def install(tokenizer: Any, template: str | None, kwargs: Mapping[str, Any], where: str) -> None:
    """Give the tokenizer another template, if there is one, and arguments beside those it has; it saves both.

    Raises ConfigError for a tokenizer without any template, and for a template with a syntax error.
    """
    import jinja2

    if template is not None:
        tokenizer.chat_template = template
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{where}: its tokenizer has no chat template; use an instruction-tuned model or chat_template: FILE"
        )
    if kwargs:
        tokenizer.init_kwargs[KWARGS] = {**(tokenizer.init_kwargs.get(KWARGS) or {}), **kwargs}
    try:
        ChatTemplate(tokenizer).variables()
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"{where}: line {error.lineno} of the chat template cannot be read: {error}") from None
    except ValueError as error:  # several templates, and none that is the default
        raise ConfigError(f"{where}: the chat template cannot be used: {' '.join(str(error).split())}") from None


def kwargs_key(kwargs: Mapping[str, Any]) -> str:
    """Equal for equal arguments."""
    return json.dumps(kwargs, sort_keys=True)
