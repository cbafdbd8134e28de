"""The body of a chat completion request, in the shape that its server takes."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from interalign.config import Parameters, TokenLimit
from interalign.models.base import provider_seed
from interalign.models.chat_shape import alternating, without_system
from interalign.models.error_body import read_error
from interalign.models.refusals import refused_limit, wants_alternation, wants_no_system
from interalign.tree import Message

_SURROGATES = re.compile("[\ud800-\udfff]")


class Shape(NamedTuple):
    """How the same conversation and settings are written for one model at one server."""

    limit: TokenLimit
    """The name of the longest reply."""
    is_renamed: bool = False
    """The server refused the other name."""
    without_system: bool = False
    """The system message is part of the first user message."""
    alternating: bool = False
    """Neighbouring messages of one role are one message."""

    def shaped(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages as they are sent."""
        if self.without_system:
            messages = without_system(messages)
        return alternating(messages) if self.alternating else messages


class Request:
    """One call, ready to be sent in any shape. What is on record are its messages and parameters, in no shape."""

    def __init__(self, model: str, messages: Sequence[Message], parameters: Parameters, seed: int) -> None:
        self._model = model
        self._messages = messages
        self._parameters = parameters
        self._seed = seed
        self._encoded: dict[Shape, bytes] = {}

    def fields(self, shape: Shape) -> dict[str, Any]:
        """The request as a JSON object."""
        parameters = self._parameters
        settings = {
            "temperature": parameters.temperature,
            "top_p": parameters.top_p,
            "top_k": parameters.top_k,
            "min_p": parameters.min_p,
            "repetition_penalty": parameters.repetition_penalty,
            shape.limit: parameters.max_tokens,
            "seed": provider_seed(parameters, self._seed),
        }
        given = {name: value for name, value in settings.items() if value is not None}
        chat = [{"role": message.role, "content": message.content} for message in shape.shaped(self._messages)]
        return {**given, **parameters.extra_body, "model": self._model, "messages": chat, "stream": False}

    def body(self, shape: Shape) -> bytes:
        """The request as it is sent, the same bytes for every attempt."""
        if shape not in self._encoded:
            self._encoded[shape] = encoded(self.fields(shape))
        return self._encoded[shape]

    def reshaped(self, shape: Shape, refusal: str) -> Shape | None:
        """The shape to try next after a server refused this one with these words; None if no other is any better."""
        error = read_error(refusal)
        limit = refused_limit(error, self.fields(shape)) if self._parameters.max_tokens else None
        if limit is not None and limit != shape.limit and not shape.is_renamed:
            return shape._replace(limit=limit, is_renamed=True)
        sent = shape.shaped(self._messages)
        has_system = any(message.role == "system" for message in sent)
        if wants_no_system(error) and has_system:
            return shape._replace(without_system=True)
        if not wants_alternation(error):
            return None
        if len(alternating(sent)) < len(sent):
            return shape._replace(alternating=True)
        return shape._replace(without_system=True) if has_system else None


def difference(old: Shape, new: Shape) -> str:
    """What is new about a shape, for a message."""
    if new.limit != old.limit:
        return f"takes {new.limit}, not {old.limit}"
    if new.without_system != old.without_system:
        return "has no system role: the system message is sent at the beginning of the first user message"
    return "wants the roles to take turns: neighbouring messages of one role are sent as one"


def encoded(body: dict[str, Any]) -> bytes:
    """JSON in UTF-8. Lone surrogates, which UTF-8 does not have and strict servers refuse, go out as U+FFFD."""
    text = json.dumps(body, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text).encode()
