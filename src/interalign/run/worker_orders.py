"""What a process is told that works on trees of another one's run, as JSON, and how it carries that out."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from interalign.config import EvaluationSettings, Runtime, SimulationSettings
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


def orders_for(file: Path, orders: Mapping[str, Any], runtime: Runtime) -> dict[str, Any]:
    """To carry these orders out on the trees of this file."""
    return {"file": str(file), **orders, "runtime": runtime.model_dump(mode="json")}


def carry_out_orders(told: dict[str, Any], file: Path, tell: Callable[[RunSummary], None]) -> WorkerEnding:
    """Work on the trees in this file, as told; `tell` hears twice a second and at the end how they stand."""
    try:
        asyncio.run(_work(told, file, tell))
    except InteralignError as error:
        return WorkerEnding(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001  (told where the command was given)
        return WorkerEnding(
            f"unexpected {type(error).__name__}: {error}; what was finished is kept", StopError.exit_code
        )
    return WorkerEnding(None, 0)


def _work(told: Mapping[str, Any], file: Path, tell: Callable[[RunSummary], None]) -> Coroutine[Any, Any, None]:
    from interalign.run.auditing import audit_planned  # whose models may be found only once sys.path is set
    from interalign.run.growing import run_planned
    from interalign.run.judging import judge_planned

    runtime, trusted = Runtime.model_validate(told["runtime"]), frozenset(told["trusted"])
    if told["kind"] == "judge":
        return judge_planned(file, told["judge"], runtime, tell, trusted)
    if told["kind"] == "audit":
        return audit_planned(file, told["judge"], runtime, tell)
    kind = {each.__name__: each for each in (SimulationSettings, EvaluationSettings)}[told["kind"]]
    return run_planned(file, kind.model_validate(told["settings"]), runtime, tell, trusted)
