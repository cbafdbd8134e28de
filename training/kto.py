"""Kahneman-Tversky optimisation on single replies labelled good or bad, with TRL's KTOTrainer."""

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, Field

from interalign.training.method import Prepared, Recipe, TrainingMethod
from interalign.training.rows import TokenRow, TrainingRow
from interalign.training.settings import TrainSettings
from interalign.tree import Message


class _KtoLine(BaseModel):
    prompt: tuple[Message, ...] = Field(min_length=1)
    completion: tuple[Message] = Field(description="one assistant message")
    label: bool = Field(strict=True)

    def row(self, number: int) -> TrainingRow:
        return TrainingRow(number, self.prompt, self.completion, label=self.label)


def kto_columns(
    rows: Sequence[TrainingRow], tokens: Sequence[TokenRow], settings: TrainSettings
) -> list[dict[str, Any]]:
    """Token ids of prompt and reply, with its end of turn, and whether the reply is a good one."""
    return [
        {"prompt_ids": each.prompt, "completion_ids": each.replies[0], "label": row.label, "length": each.length}
        for row, each in zip(rows, tokens, strict=True)
    ]


def kto_trainer(prepared: Prepared) -> Any:
    """TRL's KTOTrainer whose reference is the model as it is now."""
    reference = copy.deepcopy(prepared.model) if prepared.peft_config is None else None
    return _trainer_of_token_ids()(**prepared.for_trainer, ref_model=reference)


@cache
def _trainer_of_token_ids() -> Any:
    """TRL's KTOTrainer for rows that are token ids, with what it adds to texts once it has tokenised them."""
    from trl import KTOTrainer

    class TokenIdsKTOTrainer(KTOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, name: str) -> Any:
            # The trainer reads in order, and estimates the KL term from each reply after the prompt beside it: in the
            # order of the file these would often be two replies to one prompt.
            dataset = dataset.shuffle(seed=args.seed)
            if not self.calculate_KL:
                return dataset
            return dataset.map(_with_mismatched_replies, batched=True, batch_size=args.per_device_train_batch_size)

    return TokenIdsKTOTrainer


def _with_mismatched_replies(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    replies = batch["completion_ids"]
    return {**batch, "KL_completion_ids": [replies[-1], *replies[:-1]]}


def _config() -> Any:
    from trl import KTOConfig

    return KTOConfig


METHOD: Final = TrainingMethod(
    name="kto",
    title="Kahneman-Tversky optimisation (KTO)",
    line=_KtoLine,
    recipe=Recipe(_config, kto_columns, kto_trainer),
    # Its KL term pairs the replies of a batch, so that they must be read in the order in which they were paired.
    defaults={"learning_rate": 1e-5, "num_train_epochs": 1.0, "train_sampling_strategy": "sequential"},
    has_reference=lambda trl: not trl.get("precompute_ref_log_probs"),
)
