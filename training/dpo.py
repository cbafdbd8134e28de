"""Direct preference optimisation on pairs of replies, with TRL's DPOTrainer."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from interalign.errors import ConfigError
from interalign.training.data import TokenRow, TrainingRow
from interalign.training.fit import Job, Prepared, Progress, Recipe, fit
from interalign.training.result import TrainResult
from interalign.training.settings import TrainSettings, read_settings


def train_dpo(
    model: str,
    data: Path,
    out: Path,
    *,
    method: str = "pairs",
    config: Path | Mapping[str, Any] | None = None,
    lora: bool = False,
    drop_too_long: bool = False,
    run_name: str | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train `model` to prefer the chosen replies of `data` (`export --format dpo`) and save it in `out`.

    ALOE paper, training: beta 0.9, learning rate 1e-5, 1 epoch, from the SFT model, which is also the reference: so
    `model` should be the folder SFT wrote. Arguments, resuming and errors are those of `train_sft`.
    """
    if method == "tree":
        raise ConfigError("--method tree is not built yet; use --method pairs")
    if method != "pairs":
        raise ConfigError(f"no DPO method {method!r}; use --method pairs")
    settings = read_settings("dpo", config, lora=lora, drop_too_long=drop_too_long)
    return fit(Job(settings, model, data, out, run_name, progress), DPO)


def dpo_columns(
    rows: Sequence[TrainingRow], tokens: Sequence[TokenRow], settings: TrainSettings
) -> list[dict[str, Any]]:
    """The conversations as they are, for TRL to tokenize."""
    return [
        {
            "prompt": [message.model_dump() for message in row.prompt],
            "chosen": [row.completions[0].model_dump()],
            "rejected": [row.completions[1].model_dump()],
            "length": token_row.length,
        }
        for row, token_row in zip(rows, tokens, strict=True)
    ]


def dpo_trainer(prepared: Prepared) -> Any:
    """TRL's DPOTrainer whose reference is the model as it is now."""
    from trl import DPOTrainer

    # Left to itself TRL reads the reference from the folder named in the model's configuration, which is not the
    # starting model where an adapter was merged. Under LoRA it is the same weights with the adapter off.
    reference = copy.deepcopy(prepared.model) if prepared.peft_config is None else None
    trainer = DPOTrainer(
        model=prepared.model,
        ref_model=reference,
        args=prepared.args,
        train_dataset=prepared.dataset,
        processing_class=prepared.tokenizer,
        peft_config=prepared.peft_config,
    )
    trainer.train_dataset = trainer.train_dataset.remove_columns(["prompt", "chosen", "rejected"])
    return trainer


DPO: Final = Recipe(dpo_columns, dpo_trainer)
