"""Whether the updates of a training survive the rounding of the weights."""

from typing import Any


def rounding_line(model: Any, learning_rate: float, *, lora: bool) -> str | None:
    """One line if weights are trained in half precision themselves, where small updates are rounded away; else None.

    Adam moves a weight by about the learning rate a step. What is less than half the distance to the next number that
    the type can hold is lost. An adapter's own weights are float32 (PEFT), whatever the model's are.
    """
    import torch

    name = str(model.dtype).removeprefix("torch.")
    if lora or name not in ("bfloat16", "float16"):
        return None
    largest = learning_rate / (torch.finfo(model.dtype).eps / 4)
    return (
        f"the weights are trained in {name} itself: at learning_rate {learning_rate:g} the change of a step is rounded "
        f"away in weights above about {largest:.1g}; leave dtype out of model_init_kwargs (float32 weights; on a GPU "
        "`bf16: true` computes in bfloat16 all the same), or train with --lora"
    )
