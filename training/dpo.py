"""Direct preference optimisation on pairs of replies, with TRL's DPOTrainer."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from interalign.errors import ConfigError
from interalign.training.data import TokenRow, TrainingRow
from interalign.training.fit import Job, Prepared, Progress, Recipe, fit, print_nothing
from interalign.training.packing.batches import packed_tokens
from interalign.training.result import TrainResult
from interalign.training.settings import Packing, TrainSettings, read_settings
from interalign.training.weights import RECORD

_COUNTED = 100
"""Trees on which is counted what reading them saves."""


class CannotPackError(ConfigError):
    """This model, or these settings, cannot be trained on packed trees."""


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

    def fitted(packing: Packing) -> TrainResult:
        settings = read_settings("dpo", config, lora=lora, drop_too_long=drop_too_long, packing=packing)
        recipe = TREE_DPO if packing == "tree" else DPO
        return fit(Job(settings, model, data, out, run_name, progress, tell), recipe)

    if method not in (None, "pairs", "tree"):
        raise ConfigError(f"no way {method!r} to read pairs; give --method pairs, --method tree, or neither")
    chosen = method or begun_with(out)
    if chosen is not None:
        return fitted(chosen)
    try:
        return fitted("tree")
    except CannotPackError as error:
        tell(f"read as plain pairs: {error}")
        return fitted("pairs")


def begun_with(out: Path) -> Packing | None:
    """How the pairs are read in a folder that a training has begun; None for a new one."""
    record = out / RECORD
    if not record.is_file():
        return None
    settings = json.loads(record.read_text(encoding="utf-8"))["identity"]["settings"]
    return "tree" if settings.get("packing") == "tree" else "pairs"


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
    return trainer(
        model=prepared.model,
        ref_model=reference,
        args=prepared.args,
        train_dataset=prepared.dataset,
        processing_class=prepared.tokenizer,
        peft_config=prepared.peft_config,
    )


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


DPO: Final = Recipe(dpo_columns, dpo_trainer)
TREE_DPO: Final = Recipe(tree_columns, tree_trainer, sharing_line)
