"""The roles that can take a seat."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from interalign.api.resolve import run_async
from interalign.config import (
    Runtime,
)

if TYPE_CHECKING:
    from interalign.run.probe import SeatFigures


def roles() -> list[tuple[str, str]]:
    """Everything that can be named in a run or added to one, each with what it is or which plug-in brings it."""
    from interalign.agents.registry import registered_roles
    from interalign.models.world import world_models
    from interalign.registries import ALL

    world = [(f"world:{name}", what) for name, what in world_models().items()]
    plugins = [(name, f"plug-in {entry.value}") for name, entry in sorted(registered_roles().items())]
    members = [(member.name, f"{registry.kind}, {member.shown}") for registry in ALL for member in registry.members()]
    return world + plugins + members


def check_role(spec: str) -> str:
    """What a model or plug-in name stands for and which seats it can take; ConfigError if it cannot be loaded."""
    from interalign.agents.registry import describe_role

    return describe_role(spec)


def probe_role(
    spec: str,
    *,
    base_url: Sequence[str] = (),
    concurrency: int = 8,
    prompts: Path | str | None = None,
    repeats: int = 1,
) -> "tuple[SeatFigures, ...]":
    """How a model does in each seat, on fixed personas, talks and pairs; ConfigError if it is no real model.

    `prompts`: a folder with prompts of one's own; `repeats`: how often the seats that sample are asked.
    """
    from interalign.run.probe import probe

    runtime = Runtime(base_url=tuple(base_url) or None, concurrency=concurrency)
    return run_async(probe(spec, runtime, prompts=None if prompts is None else str(prompts), repeats=repeats))
