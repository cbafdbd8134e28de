"""Whether a model allows chunked prefill, and so can continue from cached keys and values."""

import inspect
from typing import Any

from interalign.models.local.prefill import prefill, prefill_pass
from interalign.models.local.prefix_cache import left_padded_batch, slice_spans

_PROBE_TOKENS = 24
"""Length of the sequence on which chunked prefill is tried."""


def allows_chunked_prefill(model: Any, limit: int) -> bool:
    """Whether a prompt that is prefilled in chunks leaves the same keys and values as one prefilled at once.

    It does not with sliding windows, recurrent layers, and position encodings that depend on the total length. Any
    other model is tested on a few tokens.
    """
    ropes = " ".join(str(getattr(module, "rope_type", "")) for module in model.modules())
    if "position_ids" not in inspect.signature(model.forward).parameters or "dynamic" in ropes or "longrope" in ropes:
        return False
    try:
        return _same_when_chunked(model, min(_PROBE_TOKENS, limit - 1, model.config.get_text_config().vocab_size))
    except Exception:  # noqa: BLE001 - whatever fails, every prompt is then prefilled from its first token
        return False


def _same_when_chunked(model: Any, size: int) -> bool:
    """Prefill prompts of `size` and fewer tokens at once and in chunks, padded as in a batch; compare the caches."""
    import torch
    from transformers.cache_utils import DynamicLayer

    prompts = [tuple(range(size)), tuple(range(size - 1, size // 6, -1))]
    with torch.inference_mode():
        cache = prefill(model, prompts)
        # Exactly this class: its subclasses cache fewer positions, or more than keys and values.
        if any(type(layer) is not DynamicLayer for layer in cache.layers):
            return False
        at_once = prefill_pass(model, {prompt: [] for prompt in prompts})
        first = {prompt: list(slice_spans(spans, 0, size // 3)) for prompt, spans in at_once.items()}
        chunked = left_padded_batch(list(prefill_pass(model, first).values()))
        # Parts of some models (the gates of experts) compute in float32 whatever the rest does.
        tolerance = max(torch.finfo(dtype).eps for dtype in (chunked[0].dtype, torch.float32)) ** 0.5
        pairs = zip(left_padded_batch(list(at_once.values())), chunked, strict=True)
        return all(bool((one - other).abs().max() <= tolerance * one.abs().max()) for one, other in pairs)
