"""`inspect`: the samples of an Inspect log, a `.eval` file (by its own library) or the JSON of `inspect log dump`."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from interalign.conversations.formats.base import ConversationFormat, RecordedRow, by_of, listed_messages
from interalign.errors import ConfigError

_ATTACHED: Final = "attachment://"


def _recognises(row: Any) -> bool:
    return isinstance(row, Mapping) and (_is_log(row) or ("epoch" in row and "messages" in row))


def _is_log(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("samples"), list) and isinstance(row.get("eval"), Mapping)


def _samples(row: Any) -> Iterable[Any]:
    return row["samples"] if isinstance(row, Mapping) and _is_log(row) else [row]


def _read(row: Any) -> RecordedRow:
    output, texts = row.get("output"), row.get("attachments")
    messages = listed_messages(row.get("messages"), "messages")
    return RecordedRow(
        (_resolved(messages, texts if isinstance(texts, Mapping) else {}),),
        used=("messages", "attachments", "events"),  # events say the same again, at length
        by=by_of(output) if isinstance(output, Mapping) else None,
        tree=f"{row['id']}/{row.get('epoch')}" if row.get("id") is not None else None,
    )


def _resolved(value: Any, texts: Mapping[str, Any]) -> Any:
    """The value with its long texts, which a log keeps apart, in their places; ValueError for one that is not there."""
    if isinstance(value, list):
        return [_resolved(each, texts) for each in value]
    if isinstance(value, Mapping):
        return {name: _resolved(each, texts) for name, each in value.items()}
    if isinstance(value, str) and value.startswith(_ATTACHED):
        if (name := value.removeprefix(_ATTACHED)) not in texts:
            raise ValueError(f"messages: the text {value[:40]} is not among the attachments")
        return texts[name]
    return value


def _rows(path: Path) -> Iterator[Any]:
    try:
        from inspect_ai.log import read_eval_log
    except ImportError:
        raise ConfigError(
            f"{path}: Inspect's own library reads .eval files; pip install inspect_ai, or give the JSON that "
            f"`inspect log dump {path.name}` prints"
        ) from None
    try:
        samples = read_eval_log(str(path)).samples or []
        yield from (json.loads(sample.model_dump_json(exclude={"events", "events_data"})) for sample in samples)
    except Exception as error:  # noqa: BLE001  (what a damaged file raises is not documented)
        raise ConfigError(f"{path}: cannot be read as an Inspect log ({' '.join(str(error).split())[:200]})") from None


FORMAT = ConversationFormat("Inspect logs", _recognises, _read, _samples, ".eval", _rows)
