"""Which settings of a run differ from those it was begun with, in words."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["changed_settings", "shortened"]

_SHOWN_CHANGES = 5
_SHOWN_CHARACTERS = 40


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`NAME BEFORE -> AFTER` for each setting that differs; a prompt that there was not before is no change."""
    before, after = dict(_flat(old)), dict(_flat(new))
    return [
        f"{name} {_brief(before.get(name))} -> {_brief(after.get(name))}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name) and not (name.startswith("prompts.") and name not in before)
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings within settings get dotted names, so that a message names what really changed."""
    for name, value in settings.items():
        if name == "own_prompts":
            continue  # their hashes stand among those of all prompts
        if name in ("rubric", "system") and isinstance(value, str):
            yield prefix + name, hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        elif name == "candidate" and isinstance(value, list):
            yield prefix + name, ", ".join(f"{one['name']}={one['model']}" for one in value)
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def shortened(changes: Sequence[str]) -> str:
    """The first of these changes in one line, and how many more there are."""
    more = len(changes) - _SHOWN_CHANGES
    return ", ".join(changes[:_SHOWN_CHANGES]) + (f", and {more} more" if more > 0 else "")
