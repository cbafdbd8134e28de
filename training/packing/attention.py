"""Which token of a packed trie sees which, for each kind of attention layer; and the models that can be told so."""

import sys
from typing import Any, Final

_FULL: Final = "full_attention"
_SLIDING: Final = "sliding_attention"
_KNOWN: Final = {
    "sliding_window", "use_sliding_window", "max_window_layers", "sliding_window_pattern", "_sliding_window_pattern",
}  # fmt: skip
"""Settings of windows that `layer_kinds` follows."""


def ancestors(end: Any, depth: Any, window: int | None = None) -> Any:
    """[N, N] mask, true where a token (row) sees another one (column): itself and its ancestors.

    `window` limits it to the last tokens of the path from the root, the token itself counted: a distance in depth.
    """
    import torch

    place = torch.arange(len(end), device=end.device)
    seen = (place <= place[:, None]) & (place[:, None] < end)
    return seen if window is None else seen & (depth[:, None] - depth < window)


def attention_masks(model: Any, end: Any, depth: Any) -> Any:
    """What to give the model as `attention_mask` for one packed part: a 4D mask, or one for each kind of layer."""
    kinds = layer_kinds(model)
    masks = {kind: _as_argument(model, ancestors(end, depth, window)) for kind, window in kinds.items()}
    return masks if len(masks) > 1 else next(iter(masks.values()))


def layer_kinds(model: Any) -> dict[str, int | None]:
    """The kinds of attention layers of a model, and their windows in tokens (None: all that came before)."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", None) is False:
        window = None
    kinds = getattr(config, "layer_types", None) or [_FULL if window is None else _SLIDING]
    return {kind: window if kind == _SLIDING else None for kind in kinds}


def _as_argument(model: Any, seen: Any) -> Any:
    """SDPA takes a boolean mask; eager attention adds its mask to the scores."""
    import torch

    seen = seen[None, None]
    if model.config._attn_implementation != "eager":
        return seen
    return torch.zeros(seen.shape, dtype=model.dtype, device=seen.device).masked_fill(
        ~seen, torch.finfo(model.dtype).min
    )


def refusal(model: Any) -> str | None:
    """Why the attention of a causal language model cannot follow a trie, naming the model; None if nothing says so."""
    reason = _refusal(model)
    return None if reason is None else f"{type(model).__name__} ({model.config.model_type}) cannot be packed: {reason}"


def _refusal(model: Any) -> str | None:
    if any(each.__name__ == "FSDPModule" for each in type(model).__mro__):
        return "its weights are divided among processes (FSDP)"
    module = vars(sys.modules[type(model).__module__])
    implementation = model.config._attn_implementation
    kinds = layer_kinds(model)
    if getattr(model, "_is_stateful", False):
        return "its layers carry a state from token to token"
    if other := sorted(kinds.keys() - {_FULL, _SLIDING}):
        return f"it has layers of the kind {', '.join(other)}, and only full and sliding attention take a mask"
    if "create_causal_mask" not in module and "create_sliding_window_causal_mask" not in module:
        return "it makes its attention mask by itself"
    if any(window is not None for window in kinds.values()) and "create_sliding_window_causal_mask" not in module:
        return "it has a sliding window of its own making"
    if own := _windows_of_its_own(model):
        return f"{' and '.join(own)} in its configuration limits what a token sees, and it is not known how"
    if getattr(model.config.get_text_config(), "use_bidirectional_attention", None):
        return "its attention also looks ahead"
    if implementation not in ("sdpa", "eager"):
        return f"its attention {implementation} takes no mask; load it with attn_implementation sdpa or eager"
    return None


def _windows_of_its_own(model: Any) -> list[str]:
    settings = model.config.get_text_config().to_dict().items()
    limits = [key for key, value in settings if value and ("window" in key or "attention_chunk" in key)]
    return sorted(set(limits) - _KNOWN)
