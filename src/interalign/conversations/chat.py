"""Chat messages in the shapes that programs write them in, to a system message and alternating turns.

Messages of one speaker in a row are joined. Tools that an assistant used on the way to its words belong to those words.
What a tree cannot hold is refused with its place: no message, an empty one, an image, a system message later on, a
conversation that the assistant begins.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from pydantic import JsonValue

_ROLES: Final = {
    "user": "user", "human": "user", "prompter": "user", "humanmessage": "user", "humanmessagechunk": "user",
    "assistant": "assistant", "ai": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "aimessage": "assistant", "aimessagechunk": "assistant",
    "system": "system", "developer": "system", "systemmessage": "system",
    "tool": "tool", "function": "tool", "observation": "tool", "toolmessage": "tool", "functionmessage": "tool",
    "function_call": "call",
}  # fmt: skip
_SPEAKERS: Final = ("role", "from", "type")
_CONTENTS: Final = ("content", "value", "text")
_TEXT_PARTS: Final = ("text", "input_text", "output_text")
_THOUGHTS: Final = ("thinking", "redacted_thinking", "reasoning")
_EMPTY: Final[tuple[Any, ...]] = (None, [], {}, "")


@dataclass(slots=True)
class JoinedMessage:
    """What one speaker said before the other one did."""

    role: Literal["user", "assistant"]
    text: str
    numbers: list[int]
    """Which messages of the row it was, counted from 1."""
    tools: list[dict[str, JsonValue]] = field(default_factory=list)
    """`{"tool", "arguments", "result"}` each, as agents of a run record them."""
    extra: dict[str, JsonValue] = field(default_factory=dict)
    """What else the messages hold, by name."""


class Chat(NamedTuple):
    """A conversation that begins with the user."""

    system: str | None
    messages: tuple[JoinedMessage, ...]


class _Part(NamedTuple):
    """One message as it was written."""

    role: str
    text: str
    tools: list[dict[str, JsonValue]]
    extra: dict[str, JsonValue]


def read_chat(messages: Sequence[Any]) -> Chat:
    """The conversation in these messages; ValueError says which message a tree cannot hold, and why."""
    system: list[str] = []
    aside: dict[str, JsonValue] = {}
    joined: list[JoinedMessage] = []
    for number, message in enumerate(messages, start=1):
        try:
            part = _part(message)
            if part.role == "system":
                _add_system(part, system, aside, joined)
            elif part.role == "tool":
                _add_result(part, number, joined)
            else:
                _add(part, number, joined)
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from None
    _refuse_odd(joined)
    if aside:
        _keep(joined[0], 0, {"system message": aside})
    return Chat("\n\n".join(system) or None, tuple(joined))


def _refuse_odd(joined: Sequence[JoinedMessage]) -> None:
    if not joined:
        raise ValueError("has no message of a user")
    if joined[0].role == "assistant":
        raise ValueError("begins with the assistant, and a tree begins with the user")
    for each in joined:
        if not each.text.strip():
            raise ValueError(f"message {each.numbers[-1]}: uses tools, and the assistant says nothing after it")


def _add_system(part: _Part, system: list[str], aside: dict[str, JsonValue], joined: Sequence[JoinedMessage]) -> None:
    if joined:
        raise ValueError("a system message after the first turn, for which a tree has no place")
    aside |= part.extra
    if part.text.strip():
        system.append(part.text)


def _add(part: _Part, number: int, joined: list[JoinedMessage]) -> None:
    role: Literal["user", "assistant"] = "user" if part.role == "user" else "assistant"
    if not part.text.strip() and not part.tools:
        raise ValueError("is empty")
    if not joined or joined[-1].role != role:
        joined.append(JoinedMessage(role, "", []))
    last = joined[-1]
    last.text = "\n\n".join(text for text in (last.text, part.text) if text.strip())
    last.numbers.append(number)
    last.tools += part.tools
    _keep(last, number, part.extra)


def _add_result(part: _Part, number: int, joined: Sequence[JoinedMessage]) -> None:
    """What a tool answered, to the call of that id, else to the first call that has no result yet."""
    waiting = [call for call in joined[-1].tools if "result" not in call] if joined else []
    asked = part.extra.pop("tool_call_id", None)
    call = next((call for call in waiting if asked is not None and call.get("id") == asked), None)
    call = call or next(iter(waiting), None)
    if call is None:
        raise ValueError("the result of a tool that nobody used")
    call["result"] = part.text
    joined[-1].numbers.append(number)
    _keep(joined[-1], number, part.extra)


def _keep(message: JoinedMessage, number: int, extra: Mapping[str, JsonValue]) -> None:
    """Keep what else a message holds; a second value of one name gets the number of its message."""
    for name, value in extra.items():
        message.extra[name if name not in message.extra else f"{name} of message {number}"] = value


def _part(message: Any) -> _Part:
    if not isinstance(message, Mapping):
        raise ValueError("expected an object with a role and a content")
    message = _unwrapped(message)
    speaker = next((name for name in _SPEAKERS if isinstance(message.get(name), str)), None)
    role = None if speaker is None else _ROLES.get(message[speaker].strip().lower())
    if speaker is None or role is None:
        who = "no role" if speaker is None else f"the {speaker} {message[speaker]!r}"
        raise ValueError(f"has {who}; a tree knows user and assistant, with a system message before them")
    column = next((name for name in _CONTENTS if name in message), "content")
    if role == "call":
        return _Part("assistant", "", [_written_call(message[column])], {})
    text, tools, thoughts = _content(message.get(column))
    tools += [_call(call) for call in _calls(message)]
    if tools and role != "assistant":
        raise ValueError("uses tools, and only an assistant can")
    return _Part(role, text, tools, {**thoughts, **dict(_rest(message, (speaker, column)))})


def _rest(message: Mapping[str, Any], read: Sequence[str]) -> Iterator[tuple[str, JsonValue]]:
    """What a message holds beside its words and its tools."""
    for name, value in message.items():
        if name == "additional_kwargs" and isinstance(value, Mapping):
            value = {key: each for key, each in value.items() if key not in ("tool_calls", "function_call")}
        if name not in (*read, "tool_calls", "function_call") and value not in _EMPTY:
            yield name, value


def _unwrapped(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message as LangChain writes it, `{"lc", "id", "kwargs"}` or `{"type", "data"}`, without what is around it."""
    if isinstance(message.get("kwargs"), Mapping) and isinstance(message.get("id"), list) and message["id"]:
        return {**message["kwargs"], "type": str(message["id"][-1])}
    if isinstance(message.get("data"), Mapping) and "type" in message:
        return {**message["data"], "type": message["type"]}
    return message


