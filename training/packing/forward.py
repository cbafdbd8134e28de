"""A model that reads a packed batch: one forward pass a part, its figures scattered into the rows' own layout."""

import functools
import types
from collections.abc import Mapping
from typing import Any, Final

from interalign.training.packing.attention import attention_masks
from interalign.training.packing.batches import PACKED

_FIGURES: Final = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
"""The per-token fields of TRL's `FusedCausalLMOutput`."""


def add_packed_forward(model: Any) -> None:
    """Let `model(..., fused_lm_head=True, packed=...)` read the packed layout in place of `input_ids`.

    The model has TRL's fused language-model head already, which is used as it is. Without `packed` nothing changes.
    """
    unpacked = model.forward

    @functools.wraps(unpacked)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        layout = kwargs.pop(PACKED, None)
        return unpacked(*args, **kwargs) if layout is None else _packed(self, unpacked, layout, kwargs)

    model.forward = types.MethodType(forward, model)


def _packed(model: Any, unpacked: Any, layout: Mapping[str, Any], kwargs: Mapping[str, Any]) -> Any:
    other = {key: value for key, value in kwargs.items() if key not in ("input_ids", "attention_mask", "labels")}
    read = [unpacked(**_inputs(model, part), **other) for part in layout["parts"]]
    return _scattered(read, layout["place"])


def _inputs(model: Any, part: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "input_ids": part["tokens"],
        "position_ids": part["depth"],
        "attention_mask": attention_masks(model, part["end"][0], part["depth"][0]),
        "shift_labels": part["labels"],
    }


def _scattered(read: list[Any], place: Any) -> Any:
    """Figures by node to figures by row: [rows, longest row - 1], zero where none is asked for."""
    import torch

    figures = {}
    for name in _FIGURES:
        if getattr(read[0], name) is not None:
            nodes = torch.cat([getattr(part, name)[0] for part in read])
            figures[name] = torch.cat([nodes, nodes.new_zeros(1)])[place]  # -1 is the zero at the end
    return type(read[0])(label_mask=place >= 0, **figures)
