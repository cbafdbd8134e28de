"""The key-value cache of a batch, filled from the prefix cache, with spare capacity so that it grows in place."""

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from interalign.models.local.prefix_cache import Span, covered_tokens, left_padded_batch, with_capacity

_SPARE = 64
"""Tokens of capacity that are added at a time: every growth copies all keys and values."""


class Generated(NamedTuple):
    """What `generate` gives: token ids [rows, columns] and the key-value cache behind all but the last of them."""

    sequences: Any
    cache: Any


def generate_from(model: Any, ids: Any, mask: Any, past: Any, **options: Any) -> Generated:
    """Have the model generate after `ids` [rows, columns], of which the key-value cache `past` holds the first ones."""
    out = model.generate(ids, attention_mask=mask, **{_cache_name(): past}, return_dict_in_generate=True, **options)
    return Generated(out.sequences, getattr(out, _cache_name()))


@cache
def _cache_name() -> str:
    """What `generate` and its output call the key-value cache: `past_key_values`, from transformers 5.24 on `cache`."""
    from transformers.generation import GenerateDecoderOnlyOutput

    known = {field.name for field in dataclasses.fields(GenerateDecoderOnlyOutput)}
    return "cache" if "cache" in known else "past_key_values"


def batch_cache(rows: Sequence[Sequence[Span]], spare: int = _SPARE) -> Any:
    """The left-padded key-value cache of a batch, with capacity for `spare` more tokens; None if no row has a span."""
    from transformers import DynamicCache

    if not any(rows):
        return None
    past, used = DynamicCache(), max(map(covered_tokens, rows))
    past.layers = [
        _preallocated_layer()(keys, values, used) for keys, values in zip(*left_padded_batch(rows, spare), strict=True)
    ]
    return past


@cache
def _preallocated_layer() -> Any:
    """The class of a cache layer with preallocated capacity: the plain one copies everything for every new token."""
    from transformers.cache_utils import DynamicLayer

    class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
        def __init__(self, keys: Any, values: Any, used: int) -> None:
            super().__init__()
            self.lazy_initialization(keys, values)
            self._show([keys, values], used)

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            used = self.keys.shape[2]
            end = used + key_states.shape[2]
            parts = [with_capacity(part, used, end, _SPARE) for part in self._parts]
            for part, new in zip(parts, (key_states, value_states), strict=True):
                part[:, :, used:end] = new
            self._show(parts, end)
            return self.keys, self.values

        def _show(self, parts: list[Any], used: int) -> None:
            self._parts = parts
            self.keys, self.values = (part[:, :, :used] for part in parts)

    return PreallocatedLayer
