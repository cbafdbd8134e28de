"""Whether a model may read a prompt in parts, and so go on from keys and values that were kept."""

import inspect
from typing import Any

from interalign.models.local.prefill import read_pass, read_prompts
from interalign.models.local.prefix_cache import cut_spans, lay_out

_PROBE_TOKENS = 24
"""Length of the sequence on which a model shows that it may be read in parts."""


def reads_in_parts(model: Any, limit: int) -> bool:
    """Whether a prompt read in parts leaves the same keys and values as one read at once.

    Not so with sliding windows, recurrent layers, and positions that depend on the length of the whole; a model of a
    kind unknown here shows it on a few tokens.
    """
    ropes = " ".join(str(getattr(module, "rope_type", "")) for module in model.modules())
    if "position_ids" not in inspect.signature(model.forward).parameters or "dynamic" in ropes or "longrope" in ropes:
        return False
    try:
        return _same_in_parts(model, min(_PROBE_TOKENS, limit - 1, model.config.get_text_config().vocab_size))
    except Exception:  # noqa: BLE001 - whatever it is that it cannot do, it then reads every prompt anew
        return False


def _same_in_parts(model: Any, size: int) -> bool:
    """Read prompts of `size` and fewer tokens at once and in parts, padded as in a batch; compare keys and values."""
    import torch
    from transformers.cache_utils import DynamicLayer

    prompts = [tuple(range(size)), tuple(range(size - 1, size // 6, -1))]
    with torch.inference_mode():
        cache = read_prompts(model, prompts)
        # Exactly this layer: its heirs keep less than everything, or more than keys and values.
        if any(type(layer) is not DynamicLayer for layer in cache.layers):
            return False
        at_once = read_pass(model, {prompt: [] for prompt in prompts})
        first = {prompt: list(cut_spans(spans, 0, size // 3)) for prompt, spans in at_once.items()}
        in_parts = lay_out(list(read_pass(model, first).values()))
        # Parts of some models (the gates of experts) work in float32 whatever the rest does.
        tolerance = max(torch.finfo(dtype).eps for dtype in (in_parts[0].dtype, torch.float32)) ** 0.5
        pairs = zip(lay_out(list(at_once.values())), in_parts, strict=True)
        return all(bool((one - other).abs().max() <= tolerance * one.abs().max()) for one, other in pairs)
