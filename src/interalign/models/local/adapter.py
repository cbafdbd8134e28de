"""A PEFT adapter folder as a model: its base model with the adapter's layers in it, none of them missing."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interalign.errors import ConfigError


def adapted_model(folder: Path, options: dict[str, Any]) -> Any:
    """The base model that the adapter names, with the adapter in it, not merged; `options` load the base model.

    PEFT loads it, not transformers, which leaves DoRA's magnitudes out without a word. Raises ConfigError for an
    adapter whose weights and configuration do not fit each other, or of a kind that is no part of the model's layers.
    """
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForCausalLM

    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise ConfigError(f"hf:{folder}: there is no {weights.name} in this adapter folder; save it as safetensors")
    config = PeftConfig.from_pretrained(folder)
    if config.is_prompt_learning:
        raise ConfigError(f"hf:{folder}: an adapter of the kind {config.peft_type} is not served; train with LoRA")
    revision = {"revision": config.revision} if config.revision else {}
    base = AutoModelForCausalLM.from_pretrained(str(config.base_model_name_or_path), **revision, **options)
    with _without_needless_warnings():
        adapted = PeftModel.from_pretrained(base, folder)
    _refuse_other_keys(folder, weights, adapted)
    return adapted.get_base_model()


def _refuse_other_keys(folder: Path, weights: Path, adapted: Any) -> None:
    """ConfigError if the file lacks weights of the adapter, or has some for which the adapter has no place."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        stored = set(file.keys())
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    lacking, strange = wanted - stored, {key for key in stored - wanted if "lora_" in key}
    for what, keys in (("lacks", lacking), ("has no place for", strange)):
        if keys:
            raise ConfigError(
                f"hf:{folder}: the adapter {what} {len(keys)} weights, such as {min(keys)}: its weights and "
                "adapter_config.json do not fit each other or the base model"
            )


@contextmanager
def _without_needless_warnings() -> Iterator[None]:
    """Neither of a property that PEFT reads by its old name, nor of missing weights: those are refused in our words."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        warnings.filterwarnings("ignore", message="Found missing adapter keys", category=UserWarning)
        yield
