"""Run files are made here: simulate, evaluate, import, judge again, merge."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from interalign.api.resolve import chosen_settings, engine_of, run_async, runtime_of
from interalign.config import (
    EngineKeywords,
    EvaluationKeywords,
    EvaluationSettings,
    Runtime,
    SimulationKeywords,
    SimulationSettings,
    as_runtime,
    models_of,
    naming_the_file,
    read_settings,
)
from interalign.errors import ConfigError
from interalign.files import refuse_shared
from interalign.model_spec import ModelSpec
from interalign.people import load_personas
from interalign.records import Progress, RunSummary

if TYPE_CHECKING:
    from interalign.conversations import ImportedTrees
    from interalign.run.dry_run import Estimate
    from interalign.store.shard_merge import Merged


def simulate(
    run: Path | str,
    *,
    config: Path | str | None = None,
    fork: Path | str | None = None,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    **settings: Unpack[SimulationKeywords],
) -> RunSummary:
    """Grow conversation trees and keep them in `run`; the same call again goes on where it stopped.

    `settings` are the fields of SimulationSettings and of Runtime and, like what is set in `runtime`, win over those in
    the YAML file `config`. With `fork`, `run` is left alone and a copy of it goes on under these settings. In the main
    thread the first SIGINT or SIGTERM makes the run stop cleanly, a second one ends the process.

    Raises ConfigError for settings that cannot work or differ from those the run was begun with, StopError when the
    run stopped cleanly and can be resumed.
    """
    from interalign.run.execute import run_simulation

    with naming_the_file(config, settings):
        chosen, runtime = chosen_settings(SimulationSettings, config, settings, runtime)
        personas = load_personas(chosen.personas, split="train", n=chosen.trees, seed=chosen.seed)
        source, target = (Path(run), Path(fork)) if fork else (None, Path(run))
        work = run_simulation(target, chosen, personas, runtime, progress, fork_of=source)
        return run_async(work)


def evaluate(
    run: Path | str,
    *,
    config: Path | str | None = None,
    fork: Path | str | None = None,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    **settings: Unpack[EvaluationKeywords],
) -> RunSummary:
    """Measure candidates by the ALOE evaluation and keep every conversation in `run`; resumes like `simulate`.

    `settings` are the fields of EvaluationSettings and of Runtime. Each candidate meets the same cases: same
    personas, same seeds.
    """
    from interalign.run.execute import run_evaluation

    with naming_the_file(config, settings):
        chosen, runtime = chosen_settings(EvaluationSettings, config, settings, runtime)
        cases = load_personas(chosen.cases, split="heldout", n=chosen.limit or 100, seed=chosen.seed)
        source, target = (Path(run), Path(fork)) if fork else (None, Path(run))
        work = run_evaluation(target, chosen, cases, runtime, progress, fork_of=source)
        return run_async(work)


def merge(
    out: Path | str, inputs: Sequence[Path | str], *, tell: Callable[[int], object] = lambda trees: None
) -> "Merged":
    """Bring the shards of one run into the run file `out`; what came of it. `tell` gets the trees merged so far.

    A run file that is there already is extended. Everything on record of a tree comes along; a tree that several
    files have is taken once. The result goes on like any run: `simulate` without a shard grows what is missing. Raises
    ConfigError for files of different runs, and for a tree that is finished in two versions.
    """
    from interalign.store.shard_merge import merge_runs

    if not inputs:
        raise ConfigError("merge needs the run files to merge: interalign merge OUT.db IN.db ...")
    refuse_shared([Path(out)], inputs)
    return merge_runs(Path(out), [Path(each) for each in inputs], tell)


def about_cases(*, config: Path | str | None = None, cases: str | None = None) -> str:
    """One line on how close the cases of `evaluate` are to the shipped training pool; empty unless they are `aloe`."""
    if (cases or (read_settings(config).get("cases") if config else None)) != "aloe":
        return ""
    from interalign.diversity import nearest_across
    from interalign.people import aloe_cases, people

    near = nearest_across(aloe_cases(), people(0))
    return f"aloe: 100 cases, 20 held-out profiles; cosine to the nearest training profile of `people`: {near}"


def import_conversations(
    file: Path | str,
    run: Path | str,
    *,
    format: str = "auto",  # noqa: A002  (the option's name)
    personas: Path | str | None = None,
    skip_bad: bool = False,
) -> "tuple[ImportedTrees, bool]":
    """Read recorded conversations in any format of `registries.CONVERSATION_FORMATS` and keep them as trees in `run`.

    `personas`: a persona file in which the ids that rows name are looked up. What became of the rows, and whether `run`
    was written: False if it held just this import already. Raises DataError that names the bad rows, unless `skip_bad`,
    and ConfigError for a run file that holds anything else.
    """
    from interalign.conversations import import_trees
    from interalign.run.keep_import import keep_import

    refuse_shared([Path(run)], inputs=[file, personas])
    people = () if personas is None else load_personas(str(personas), split="train", n=0, seed=0)
    known = {persona.id: persona for persona in people}
    found = import_trees(Path(file), Path(run).stem, format=format, skip_bad=skip_bad, known=known)
    return found, keep_import(Path(run), Path(file), found)


@overload
def estimate(
    kind: Literal["simulation"],
    run: Path | str,
    *,
    config: Path | str | None = None,
    fork: Path | str | None = None,
    runtime: Runtime | None = None,
    **settings: Unpack[SimulationKeywords],
) -> "Estimate": ...


@overload
def estimate(
    kind: Literal["evaluation"],
    run: Path | str,
    *,
    config: Path | str | None = None,
    fork: Path | str | None = None,
    runtime: Runtime | None = None,
    **settings: Unpack[EvaluationKeywords],
) -> "Estimate": ...


def estimate(
    kind: Literal["simulation", "evaluation"],
    run: Path | str,
    *,
    config: Path | str | None = None,
    fork: Path | str | None = None,
    runtime: Runtime | None = None,
    **settings: Any,
) -> "Estimate":
    """What `simulate` or `evaluate` with the same arguments is expected to take: calls, tokens, money, time, disk.

    Nothing is asked and nothing is written. Raises ConfigError for settings with which they would not start.
    """
    with naming_the_file(config, settings):
        return _estimated(kind, Path(run), config, fork, runtime, settings)


def _estimated(
    kind: Literal["simulation", "evaluation"],
    run: Path,
    config: Path | str | None,
    fork: Path | str | None,
    runtime: Runtime | None,
    settings: Mapping[str, Any],
) -> "Estimate":
    from interalign.run.dry_run import estimate_evaluation, estimate_simulation
    from interalign.run.session import refuse_unknown_prices

    if kind == "simulation":
        chosen, runtime = chosen_settings(SimulationSettings, config, settings, runtime)
        refuse_unknown_prices(models_of(chosen), runtime)
        personas = load_personas(chosen.personas, split="train", n=chosen.trees, seed=chosen.seed)
        return run_async(estimate_simulation(run, chosen, personas, runtime, forks=fork is not None))
    measured, runtime = chosen_settings(EvaluationSettings, config, settings, runtime)
    refuse_unknown_prices(models_of(measured), runtime)
    cases = load_personas(measured.cases, split="heldout", n=measured.limit or 100, seed=measured.seed)
    return run_async(estimate_evaluation(run, measured, cases, runtime, forks=fork is not None))


def judge(
    run: Path | str,
    *,
    judge: str,
    controls: int = 0,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    **settings: Unpack[EngineKeywords],
) -> RunSummary:
    """Judge the finished trees of `run` again with another judge; what was said before stays beside it.

    `controls`: so many cases have every reply scored once more as if for somebody else, which tells personal fit from
    what anybody might like. `settings` are the fields of Runtime, of which what is set in `runtime` wins, and `workers`
    and `engine`: which processes share the trees to be judged (controls are few, and made in this one).
    """
    from interalign.run.judge import run_judging

    engine, spec = engine_of(settings), ModelSpec.parse(judge)
    carried = runtime_of(settings, {}, None, runtime).model_copy(update=as_runtime([spec]))
    summary = run_async(run_judging(Path(run), spec.known_as, carried, progress, engine))
    if controls < 1 or summary.failed:
        return summary
    from interalign.run.controls import run_controls

    return run_async(run_controls(Path(run), spec.known_as, controls, carried, progress))
