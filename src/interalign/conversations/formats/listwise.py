"""`listwise`: a prompt with several completions and a value for each, as our own export has them."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from interalign.conversations.formats.base import ConversationFormat, RecordedRow, as_messages, by_of, has, tree_of


def _read(row: Mapping[str, Any]) -> RecordedRow:
    completions, scores = row["completions"], row["scores"]
    if not isinstance(completions, list) or not completions:
        raise ValueError("completions: expected a list of replies")
    if not isinstance(scores, list) or len(scores) != len(completions):
        raise ValueError(f"scores: expected a list of {len(completions)}, one a completion")
    prompt = as_messages(row["prompt"], "prompt")
    return RecordedRow(
        tuple([*prompt, *as_messages(reply, "completions", "assistant")] for reply in completions),
        values=tuple(map(_value, scores)),
        used=("prompt", "completions"),
        by=by_of(row),
        tree=tree_of(row),
    )


def _value(score: Any) -> float | None:
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, int | float) or not isfinite(score):
        raise ValueError(f"scores: expected numbers, got {score!r}")
    return float(score)


FORMAT = ConversationFormat(
    "a prompt, several completions and their scores", has("prompt", "completions", "scores"), _read
)
