"""`inspect`: the samples of an Inspect log, a `.eval` file (by its own library) or the JSON of `inspect log dump`."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from interalign.conversations.formats.base import ConversationFormat, RecordedRow, by_of, listed_messages
from interalign.errors import ConfigError


def _recognises(row: Any) -> bool:
    return isinstance(row, Mapping) and (_is_log(row) or ("epoch" in row and "messages" in row))


def _is_log(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("samples"), list) and isinstance(row.get("eval"), Mapping)


def _samples(row: Any) -> Iterable[Any]:
    return row["samples"] if isinstance(row, Mapping) and _is_log(row) else [row]


def _read(row: Any) -> RecordedRow:
    output = row.get("output")
    return RecordedRow(
        (listed_messages(row.get("messages"), "messages"),),
        used=("messages",),
        by=by_of(output) if isinstance(output, Mapping) else None,
        tree=f"{row['id']}/{row.get('epoch')}" if row.get("id") is not None else None,
    )


def _rows(path: Path) -> Iterator[Any]:
    try:
        from inspect_ai.log import read_eval_log_samples
    except ImportError:
        raise ConfigError(
            f"{path}: Inspect's own library reads .eval files; pip install inspect_ai, or give the JSON that "
            f"`inspect log dump {path.name}` prints"
        ) from None
    try:
        for sample in read_eval_log_samples(str(path), all_samples_required=False):
            yield json.loads(sample.model_dump_json())
    except Exception as error:  # noqa: BLE001  (what a damaged file raises is not documented)
        raise ConfigError(f"{path}: cannot be read as an Inspect log ({' '.join(str(error).split())[:200]})") from None


FORMAT = ConversationFormat("Inspect logs", _recognises, _read, _samples, ".eval", _rows)
