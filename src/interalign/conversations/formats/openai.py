"""`openai`: a request to a chat completions API with its response, as programs log them.

A line of a batch's output has no request in it, so no conversation; put the line of the batch's input beside it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from interalign.conversations.formats.base import (
    ConversationFormat,
    RecordedRow,
    by_of,
    listed_messages,
    mapping,
    tree_of,
)

_REQUESTS = ("request", "body", "input", "kwargs")
_RESPONSES = ("response", "completion", "output")


def _recognises(row: Any) -> bool:
    if not isinstance(row, Mapping):
        return False
    return "choices" in row or any(_is_reply(row, name) for name in _RESPONSES)


def _is_reply(row: Mapping[str, Any], name: str) -> bool:
    body = _body(row.get(name))
    return isinstance(body, Mapping) and (
        "choices" in body or "custom_id" in row or isinstance(row.get("request"), Mapping)
    )


def _body(value: Any) -> Any:
    return value["body"] if isinstance(value, Mapping) and isinstance(value.get("body"), Mapping) else value


def _read(row: Any) -> RecordedRow:
    column = next((name for name in _REQUESTS if _holds_messages(row.get(name))), None)
    request = row if column is None else _body(row[column])
    if not _holds_messages(request):
        raise ValueError(
            "has a reply and no request, as the output of a batch; put the messages of its input beside it, as "
            '{"request": {"messages": [...]}, "response": {...}}'
        )
    answer = next((name for name in _RESPONSES if isinstance(row.get(name), Mapping)), None)
    reply = row if answer is None else _body(row[answer])
    messages = listed_messages(request["messages"], "messages")
    replies = [mapping(choice, "choices").get("message") for choice in _choices(row, reply)]
    return RecordedRow(
        tuple([*messages, said] for said in replies),
        used=(column or "messages", answer or "choices"),
        by=by_of(reply) or by_of(request),
        tree=tree_of(row) or _thread(request),
    )


def _thread(request: Mapping[str, Any]) -> str | None:
    metadata = request.get("metadata")
    return tree_of(metadata) if isinstance(metadata, Mapping) else None


def _holds_messages(value: Any) -> bool:
    return isinstance(_body(value), Mapping) and isinstance(_body(value).get("messages"), list)


def _choices(row: Mapping[str, Any], reply: Mapping[str, Any]) -> Sequence[Any]:
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices:
        error = row.get("error") or reply.get("error")
        raise ValueError(f"has no reply{f': {str(error)[:200]}' if error else ''}")
    return choices


FORMAT = ConversationFormat("requests to OpenAI's chat API with their responses", _recognises, _read)
