"""Direct preference optimisation on pairs of replies, with TRL's DPOTrainer."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field

from interalign.training.fit import Progress, print_nothing
from interalign.training.method import CannotPackError, Prepared, Recipe, TrainingMethod
from interalign.training.packing.batches import packed_tokens
from interalign.training.result import TrainResult
from interalign.training.row_formats import as_dpo
from interalign.training.rows import TokenRow, TrainingRow
from interalign.training.settings import Packing, TrainSettings
from interalign.training.train import train
from interalign.tree import Message

_COUNTED = 100
"""Trees on which is counted what reading them saves."""


def train_dpo(
    model: str,
    data: Path,
    out: Path,
    *,
    method: Packing | None = None,
    config: Path | Mapping[str, Any] | None = None,
    lora: bool = False,
    drop_too_long: bool = False,
    run_name: str | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = print_nothing,
) -> TrainResult:
    """Train `model` to prefer the chosen replies of `data` (`export --format dpo`) and save it in `out`.

    ALOE paper, training: beta 0.9, learning rate 1e-5, 1 epoch, from the SFT model, which is also the reference: so
    `model` should be the folder SFT wrote. `method` "tree" reads what the pairs of a tree share once; batches are
    counted in trees then. None: "tree" where model and settings allow it, else "pairs"; `tell` is told which, and why.
    Other arguments, resuming and errors are those of `train_sft`.
    """

    return train(
        "dpo", model, data, out,
        packing=method, config=config, lora=lora, drop_too_long=drop_too_long, run_name=run_name, progress=progress,
        tell=tell,
    )  # fmt: skip


class PairLine(BaseModel):
    """A row of a prompt with a chosen and a rejected reply."""

    prompt: tuple[Message, ...] = Field(min_length=1)
    chosen: tuple[Message] = Field(description="one assistant message")
    rejected: tuple[Message]
    tree: str | int | None = None
    persona: str | None = None

    def row(self, number: int) -> TrainingRow:
        """The row, which is the `number`-th of its file."""
        tree = None if self.tree is None else str(self.tree)
        return TrainingRow(number, self.prompt, (*self.chosen, *self.rejected), tree, persona=self.persona)


def dpo_columns(
    rows: Sequence[TrainingRow], tokens: Sequence[TokenRow], settings: TrainSettings
) -> list[dict[str, Any]]:
    """Token ids as TRL's collator takes them: prompt, and both replies with their ends of turn."""
    return [
        {"prompt_ids": row.prompt, "chosen_ids": row.replies[0], "rejected_ids": row.replies[1], "length": row.length}
        for row in tokens
    ]


def tree_columns(
    rows: Sequence[TrainingRow], tokens: Sequence[TokenRow], settings: TrainSettings
) -> list[dict[str, Any]]:
    """The same, with the tree that each pair belongs to."""
    pairs = dpo_columns(rows, tokens, settings)
    return [{**pair, "tree": row.tree} for pair, row in zip(pairs, rows, strict=True)]


def dpo_trainer(prepared: Prepared) -> Any:
    """TRL's DPOTrainer whose reference is the model as it is now."""
    return _built(_trainer_of_token_ids(), prepared)


def tree_trainer(prepared: Prepared) -> Any:
    """The trainer of packed trees, in the same way; CannotPackError if it refuses model or settings."""
    from interalign.training.tree_dpo import TreeDPOTrainer

    try:
        return _built(TreeDPOTrainer, prepared)
    except ValueError as error:
        raise CannotPackError(" ".join(str(error).removesuffix("; use trl.DPOTrainer").split())) from error


def _built(trainer: Any, prepared: Prepared) -> Any:
    # Left to itself TRL reads the reference from the folder named in the model's configuration, which is not the
    # starting model where an adapter was merged. Under LoRA it is the same weights with the adapter off.
    reference = copy.deepcopy(prepared.model) if prepared.peft_config is None else None
    return trainer(**prepared.for_trainer, ref_model=reference)


@cache
def _trainer_of_token_ids() -> Any:
    """TRL's DPOTrainer for rows that are token ids: it takes only texts, in which every control token counts as one."""
    from trl import DPOTrainer

    class TokenIdsDPOTrainer(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    return TokenIdsDPOTrainer


def sharing_line(trainer: Any) -> str:
    """What reading trees saves, counted on the first of them, and what a step is then."""
    items = trainer.train_dataset
    first = items.select(range(min(len(items), _COUNTED)))
    packed = sum(packed_tokens(item) for item in first)
    args = trainer.args
    trees = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    pairs = sum(items["pairs"])
    return (
        f"{pairs:,} pairs of {len(items):,} trees, read tree by tree: {sum(first['length']) / packed:.1f} x fewer "
        f"tokens than pair by pair; {trees} {'tree' if trees == 1 else 'trees'} a step, about "
        f"{max(1, round(trees * pairs / len(items)))} pairs"
    )


def _config() -> Any:
    from trl import DPOConfig

    return DPOConfig


def _tree_config() -> Any:
    from interalign.training.tree_dpo import TreeDPOConfig

    return TreeDPOConfig


DPO: Final = Recipe(_config, dpo_columns, dpo_trainer)
TREE_DPO: Final = Recipe(_tree_config, tree_columns, tree_trainer, sharing_line)
METHOD: Final = TrainingMethod(
    name="dpo",
    title="direct preference optimisation (DPO)",
    line=PairLine,
    recipe=DPO,
    defaults={"learning_rate": 1e-5, "num_train_epochs": 1.0, "beta": 0.9},  # the paper's
    as_exported=as_dpo,
    trees=TREE_DPO,
    has_reference=lambda trl: not trl.get("precompute_ref_log_probs"),
)
