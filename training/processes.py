"""Several processes that train one model, each with a share of every batch: which of them this one is.

They are told by the environment, as torchrun and `accelerate launch` do it too. The first one writes and speaks.
"""

import os
from typing import Any

from interalign.errors import ConfigError


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refuse_divided_weights(trainer: Any) -> None:
    """ConfigError where no process holds all weights: what is saved at the end is put together nowhere yet."""
    if getattr(trainer, "is_fsdp_enabled", False) or getattr(trainer, "is_deepspeed_enabled", False):
        raise ConfigError(
            "weights divided among processes (FSDP, DeepSpeed) cannot be saved and checked yet; start the processes "
            "with `--nproc N`, each of which holds the whole model, or train with --lora"
        )
