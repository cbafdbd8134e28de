"""How much memory a training will take, before its model is loaded: exact for what follows from counts, else about."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from interalign.training.model_kinds import ModelKind
from interalign.training.rows import TokenRow, TrainingRow
from interalign.training.settings import TrainSettings

_BYTES: Final[Mapping[str, int]] = {"float32": 4, "bfloat16": 2, "float16": 2}
_BATCH: Final = 8
"""transformers' own default of `per_device_train_batch_size`."""
_TREE: Final = 4096
"""Our default of `max_tree_tokens`."""


class ModelCounts(NamedTuple):
    """What there is of a model."""

    weights: int
    trained: int
    """Of the weights those that change, or those of the adapter."""
    saved: int
    """Numbers that a forward pass keeps for the backward pass, for each token, without checkpointing."""
    kept: int
    """The same with checkpointing."""


class Memory(NamedTuple):
    """Bytes on one device."""

    weights: int
    gradients: int
    optimiser: int
    reference: int
    """The copy of the model that DPO and KTO hold it against; an adapter is switched off instead."""
    activations: int
    """About: those of the longest batch."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimiser": self.optimiser,
            "reference": self.reference,
            "activations of the longest batch about": self.activations,
        }
        told = ", ".join(f"{name} {_size(size)}" for name, size in parts.items() if size)
        return f"{_size(self.total)} ({told})"


def counts(config: Any, kind: ModelKind, lora: Any) -> ModelCounts:
    """What a model of this configuration has, none of whose weights is made; `lora` is a `peft.LoraConfig` or None."""
    import torch
    from peft import get_peft_model

    with torch.device("meta"):
        model = kind.auto().from_config(config)
    saved, kept = _activations(config.get_text_config())
    weights = _count(model.parameters())
    if lora is None:
        return ModelCounts(weights, weights, saved, kept)
    adapted = get_peft_model(model, lora)
    return ModelCounts(weights, _count(each for each in adapted.parameters() if each.requires_grad), saved, kept)


def _count(weights: Any) -> int:
    return sum(weight.numel() for weight in weights)


def _activations(config: Any) -> tuple[int, int]:
    """Numbers a token keeps of a dense transformer: its layers, and the vocabulary twice (logits and their softmax).

    A layer keeps about eight vectors of its width, four of its feed-forward width, keys and values.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or width // heads
    keys = 2 * size * (getattr(config, "num_key_value_heads", None) or heads)
    layer = 8 * width + 4 * (getattr(config, "intermediate_size", None) or 4 * width) + keys
    return layers * layer + 2 * config.vocab_size, layers * width + layer + 2 * config.vocab_size


def memory(found: ModelCounts, settings: TrainSettings, tokens: int, *, reference: bool, checkpointing: bool) -> Memory:
    """What training takes with `tokens` in the longest batch; `reference`: the method holds a copy of the model."""
    is_lora = settings.lora is not None
    of_model = _BYTES.get(str((settings.trl.get("model_init_kwargs") or {}).get("dtype", "float32")), 4)
    of_trained = 4 if is_lora else of_model
    return Memory(
        weights=found.weights * of_model + (found.trained * 4 if is_lora else 0),
        gradients=found.trained * of_trained,
        optimiser=round(found.trained * _of_optimiser(str(settings.trl.get("optim", "adamw_torch")), of_trained)),
        reference=found.weights * of_model if reference and not is_lora else 0,
        activations=tokens * (found.kept if checkpointing else found.saved) * of_model,
    )


def _of_optimiser(name: str, of_weight: int) -> float:
    """Bytes that an optimiser keeps for a weight: Adam's two averages, unless it is known to keep less."""
    if "adafactor" in name or name == "sgd":
        return 0
    return 2 if "8bit" in name else 2 * of_weight


def longest_batch(
    rows: Sequence[TrainingRow], tokens: Sequence[TokenRow], settings: TrainSettings, sampled: int
) -> int:
    """Tokens of the largest batch there can be: rows of the longest length, or the largest trees."""
    batch = settings.trl.get("per_device_train_batch_size", _BATCH)
    if settings.packing == "pairs":
        return int(batch) * max(
            (len(row.prompt) + sampled) * max(1, len(row.replies)) + _replies(row) for row in tokens
        )
    trees: dict[str | None, int] = defaultdict(int)
    for row, each in zip(rows, tokens, strict=True):
        trees[row.tree] += _replies(each)
    return int(batch) * min(int(settings.trl.get("max_tree_tokens", _TREE)), max(trees.values()))


def _replies(row: TokenRow) -> int:
    return sum(map(len, row.replies))


def free_memory(*, cpu: bool) -> int:
    """Bytes that are free on the device that will train."""
    import psutil
    import torch

    if torch.cuda.is_available() and not cpu:
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def memory_line(needed: Memory, with_lora: Memory | None, free: int) -> str:
    """One line on what is needed and what is there; what would need less, where it may not fit."""
    line = f"memory: about {needed}; free {_size(free)}"
    if needed.total <= free:
        return line
    other = f"--lora would take about {_size(with_lora.total)}, and " if with_lora is not None else ""
    return f"{line}: it may not fit; {other}a smaller per_device_train_batch_size takes fewer activations"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
