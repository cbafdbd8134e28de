"""The key-value cache of a batch, made of what is known of its rows; it grows in place."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from interalign.models.local.prefixes import Span, covered, lay_out, with_room

_ROOM = 64
"""Tokens by which a batch's keys and values grow at a time: growing copies all of them."""


def batch_cache(rows: Sequence[Sequence[Span]], room: int = _ROOM) -> Any:
    """The key-value cache of a batch, padded on the left, `room` tokens to come; None where no row has anything."""
    from transformers import DynamicCache

    if not any(rows):
        return None
    past, used = DynamicCache(), max(map(covered, rows))
    past.layers = [_roomy_layer()(keys, values, used) for keys, values in zip(*lay_out(rows, room), strict=True)]
    return past


@cache
def _roomy_layer() -> Any:
    """The class of a cache layer that grows in place: the plain one copies everything for every new token."""
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):  # type: ignore[misc]
        def __init__(self, keys: Any, values: Any, used: int) -> None:
            super().__init__()
            self.lazy_initialization(keys, values)
            self._show([keys, values], used)

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            used = self.keys.shape[2]
            end = used + key_states.shape[2]
            parts = [with_room(part, used, end, _ROOM) for part in self._parts]
            for part, new in zip(parts, (key_states, value_states), strict=True):
                part[:, :, used:end] = new
            self._show(parts, end)
            return self.keys, self.values

        def _show(self, parts: list[Any], used: int) -> None:
            self._parts = parts
            self.keys, self.values = (part[:, :, :used] for part in parts)

    return RoomyLayer
