"""A training method: SFT that learns only how the preferred replies begin."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from interalign.training.rows import TokenRow, TrainingRow
from interalign.training.settings import TrainSettings
from interalign.training.sft import METHOD as SFT
from interalign.training.sft import sft_columns

_LEARNT = 8
"""Tokens of a reply that are learnt: its beginning."""


def columns(rows: Sequence[TrainingRow], tokens: Sequence[TokenRow], settings: TrainSettings) -> list[dict[str, Any]]:
    """The columns of SFT, the loss on the first tokens of each reply only."""
    return [
        {**column, "labels": _first(column["labels"], len(row.prompt) + _LEARNT)}
        for column, row in zip(sft_columns(rows, tokens, settings), tokens, strict=True)
    ]


def _first(labels: list[int], end: int) -> list[int]:
    return [label if place < end else -100 for place, label in enumerate(labels)]


METHOD = replace(
    SFT, name="openings", title="SFT on the openings of replies", recipe=replace(SFT.recipe, columns=columns), keys=()
)
