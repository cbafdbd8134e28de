"""From the bytes of an answer to one JSON value: also with a byte order mark, packed, twice, with text behind it, as
JSON lines, or as an event stream that was not asked for. Text is never made up: a truncated body is no answer.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

_GZIP = b"\x1f\x8b"
_LARGEST = 16 * 2**20
_EVENT = ("data:", ":", "event:", "id:", "retry:")
"""What a line of an event stream begins with."""
_OVER = "[DONE]"
_JOINED = ("content", "reasoning_content", "reasoning", "thinking", "refusal")
"""Texts that come in pieces."""
_WRAPPED = ("data", "result", "response", "output")
"""Where gateways put the answer of the server behind them."""
_LENIENT = json.JSONDecoder(strict=False)
"""Takes line breaks within texts, which some servers do not escape."""


def decoded(body: bytes) -> Any:
    """The JSON value in a body; ValueError if there is none, or only the beginning of one."""
    text = _unpacked(body).decode("utf-8-sig").strip()
    try:
        if text.startswith(_EVENT):
            return _joined(list(_events(text)), is_over=_OVER in text)
        values = list(_values(text))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _is_chunk(values[0]):
        return _joined(values, is_over=_OVER in text)
    return _unwrapped(values[0])


def _unwrapped(value: Any) -> Any:
    """The answer in a list of one, in an object of a gateway's own, or in a text that is JSON itself."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return json.loads(value)
    inner = [value.get(name) for name in _WRAPPED] if isinstance(value, Mapping) and "choices" not in value else []
    packed = [*(value[:1] if isinstance(value, list) else []), *inner]
    return next((item for item in packed if _first_choice(item) is not None), value)


def _unpacked(body: bytes) -> bytes:
    """The body, decompressed if it is compressed without a header that says so."""
    if not body.startswith(_GZIP):
        return body
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        return unpacking.decompress(body, _LARGEST)
    except zlib.error as error:
        raise ValueError(f"packed, and broken ({error})") from None


def _values(text: str) -> Iterator[Any]:
    """One JSON value after the other, as far as there are any; ValueError if not even the first is whole."""
    value, end = _LENIENT.raw_decode(text)
    yield value
    while rest := text[end:].lstrip():
        try:
            value, length = _LENIENT.raw_decode(rest)
        except ValueError:
            return
        yield value
        end = len(text) - len(rest) + length


def _events(text: str) -> Iterator[Any]:
    """The JSON value of every event; comments, which keep a connection alive, are none."""
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("data:"):
            lines.append(line.removeprefix("data:").removeprefix(" "))
        elif line.startswith(("{", "[")):  # JSON behind comments
            lines.append(line)
        elif not line and lines:
            yield from _event(lines)
            lines = []


def _event(lines: list[str]) -> Iterator[Any]:
    """Usually one value; some servers leave out the empty line between two events."""
    if "\n".join(lines).strip() == _OVER:
        return
    try:
        yield _LENIENT.decode("\n".join(lines))
    except ValueError:
        yield from (_LENIENT.decode(line) for line in lines if line.strip() and line.strip() != _OVER)


def _is_chunk(value: object) -> bool:
    """Whether this is one piece of a streamed answer."""
    choice = _first_choice(value)
    has_delta = choice is not None and "delta" in choice and not choice.get("message")
    return has_delta or (isinstance(value, Mapping) and value.get("done") is False)


def _first_choice(value: object) -> Mapping[str, Any] | None:
    """The choice with the number 0, or without one; others were not asked for."""
    choices = value.get("choices") if isinstance(value, Mapping) else None
    found = [choice for choice in choices if isinstance(choice, Mapping)] if isinstance(choices, list) else []
    return next((choice for choice in found if not choice.get("index")), None)


def _joined(chunks: list[Any], *, is_over: bool) -> Any:
    """The answer that came in pieces; ValueError if its end is missing."""
    if len(chunks) == 1 and not _is_chunk(chunks[0]):
        return chunks[0]
    answer: dict[str, Any] = {}
    message: dict[str, Any] = {}
    ended: object = None
    for chunk in chunks:
        if not isinstance(chunk, Mapping):
            continue
        answer |= {name: chunk[name] for name in ("model", "usage", "error") if chunk.get(name)}
        choice = _first_choice(chunk) or _own_choice(chunk)
        _add(message, choice)
        ended = choice.get("finish_reason") or ended
    if not (ended or is_over or "error" in answer):
        raise ValueError("a stream that ends in the middle")
    return {**answer, "choices": [{"message": message, "finish_reason": ended}]}


def _own_choice(chunk: Mapping[str, Any]) -> Mapping[str, Any]:
    """A piece in Ollama's own form, as a choice; empty for anything else."""
    if not isinstance(chunk.get("message"), Mapping):
        return {}
    ended = chunk.get("done_reason") or ("stop" if chunk.get("done") else None)
    return {"delta": chunk["message"], "finish_reason": ended}


def _add(message: dict[str, Any], choice: Mapping[str, Any]) -> None:
    """Add a piece to the message; a whole message at the end, which repeats the pieces, adds nothing."""
    delta = choice.get("delta") or ({} if message.get("content") else choice.get("message"))
    piece = delta if isinstance(delta, Mapping) else {"content": choice.get("text")}
    for name in _JOINED:
        if isinstance(piece.get(name), str):
            message[name] = message.get(name, "") + piece[name]
        elif isinstance(piece.get(name), list):
            message["content"] = message.get("content", "") + _texts(piece[name])
    if piece.get("tool_calls"):
        message["tool_calls"] = piece["tool_calls"]


def _texts(parts: Any) -> str:
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") in (None, "text")]
    return "".join(text for text in texts if isinstance(text, str))
