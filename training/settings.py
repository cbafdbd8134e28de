"""What a training run is asked to do: TRL's own settings, and the few that are ours."""

import operator
from typing import Any, Literal

from pydantic import Field

from interalign.tree import Frozen

Packing = Literal["pairs", "tree"]


class LoraSettings(Frozen):
    """The adapter that LoRA trains instead of the weights (peft.LoraConfig has the same under longer names)."""

    r: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"


class TrainSettings(Frozen):
    """Everything about a training run but its model, data and folder."""

    method: str
    trl: dict[str, Any]
    """Keyword arguments for TRL's SFTConfig or DPOConfig, before what the device decides."""
    lora: LoraSettings | None = None
    """None trains all weights."""
    packing: Packing = Field(default="pairs", exclude_if=lambda value: value == "pairs")
    """DPO only: whether a batch is made of pairs, or of trees that are read once (`interalign.training.tree_dpo`)."""
    share_prefixes: bool = False
    """SFT only: read what rows have in common once, see `interalign.training.sft.share_prefixes`."""
    freeze_embeddings: bool = False
    """Keep the token embeddings (and, where they are tied, the output layer) as they are."""
    chat_template: str | None = Field(default=None, exclude_if=operator.not_)
    """The chat template to use, and to save, instead of the model's; in YAML the file that holds it."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict, exclude_if=operator.not_)
    """Arguments of the chat template, such as `enable_thinking: false`; saved with the tokenizer, for serving."""
    drop_too_long: bool = Field(default=False, exclude_if=operator.not_)
    """Leave rows out that are longer than `max_length`; False refuses them."""
    max_per_persona: int | None = Field(default=None, ge=1, exclude_if=lambda most: most is None)
    """At most so many rows of one persona, evenly apart; None: all.

    The last four are left out of what is written where they are not used: folders begun before they existed go on.
    """
