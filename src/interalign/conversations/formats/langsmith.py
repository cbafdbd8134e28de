"""`langsmith`: runs as LangSmith exports them, `inputs` and `outputs` of a model or a chain."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from interalign.conversations.formats.base import ConversationFormat, RecordedRow, by_of, mapping, tree_of

_REPLY = ("messages", "output", "message", "answer", "text")
_QUESTION = ("messages", "input", "question", "text")


def _recognises(row: Any) -> bool:
    return isinstance(row, Mapping) and (isinstance(row.get("runs"), list) or {"inputs", "outputs"} <= row.keys())


def _runs(row: Any) -> Iterable[Any]:
    return row["runs"] if isinstance(row, Mapping) and isinstance(row.get("runs"), list) else [row]


def _read(row: Any) -> RecordedRow:
    error = f" ({str(row['error'])[:200]})" if row.get("error") else ""
    if row["outputs"] is None:
        raise ValueError(f"outputs: no reply in it{error}")
    asked = _messages(mapping(row["inputs"], "inputs"), _QUESTION, "user")
    replies = list(_replies(mapping(row["outputs"], "outputs")))
    if not asked or not replies:
        raise ValueError(f"{'outputs' if asked else 'inputs'}: no message in it{error}")
    known = _metadata(row)
    return RecordedRow(
        tuple(_whole(asked, reply) for reply in replies),
        used=("inputs", "outputs"),
        by=by_of(row) or by_of(known) or by_of({"model": known.get("ls_model_name")}),
        tree=tree_of(row) or tree_of(known),
    )


def _metadata(row: Mapping[str, Any]) -> Mapping[str, Any]:
    extra = row.get("extra")
    found = extra.get("metadata") if isinstance(extra, Mapping) else row.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _messages(value: Mapping[str, Any], names: Sequence[str], role: str) -> list[Any]:
    found: Any = next((value[name] for name in names if value.get(name)), [])
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
        found = found[0]  # a batch of one, as LangChain logs every call
    if isinstance(found, str):
        return [{"role": role, "content": found}]
    return list(found) if isinstance(found, list) else [found]


def _replies(outputs: Mapping[str, Any]) -> Iterator[list[Any]]:
    """One list of messages for each reply to the same question."""
    if isinstance(outputs.get("generations"), list):
        batch = outputs["generations"]
        for one in batch[0] if len(batch) == 1 and isinstance(batch[0], list) else batch:
            each = mapping(one, "outputs.generations")
            yield [each["message"] if each.get("message") else {"role": "assistant", "content": each.get("text")}]
    elif isinstance(outputs.get("choices"), list):
        yield from ([mapping(each, "outputs.choices").get("message")] for each in outputs["choices"])
    elif isinstance(outputs.get("role"), str):
        yield [outputs]
    elif found := _messages(outputs, _REPLY, "assistant"):
        yield found


def _whole(asked: list[Any], reply: list[Any]) -> list[Any]:
    """A chain's output holds the whole conversation, a model's only its reply."""
    return reply if reply[: len(asked)] == asked and len(reply) > len(asked) else [*asked, *reply]


FORMAT = ConversationFormat("LangSmith runs", _recognises, _read, _runs)
