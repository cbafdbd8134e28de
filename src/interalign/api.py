"""One library function per command. Everything here can be called from Python; the command line only parses."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from interalign.config import EvaluationSettings, Runtime, SimulationSettings, build, read_yaml
from interalign.errors import ConfigError
from interalign.personas import Persona, parse_personas

if TYPE_CHECKING:
    from interalign.eval.results import Report
    from interalign.runs import RunSummary
    from interalign.store import Store

T = TypeVar("T")
ExportFormat = Literal["sft", "dpo", "kto", "rm", "listwise", "messages"]
Progress = Callable[["RunSummary"], None]
"""Called whenever a tree has ended, with the run as it then stands."""


def simulate(
    run: Path | str,
    *,
    config: Path | None = None,
    fork: Path | None = None,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> "RunSummary":
    """Grow conversation trees and keep them in `run`; the same call again goes on where it stopped.

    `settings` are the fields of SimulationSettings and win over those in the YAML file `config`. With `fork`, `run`
    is left alone and a copy of it goes on under these settings. Raises ConfigError for settings that cannot work or
    differ from those the run was begun with, StopError when the run stopped cleanly and can be resumed.
    """
    from interalign.runs import run_simulation

    chosen = build(SimulationSettings, _merged(config, settings))
    personas = load_personas(chosen.personas, split="train", n=chosen.trees, seed=chosen.seed)
    target = _forked(Path(run), fork)
    return run_async(run_simulation(target, chosen, personas, runtime or Runtime(), progress))


def evaluate(
    run: Path | str,
    *,
    config: Path | None = None,
    fork: Path | None = None,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> "RunSummary":
    """Measure candidates by the ALOE evaluation and keep every conversation in `run`; resumes like `simulate`.

    `settings` are the fields of EvaluationSettings. Each candidate meets the same cases: same personas, same seeds.
    """
    from interalign.runs import run_evaluation

    chosen = build(EvaluationSettings, _merged(config, settings))
    cases = load_personas(chosen.cases, split="heldout", n=chosen.limit or 100, seed=chosen.seed)[: chosen.limit]
    target = _forked(Path(run), fork)
    return run_async(run_evaluation(target, chosen, cases, runtime or Runtime(), progress))


def judge(
    run: Path | str,
    *,
    judge: str,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
) -> "RunSummary":
    """Judge the finished trees of `run` again with another judge; what was said before stays beside it."""
    from interalign.runs import run_judging

    return run_async(run_judging(Path(run), judge, runtime or Runtime(), progress))


def export(
    run: Path | str,
    out: Path | str,
    *,
    format: ExportFormat,  # noqa: A002  (the option's name)
    pairs: Literal["best-worst", "all"] = "best-worst",
    judge: str | None = None,
) -> int:
    """Write the trees of `run` as training rows to the JSON lines file `out`, whole or not at all; number of rows.

    Preferences are those of `judge`, by default the one asked last.
    """
    from interalign.store import Store
    from interalign.training.export import rows, write_jsonl

    with Store.open(Path(run)) as store:
        name = judge or store.newest_judge()
        if judge is not None and judge not in store.judges():
            raise ConfigError(f"{run} has no verdict by {judge!r}; it has {', '.join(store.judges()) or 'none at all'}")
        judged = (tree.by_judge(name) if name else tree for tree in store.judged_trees())
        return write_jsonl(rows(judged, format, pairs=pairs), Path(out))


def report(run: Path | str) -> "Report":
    """The figures of a run, as documented in docs/report.md."""
    from interalign.eval.run_report import run_report
    from interalign.store import Store

    with Store.open(Path(run)) as store:
        return run_report(store)


def open_run(run: Path | str) -> "Store":
    """The run file, for reading: trees, verdicts, calls. Close it, or use it in a `with` statement."""
    from interalign.store import Store

    return Store.open(Path(run))


def load_personas(source: str, *, split: Literal["train", "heldout"], n: int, seed: int) -> tuple[Persona, ...]:
    """`world`: n personas of the embedded world; anything else: the JSON lines file of that name, all of it."""
    if source == "world":
        from interalign.models.world import world_personas

        return world_personas(split, n, seed, per_profile=5 if split == "heldout" else 1)
    path = Path(source)
    try:
        with path.open(encoding="utf-8") as lines:
            return parse_personas(lines, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give a JSON lines file, or `world`") from None


def graph(name: str) -> str:
    """Mermaid text of the state machine `turn`, `tree` or `evaluation`."""
    from interalign.graphs.catalogue import mermaid

    return mermaid(name)


def _merged(config: Path | None, settings: dict[str, Any]) -> dict[str, Any]:
    return {**(read_yaml(config) if config else {}), **settings}


def _forked(run: Path, fork: Path | None) -> Path:
    from interalign.store import Store

    if fork is None:
        return run
    Store.fork(run, fork)
    return fork


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; in a thread of its own where an event loop is already running, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001  (handed to the caller's thread, nothing swallowed)
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