def _content(value: Any) -> tuple[str, list[dict[str, JsonValue]], dict[str, JsonValue]]:
    """The text of a content, the tools it uses, and what was thought beside it."""
    if value is None or isinstance(value, str):
        return value or "", [], {}
    if not isinstance(value, list):
        raise ValueError(f"content: expected a text or a list of parts, got {type(value).__name__}")
    texts: list[str] = []
    tools: list[dict[str, JsonValue]] = []
    thoughts: list[JsonValue] = []
    for part in value:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, Mapping):
            raise ValueError(f"content: expected parts, got {type(part).__name__}")
        elif kind in _TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "tool_use":
            tools.append(_call({"id": part.get("id"), "name": part.get("name"), "args": part.get("input")}))
        elif kind in _THOUGHTS:
            thoughts.append(dict(part))
        else:
            raise ValueError(f"content: holds {kind}, and a tree holds text alone")
    return "\n\n".join(text for text in texts if text.strip()), tools, {"thinking": thoughts} if thoughts else {}


def _calls(message: Mapping[str, Any]) -> list[Any]:
    """The tools that a message uses, in the place where its program writes them."""
    more = message.get("additional_kwargs")
    for place in (message, more if isinstance(more, Mapping) else {}):
        if isinstance(place.get("tool_calls"), list) and place["tool_calls"]:
            return list(place["tool_calls"])
        if place.get("function_call"):
            return [place["function_call"]]
    return []


def _call(call: Any) -> dict[str, JsonValue]:
    """One use of a tool, as OpenAI's API and as LangChain writes it."""
    if not isinstance(call, Mapping):
        raise ValueError("tool_calls: expected objects")
    inner = call["function"] if isinstance(call.get("function"), Mapping) else call
    name = inner.get("name") or inner.get("function")
    if not isinstance(name, str) or not name:
        raise ValueError("tool_calls: a tool without a name")
    made: dict[str, JsonValue] = {"tool": name, "arguments": _parsed(inner.get("arguments", inner.get("args")))}
    return {**made, "id": call["id"]} if isinstance(call.get("id"), str) else made


def _written_call(value: Any) -> dict[str, JsonValue]:
    """A use of a tool that is written out as a JSON text, as ShareGPT does."""
    parsed = _parsed(value)
    if not isinstance(parsed, Mapping):
        raise ValueError("a call of a function that is no JSON object")
    return _call(parsed)


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value
