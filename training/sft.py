"""Supervised fine-tuning on chosen replies, with TRL's SFTTrainer."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, Field

from interalign.training.fit import Progress
from interalign.training.method import Prepared, Recipe, TrainingMethod
from interalign.training.result import TrainResult
from interalign.training.row_formats import as_sft
from interalign.training.rows import TokenRow, TrainingRow
from interalign.training.settings import TrainSettings
from interalign.training.train import train
from interalign.tree import Message

NO_LOSS: Final = -100
"""Label of a token that is read but not learnt (PyTorch's and TRL's convention)."""


def train_sft(
    model: str,
    data: Path,
    out: Path,
    *,
    config: Path | Mapping[str, Any] | None = None,
    lora: bool = False,
    drop_too_long: bool = False,
    run_name: str | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Fine-tune `model` on the last message of every row of `data` and save it in `out`.

    The rows are those of `export --format sft`, or of `--format user`, which teach it to play the user.

    ALOE paper, training: learning rate 1e-5, 1 epoch. `model` is a folder or hub id, with or without `hf:`. `config` is
    YAML (or a mapping) of TRL's SFTConfig keys and ours (docs/data-format.md). `drop_too_long` leaves rows out that are
    longer than `max_length`. Run again with the same arguments, it goes on from its last checkpoint, or does nothing if
    it was finished. Raises ConfigError and DataError before anything is trained; and ConfigError afterwards if the
    weights are no numbers, or the saved model does not answer as the trained one did.
    """
    return train(
        "sft", model, data, out,
        config=config, lora=lora, drop_too_long=drop_too_long, run_name=run_name, progress=progress,
    )  # fmt: skip


class _SftLine(BaseModel):
    messages: tuple[Message, ...] = Field(min_length=2)
    persona: Any = None
    """An id in rows of `--format user`; whatever else others write there is left alone."""

    def row(self, number: int) -> TrainingRow:
        persona = self.persona if isinstance(self.persona, str) else None
        return TrainingRow(number, self.messages[:-1], self.messages[-1:], persona=persona)


class Example(NamedTuple):
    """A sequence of tokens and, for each, its own id where it is to be learnt, else NO_LOSS."""

    input_ids: list[int]
    labels: list[int]


def sft_columns(
    rows: Sequence[TrainingRow], tokens: Sequence[TokenRow], settings: TrainSettings
) -> list[dict[str, Any]]:
    """One sequence a row, learnt from where the assistant's last message begins to the end of its turn."""
    examples = [Example([*prompt, *reply], [NO_LOSS] * len(prompt) + reply) for prompt, (reply,) in tokens]
    if settings.share_prefixes:
        examples = share_prefixes(examples)
    return [{**example._asdict(), "length": len(example.input_ids)} for example in examples]


def share_prefixes(examples: Iterable[Example]) -> list[Example]:
    """Fold each sequence that another one begins with into that other one, with what is to be learnt from it.

    In a conversation whose chosen replies were also taken, every turn's row begins the next turn's row: one sequence
    then teaches all of them. As no token sees a later one, each reply is learnt exactly as in a row of its own.
    """
    kept: list[Example] = []
    # From the back of the sorted order, a sequence comes right after the sequences it begins.
    for example in sorted(examples, reverse=True):
        if kept and _begins(example, kept[-1]):
            rest = kept[-1].labels[len(example.labels) :]
            both = zip(example.labels, kept[-1].labels, strict=False)
            kept[-1] = Example(kept[-1].input_ids, [max(pair) for pair in both] + rest)
        else:
            kept.append(example)
    return kept


def _begins(short: Example, long: Example) -> bool:
    """True if `long` starts with `short` and does not yet learn what `short` teaches (a row given twice)."""
    taught = any(a != NO_LOSS and b != NO_LOSS for a, b in zip(short.labels, long.labels, strict=False))
    return long.input_ids[: len(short.input_ids)] == short.input_ids and not taught


def sft_trainer(prepared: Prepared) -> Any:
    """TRL's SFTTrainer over sequences with labels, which it takes as they are."""
    from trl import SFTTrainer

    return SFTTrainer(**prepared.for_trainer)


def _config() -> Any:
    from trl import SFTConfig

    return SFTConfig


SFT: Final = Recipe(_config, sft_columns, sft_trainer)
METHOD: Final = TrainingMethod(
    name="sft",
    title="supervised fine-tuning (SFT)",
    line=_SftLine,
    recipe=SFT,
    defaults={"learning_rate": 1e-5, "num_train_epochs": 1.0},  # the paper's
    keys=("share_prefixes",),
    as_exported=as_sft,
)
