"""Weights divided among processes (FSDP, DeepSpeed ZeRO), put together in the first one when training is over."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interalign.training.model_kinds import ModelKind
from interalign.training.processes import rank


def is_divided(trainer: Any) -> bool:
    """Whether FSDP or DeepSpeed holds the weights."""
    return bool(getattr(trainer, "is_fsdp_enabled", False) or getattr(trainer, "is_deepspeed_enabled", False))


def put_together(trainer: Any, kind: ModelKind, base: Callable[[], Any], folder: Path) -> Any:
    """The trained model with all of its weights, None but in the first process. Every process has to call it.

    It is written to `folder` and read again; of a LoRA run only the adapter is, and `base` loads what it belongs to.
    """
    from peft import PeftModel

    is_adapted = isinstance(trainer.accelerator.unwrap_model(trainer.model), PeftModel)
    trainer.save_model(str(folder))  # gathers, in all processes; the first one writes
    trainer.accelerator.wait_for_everyone()
    if rank():
        return None
    if is_adapted:
        model = PeftModel.from_pretrained(base(), folder)
    else:
        model = kind.auto().from_pretrained(folder, dtype="auto", use_safetensors=True)
    shutil.rmtree(folder)
    return model


def rounding_of(trainer: Any) -> float:
    """The largest difference that rounding explains between divided weights and the same put together.

    Divided they compute in the type of mixed precision, put together in their own. 0 where they are not divided.
    """
    import torch

    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    computes_in = types.get(trainer.accelerator.mixed_precision) if is_divided(trainer) else None
    return 0.0 if computes_in is None else float(torch.finfo(computes_in).eps ** 0.5)
