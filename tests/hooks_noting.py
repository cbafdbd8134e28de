"""Hooks for tests: some note, each of the others breaks the contract in its own way."""

from collections.abc import Mapping
from typing import Any

import interalign as ia

counted: list[str] = []
"""Ids of the user messages that `counting` was asked about."""


async def summary(view: ia.HookView) -> Mapping[str, Mapping[str, Any]]:
    hint = view.hint is not None
    seen = f"{len(view.transcript)} messages, hint {hint}, {len(view.replies)} replies, {len(view.verdicts)} verdicts"
    return {view.user.id: {"seen": seen}}


async def also_summary(view: ia.HookView) -> Mapping[str, Mapping[str, Any]]:
    return await summary(view)


async def lengths(view: ia.HookView) -> Mapping[str, Mapping[str, Any]]:
    return {reply.id: {"words": {"count": len(reply.text.split()), "list": [1, None, "x"]}} for reply in view.replies}


async def counting(view: ia.HookView) -> Mapping[str, Mapping[str, Any]]:
    counted.append(view.user.id)
    return {}


async def raising(view: ia.HookView) -> Any:
    return {}["no such thing"]


def not_async(view: ia.HookView) -> Any:
    return {}


async def flat(view: ia.HookView) -> Any:
    return {view.user.id: "good"}


async def a_list(view: ia.HookView) -> Any:
    return [view.user.id]


async def not_json(view: ia.HookView) -> Any:
    return {view.user.id: {"when": object()}}


async def stranger(view: ia.HookView) -> Any:
    return {"7/u": {"seen": True}}
