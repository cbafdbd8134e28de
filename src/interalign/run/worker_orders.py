"""What a process is told that grows trees of another one's run, as JSON, and how it carries that out."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from interalign.config import EvaluationSettings, RunSettings, Runtime, SimulationSettings
from interalign.errors import ConfigError, InteralignError, StopError
from interalign.records import RunSummary


class WorkerEnding(NamedTuple):
    """How it ended."""

    reason: str | None
    """Why not all trees were tried; None if they were."""
    code: int
    """The exit code of that."""

    @property
    def error(self) -> InteralignError | None:
        """What to raise where the command was given."""
        if self.reason is None:
            return None
        return (ConfigError if self.code == ConfigError.exit_code else StopError)(self.reason)


def orders_for(file: Path, settings: RunSettings, runtime: Runtime) -> dict[str, Any]:
    """To grow the trees that are planned in this file."""
    shard = getattr(settings, "shard", None)
    return {
        "file": str(file),
        "kind": type(settings).__name__,
        "settings": {**settings.model_dump(mode="json"), "shard": None if shard is None else str(shard)},
        "runtime": runtime.model_dump(mode="json"),
    }


def carry_out_orders(told: dict[str, Any], file: Path, tell: Callable[[RunSummary], None]) -> WorkerEnding:
    """Grow the trees in this file, as told; `tell` hears twice a second and at the end how they stand."""
    from interalign.run.growing import run_planned  # whose models may be found only once sys.path is set

    kind = {each.__name__: each for each in (SimulationSettings, EvaluationSettings)}[told["kind"]]
    settings, runtime = kind.model_validate(told["settings"]), Runtime.model_validate(told["runtime"])
    try:
        asyncio.run(run_planned(file, settings, runtime, tell))
    except InteralignError as error:
        return WorkerEnding(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001  (told where the command was given)
        return WorkerEnding(
            f"unexpected {type(error).__name__}: {error}; what was finished is kept", StopError.exit_code
        )
    return WorkerEnding(None, 0)
