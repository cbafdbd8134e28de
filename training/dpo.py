"""Direct preference optimisation on pairs of replies, with TRL's DPOTrainer."""

import copy
from collections.abc import Mapping, Sequence
from functools import cache
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
    """Token ids as TRL's collator takes them: prompt, and both replies with their ends of turn."""
    return [
        {"prompt_ids": row.prompt, "chosen_ids": row.replies[0], "rejected_ids": row.replies[1], "length": row.length}
        for row in tokens
    ]


def dpo_trainer(prepared: Prepared) -> Any:
    """TRL's DPOTrainer whose reference is the model as it is now."""
    # Left to itself TRL reads the reference from the folder named in the model's configuration, which is not the
    # starting model where an adapter was merged. Under LoRA it is the same weights with the adapter off.
    reference = copy.deepcopy(prepared.model) if prepared.peft_config is None else None
    return _trainer_of_token_ids()(
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


DPO: Final = Recipe(dpo_columns, dpo_trainer)
