"""One library function per command. Everything here can be called from Python; the command line only parses."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from interalign.config import (
    EvaluationKeywords,
    EvaluationSettings,
    PersonaSettings,
    RewardSettings,
    RunSettings,
    Runtime,
    RuntimeKeywords,
    SimulationKeywords,
    SimulationSettings,
    as_runtime,
    build,
    merged_servers,
    models_of,
    naming_the_file,
    read_settings,
    with_addresses,
)
from interalign.errors import ConfigError, did_you_mean
from interalign.files import is_stream, read_text, refuse_folder, refuse_outputs, refuse_shared, write_atomically
from interalign.ledger.budget import Prices, price_table, read_prices
from interalign.model_spec import ModelSpec
from interalign.models.names import importable
from interalign.panel import PANEL, with_panel
from interalign.people import load_personas
from interalign.personas import Persona, dump_personas
from interalign.records import Progress, RunSummary

if TYPE_CHECKING:
    from pydantic import JsonValue

    from interalign.conversations import ImportedTrees
    from interalign.diversity import Diversity
    from interalign.eval.audit import Audit
    from interalign.eval.calibration import Calibration
    from interalign.eval.fidelity import Fidelity
    from interalign.eval.label_files import ImportedLabels
    from interalign.eval.power import PowerFigures
    from interalign.eval.results import CandidateComparison, Report
    from interalign.people.importing import Imported
    from interalign.people.split import SplitPool
    from interalign.records import LabelQuestion
    from interalign.run.dry_run import Estimate
    from interalign.run.generation import GeneratedPool
    from interalign.run.probe import SeatFigures
    from interalign.run.rewards import JudgedReward
    from interalign.store import Store
    from interalign.store.shard_merge import Merged
    from interalign.training.result import TrainResult
    from interalign.tree import JudgedTree

T = TypeVar("T")
R = TypeVar("R", bound=RunSettings)


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
        chosen, runtime = _chosen(SimulationSettings, config, settings, runtime)
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
        chosen, runtime = _chosen(EvaluationSettings, config, settings, runtime)
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
        chosen, runtime = _chosen(SimulationSettings, config, settings, runtime)
        refuse_unknown_prices(models_of(chosen), runtime)
        personas = load_personas(chosen.personas, split="train", n=chosen.trees, seed=chosen.seed)
        return run_async(estimate_simulation(run, chosen, personas, runtime, forks=fork is not None))
    measured, runtime = _chosen(EvaluationSettings, config, settings, runtime)
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
    **settings: Unpack[RuntimeKeywords],
) -> RunSummary:
    """Judge the finished trees of `run` again with another judge; what was said before stays beside it.

    `controls`: so many cases have every reply scored once more as if for somebody else, which tells personal fit from
    what anybody might like. `settings` are the fields of Runtime; what is set in `runtime` wins.
    """
    from interalign.run.execute import run_judging

    spec = ModelSpec.parse(judge)
    carried = _carried_out(settings, {}, None, runtime).model_copy(update=as_runtime([spec]))
    summary = run_async(run_judging(Path(run), spec.known_as, carried, progress))
    if controls < 1 or summary.failed:
        return summary
    from interalign.run.controls import run_controls

    return run_async(run_controls(Path(run), spec.known_as, controls, carried, progress))


def export(
    run: Path | str,
    out: Path | str,
    *,
    format: str,  # noqa: A002  (the option's name)
    pairs: Literal["best-worst", "all"] = "best-worst",
    judge: str | None = None,
    min_margin: float | None = None,
    min_agreement: float | None = None,
    audit: Literal["drop", "keep"] = "keep",
    keep_leaks: bool = False,
    keep_cut: bool = False,
) -> int:
    """Write the trees of `run` as training rows to `out`, Parquet if it ends so, else JSON lines; number of rows.

    The file appears whole or not at all. Beside it, `out` with `.card.json` behind its name says what the rows were
    made from (docs/data-format.md).

    `format`: sft, dpo, kto, rm, grpo, listwise, messages, or a plug-in's (`interalign.registries.FORMATS`). Preferences
    are those of `judge`, by default the panel of a run with several judges, else the last judge that gave a readable
    answer. `panel` for a run with one judge: of all judges that were asked about it since. Replies that repeat the
    inducer's note are left out, with what follows them, unless `keep_leaks`; those that were cut at their length limit
    are learnt in no row unless `keep_cut`. A turn gives no row if its clearest pair has a margin below `min_margin`, or
    if fewer than the share `min_agreement` of the run's judges prefer the chosen reply. `audit="drop"` leaves out user
    messages with a finding (`audit`), and what follows them.
    """
    from interalign.store import Store
    from interalign.training.data_card import Tally, card_beside, write_card
    from interalign.training.export import rows, write_rows
    from interalign.training.leak_proof import LeakProof
    from interalign.training.row_filters import RowFilters

    if audit not in ("drop", "keep"):
        raise ConfigError(f"audit={audit!r}: write drop or keep")
    card = card_beside(Path(out))
    refuse_outputs([out, card], inputs=[run])
    with Store.open(Path(run)) as store:
        store.refuse_personas("export")
        name = judge or store.newest_judge()
        members = store.judges() if judge == PANEL and not store.panel() else []
        if judge is not None and judge not in store.judges() and len(members) < 2:
            near = did_you_mean(judge, store.judges())
            has = ", ".join(store.judges()) or "none at all"
            raise ConfigError(f"{run} has no verdict by {judge!r}; it has {has}{near}")
        judged = (with_panel(tree, members) if members else tree for tree in store.judged_trees())
        tally = Tally()
        drops = audit == "drop"
        people = lru_cache(256)(store.find_persona)
        rubric = store.run.begun_with.rubric if store.run else None
        proof = LeakProof(people, rubric, notes=not keep_leaks)
        filters = RowFilters(min_margin, min_agreement, drops, people)
        keeps = {"keep_leaks": keep_leaks, "keep_cut": keep_cut}
        made = rows(tally.counting(judged), format, pairs, judge=name, filters=filters, proof=proof, **keeps)
        written = write_rows(made, Path(out))
        if card is not None:
            warnings = list(store.judge_warnings(name))
            chosen = {"format": format, "pairs": pairs, "judge": name, "keep_cut": keep_cut, "keep_leaks": keep_leaks,
                      "min_margin": min_margin, "min_agreement": min_agreement, "audit": audit,
                      "left_out": dict(filters.left_out), "judge_warnings": warnings,
                      "leak_proof": proof.facts}  # fmt: skip
            write_card(card, Path(out), (Path(run), store.run), written, tally, chosen)
        return written


def export_shortfalls(run: Path | str, judge: str | None = None) -> list[str]:
    """What fell short in what `export` with this judge writes, and why to distrust the judge, a line each."""
    from interalign.store import Store

    with Store.open(Path(run)) as store:
        found = store.shortfalls(judge or store.newest_judge())
        return [line for line in (str(found), *(f"warning: {each}" for each in found.warnings)) if line]


def why_empty(run: Path | str, format: str, *, filtered: bool = False) -> str:  # noqa: A002  (the option's name)
    """One line that says why `export` found no row, and what to do. `filtered`: it was asked to leave out turns."""
    from interalign.store import Store
    from interalign.training.export import export_format, without_leaks

    with Store.open(Path(run)) as store:
        trees = list(store.judged_trees())
    if not trees:
        return "no tree of the run is finished yet; run `interalign simulate` again to go on"
    if filtered and not export_format(format).needs_judge:
        return "the audit finds fault with the first message of every conversation; leave --audit drop out"
    if not export_format(format).needs_judge:
        if any(tree.cut for tree in trees):
            return "every conversation begins with a message that was cut at its length limit; --keep-cut keeps it"
        return "no tree of the run has a reply"
    if not any(tree.judges() for tree in trees):
        return "the replies were never judged; `interalign judge` does it"
    if all(len(tree.tree.children(turn.id)) < 2 for tree in trees for turn in tree.tree.turns()):
        return "one reply a turn leaves nothing to prefer; simulate with --branch 2 or more"
    if not any(without_leaks(tree) for tree in trees):
        return "every reply, or what it answers, repeats the inducer's note; --keep-leaks keeps them"
    if all(_too_few_whole(tree) for tree in trees):
        return "too few replies were not cut at their length limit; raise max_tokens, or --keep-cut keeps them"
    if filtered:
        return "no turn holds what --min-margin, --min-agreement or --audit drop ask for; ask for less"
    return "no judge preferred one reply to another: every verdict is a tie or missing"


def _too_few_whole(tree: "JudgedTree") -> bool:
    """Whether replies were cut, and no turn has two others."""
    turns = tree.tree.turns()
    return bool(tree.cut) and all(
        len([reply for reply in tree.tree.children(turn.id) if reply.id not in tree.cut]) < 2 for turn in turns
    )


def report(run: Path | str, prices: Path | None = None) -> "Report":
    """The figures of a run, as documented in docs/report.md; with a price table also what it cost."""
    from interalign.eval.run_report import run_report
    from interalign.store import Store

    with Store.open(Path(run)) as store:
        store.refuse_personas("report")
        return run_report(store, Prices(read_prices(prices) if prices else ()))


def calibrate(run: Path | str, *, against: str, judge: str | None = None) -> "Calibration":
    """How far a judge's stored answers agree with `truth` (world personas) or with another judge of the run file."""
    from interalign.eval.calibration import calibrate as compare
    from interalign.store import Store

    with Store.open(Path(run)) as store:
        store.refuse_personas("calibrate")
        return compare(store, against, judge)


def audit(
    run: Path | str,
    *,
    judge: str | None = None,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    **settings: Unpack[RuntimeKeywords],
) -> "Audit":
    """Audit the simulated user of `run` by rules, with `judge` also by a model; findings are stored as annotations.

    Returns what all audits of the file found, and what this judge could not audit. `settings` are the fields of
    Runtime; what is set in `runtime` wins.
    """
    from interalign.eval.audit import audit_of
    from interalign.run.audit import audit_by_judge, audit_by_rules
    from interalign.store import Store

    unread, failed = 0, dict[str, str]()
    if judge is not None:
        spec = ModelSpec.parse(judge)
        carried = _carried_out(settings, {}, None, runtime).model_copy(update=as_runtime([spec]))
        summary, unread = run_async(audit_by_judge(Path(run), spec.known_as, carried, progress))
        failed = summary.failed
    run_async(audit_by_rules(Path(run)))
    with Store.open(Path(run)) as store:
        return audit_of(store)._replace(unread=unread, failed=failed)


def write_calibration_html(found: "Calibration", out: Path | str) -> None:
    """Write a calibration as one HTML file that loads nothing."""
    from interalign.eval.report import calibration_html

    refuse_outputs([out])
    write_atomically(Path(out), [calibration_html(found)])


def audit_json(found: "Audit") -> dict[str, "JsonValue"]:
    """An audit as `interalign audit --json` prints it."""
    from interalign.eval.audit import as_json

    return as_json(found)


def fidelity(run: Path | str, *, real: Path | str) -> "Fidelity":
    """How the simulated user's messages of `run` differ from those of real people in the run file `real`."""
    from interalign.eval.fidelity import fidelity as compare_users
    from interalign.store import Store

    with Store.open(Path(run)) as simulated, Store.open(Path(real)) as imported:
        for store in (simulated, imported):
            store.refuse_personas("fidelity")
        return compare_users(simulated, imported)


def plan_labels(run: Path | str, *, n: int, seed: int = 0) -> "list[LabelQuestion]":
    """Draw `n` questions for people, with known probabilities, and keep them in `run` (docs/labels.md).

    The same n and seed again change nothing. ConfigError where labels of another plan are in the file: their
    probabilities would be lost.
    """
    from interalign.eval.label_plan import plan_questions
    from interalign.store import Store

    with Store.open(Path(run)) as stored:
        stored.refuse_personas("labels plan")
        questions = plan_questions(stored, n, seed)
        planned = stored.label_questions()
        lost = {label.key for label in stored.labels()} & {one.key for one in planned} - {one.key for one in questions}
    if planned == questions:
        return questions
    if planned and lost:
        raise ConfigError(
            f"{run} has a plan of {len(planned)} questions, {len(lost)} of which are answered and would be lost; go on "
            "with it, or export the labels and begin with another copy of the file"
        )
    with Store.create_or_open(Path(run)) as store:
        store.plan_labels(questions)
    return questions


def import_labels(
    run: Path | str, file: Path | str, *, who: str | None = None, instructions: Path | None = None
) -> "ImportedLabels":
    """Add people's labels from a JSON lines or CSV file to `run`, all or none; DataError names all bad rows."""
    from interalign.eval.label_files import import_labels as add
    from interalign.store import Store

    text = None if instructions is None else read_text(instructions)
    with Store.open(Path(run)) as stored:
        stored.refuse_personas("labels import")
    with Store.create_or_open(Path(run)) as store:
        return add(store, Path(file), who=who, instructions=text)


def export_labels(run: Path | str, out: Path | str) -> int:
    """Write the labels of `run` to a file, CSV if its name ends so, else JSON lines; how many labels."""
    from interalign.eval.label_files import export_labels as write
    from interalign.store import Store

    refuse_outputs([out], inputs=[run])
    with Store.open(Path(run)) as store:
        store.refuse_personas("labels export")
        return write(store, Path(out))


def calibration_json(found: "Calibration") -> dict[str, "JsonValue"]:
    """A calibration as `interalign calibrate --json` prints it."""
    from interalign.eval.calibration import as_json

    return as_json(found)


def open_run(run: Path | str) -> "Store":
    """The run file, for reading: trees, verdicts, calls. Close it, or use it in a `with` statement."""
    from interalign.store import Store

    return Store.open(Path(run))


def report_json(found: "Report") -> str:
    """The report as JSON text in the documented schema."""
    from interalign.eval import report as pages

    return pages.report_json(found)


def write_report_html(found: "Report", out: Path | str) -> None:
    """Write the report as one HTML file with nothing to load from elsewhere, whole or not at all."""
    from interalign.eval import report as pages

    write_atomically(Path(out), [pages.report_html(found)])


def write_report_table(found: "Report", out: Path | str, *, markdown: bool) -> None:
    """Write the figures as Markdown, or as CSV with a line a figure, whole or not at all."""
    from interalign.eval.tables import report_csv, report_markdown

    write_atomically(Path(out), [report_markdown(found) if markdown else report_csv(found)])


def missed_gates(
    run: Path | str, found: "Report", *, fail_under: Sequence[str] = (), no_worse_than: Path | str | None = None
) -> tuple[str, ...]:
    """One line for every limit that the report of `run` does not keep.

    `fail_under`: `al=X` or `ir=X`, for each candidate; `no_worse_than`: an evaluation than which none may be worse, by
    the paired interval of mean AL. Raises ConfigError for a limit that is none.
    """
    from interalign.eval.gates import missed_limits, worse_than

    missed = tuple(missed_limits(found, fail_under))
    return missed if no_worse_than is None else (*missed, *worse_than(Path(run), Path(no_worse_than)))


def power(run: Path | str, *, delta: float, power: float = 0.8) -> "list[PowerFigures]":
    """How many profiles and cases would show a difference `delta` in mean AL, for every two candidates of `run`."""
    from interalign.eval.gates import scores_in
    from interalign.eval.power import power_figures

    return power_figures(scores_in(Path(run)), delta, power)


def compare(*runs: Path | str) -> "tuple[CandidateComparison, ...]":
    """The candidates of several evaluations of the same cases, in pairs: differences of mean AL, paired by case.

    Raises ConfigError for a file that is no evaluation, and for two that have no case in common.
    """
    from interalign.eval.gates import compared

    return compared([Path(run) for run in runs])


def print_report(found: "Report") -> None:
    """Print the report's tables to standard output."""
    from rich.console import Console

    from interalign.eval import report as pages

    pages.print_report(found, Console())


def view(
    run: Path | str,
    *others: Path | str,
    host: str = "127.0.0.1",
    port: int = 8321,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the pages of a run, beside `others`, until interrupted; `announce` is told the address."""
    from interalign.eval.view import serve

    serve(Path(run), host, port, announce, [Path(other) for other in others])


def view_export(run: Path | str, out: Path | str) -> int:
    """Write the pages of a run as one HTML file; number of trees in it."""
    from interalign.eval.view import export_html

    return export_html(Path(run), Path(out))


def train(
    stage: str,
    *,
    model: str,
    data: Path | str,
    out: Path | str,
    config: "Path | Mapping[str, Any] | None" = None,
    method: Literal["pairs", "tree"] | None = None,
    lora: bool = False,
    drop_too_long: bool = False,
    max_per_persona: int | None = None,
    report_to: Sequence[str] = (),
    judge: str | Sequence[str] = (),
    personas: Path | str | None = None,
    lookahead: int = 0,
    user: str | None = None,
    prompts: Path | str | None = None,
    rubric: Path | str | None = None,
    seed: int | None = None,
    runtime: Runtime | None = None,
    progress: Callable[[int, int, float | None], None] | None = None,
    tell: Callable[[str], None] = lambda line: None,
    **settings: Unpack[RuntimeKeywords],
) -> "TrainResult":
    """Fine-tune `model` on exported rows with TRL and save it in the folder `out`; resumes from its checkpoints.

    `stage` is a training method: sft, dpo, kto, rm, grpo, or a plug-in's (`interalign.registries.METHODS`).
    `config` is a YAML file of TRL's own settings, or a mapping of them; `progress` is told after every step: steps
    done, steps in all, the last loss; `tell` gets a line to show before the training begins. `method` says whether the
    pairs of a tree are read together (docs/data-format.md); None: where model and settings allow it. Rows longer than
    the setting `max_length` are refused, or with `drop_too_long` left out and counted. `max_per_persona` trains on
    at most so many rows of one persona. `report_to` (`tensorboard`, `wandb`, ...) is transformers' own: nothing is
    reported anywhere without it.

    grpo samples replies to the states of its rows, and `judge` (several: a panel) scores them; `personas` is the run
    file of the rows, or a file of its personas (default: the run file that the data card names, beside the rows).
    With `lookahead`, so many further turns count for a reply, in which `user` plays the persona. `prompts`, `rubric`,
    `seed` and `settings`, the fields of Runtime, are the judge's and the user's. Their calls are kept in OUT.db.

    Raises ConfigError for settings that cannot work, or if the saved model does not answer as the trained one did, and
    DataError, naming the rows, for data that would be dropped or mislearnt; StopError if the judge stopped.
    """
    file = config if isinstance(config, Path) else None
    refuse_folder(out, inputs=[data, model.removeprefix("hf:"), file])
    _need_training_extra()
    from interalign.training.train import train as train_by

    asked: dict[str, Any] = {
        "judge": (judge,) if isinstance(judge, str) else tuple(judge),
        "personas": personas and str(personas),
        "lookahead": lookahead or None,
        "user": user,
        "prompts": prompts and str(prompts),
        "rubric": rubric and str(rubric),
        "seed": seed,
    }
    given = {name: value for name, value in asked.items() if value not in (None, ())}
    reward = _reward(stage, given, model, Path(data), Path(out), file, settings, runtime)
    return train_by(
        stage, model, Path(data), Path(out),
        packing=method, config=config, lora=lora, drop_too_long=drop_too_long, progress=progress, tell=tell,
        max_per_persona=max_per_persona, report_to=report_to, reward=reward,
    )  # fmt: skip


def _reward(
    stage: str,
    given: Mapping[str, Any],
    model: str,
    data: Path,
    out: Path,
    config: Path | None,
    settings: Mapping[str, Any],
    runtime: Runtime | None,
) -> "JudgedReward | None":
    """The judge of a training that samples replies; ConfigError if it has none, or needs none."""
    from interalign.run.reward_settings import reward_of
    from interalign.store.lease_file import refuse_no_lease_file
    from interalign.training.method import method_called

    if unknown := sorted(settings.keys() - Runtime.model_fields.keys()):
        raise TypeError(f"train() got an unexpected keyword argument {unknown[0]!r}")
    if not method_called(stage).scored:
        if unused := next(iter((*given, *settings)), None):
            option = f"--{unused.replace('_', '-')}"
            raise ConfigError(f"{option}: train {stage} learns from the rows alone and asks no judge; leave it out")
        return None
    if "judge" not in given:
        return None  # which the training refuses
    calls = out.with_name(f"{out.name}.db")
    carried = _carried_out(settings, {}, None, runtime)
    budget = [] if carried.budget is None else [Path(carried.budget)]
    for file in budget:
        refuse_no_lease_file(file)
    read = (data, config, *(given.get(name) for name in ("personas", "prompts", "rubric")))
    refuse_shared([calls, out, *budget], inputs=read)
    return reward_of(build(RewardSettings, given), model, data, calls, carried)


def _need_training_extra() -> None:
    missing = [name for name in ("torch", "transformers", "trl", "peft", "datasets") if not importable(name)]
    if missing:
        raise ConfigError(f"training needs {', '.join(missing)}; pip install 'interalign[train]'")


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


def probe_role(spec: str, *, base_url: Sequence[str] = (), concurrency: int = 8) -> "tuple[SeatFigures, ...]":
    """How a model does in each seat, on fixed personas, talks and pairs; ConfigError if it is no real model."""
    from interalign.run.probe import probe

    return run_async(probe(spec, Runtime(base_url=tuple(base_url) or None, concurrency=concurrency)))


def personas_generate(out: Path | str, *, n: int, heldout: bool, seed: int) -> int:
    """Write `n` personas of the embedded world; number written."""
    refuse_outputs([out])
    personas = load_personas("world", split="heldout" if heldout else "train", n=n, seed=seed)
    return _write_personas(Path(out), personas)


def personas_by_model(
    out: Path | str,
    *,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> "GeneratedPool":
    """Have a model write personas by self-generation and keep those that are different enough; what came of it.

    `settings` are the fields of PersonaSettings, of which `model` must be given. Every call is kept in the run file
    `OUT.db`; the same call again goes on where it stopped, and one for more personas begins with the same. Raises
    ConfigError for settings that cannot work or differ from those it was begun with, StopError when it stopped cleanly.
    """
    from interalign.people.seeds import read_seeds
    from interalign.run.generation import run_generation

    chosen, runtime = _persona_settings(out, settings, runtime)
    seeds = read_seeds(chosen.seeds, chosen.seed)
    found = run_async(run_generation(calls_of_pool(out), chosen, seeds, runtime, progress))
    _write_personas(Path(out), found.personas)
    return found


def personas_estimate(out: Path | str, *, runtime: Runtime | None = None, **settings: Any) -> "Estimate":
    """What `personas_by_model` with the same arguments is expected to take; nothing is asked and nothing is written."""
    from interalign.people.seeds import read_seeds
    from interalign.run.generation_dry_run import estimate_generation

    chosen, runtime = _persona_settings(out, settings, runtime)
    seeds = read_seeds(chosen.seeds, chosen.seed)
    return run_async(estimate_generation(calls_of_pool(out), chosen, seeds, runtime))


def calls_of_pool(out: Path | str) -> Path:
    """The run file beside a generated pool: `people.jsonl.db` beside `people.jsonl`."""
    return Path(out).with_name(Path(out).name + ".db")


def _persona_settings(
    out: Path | str, settings: Mapping[str, Any], runtime: Runtime | None
) -> tuple[PersonaSettings, Runtime]:
    """The settings with the model's bare name; how it is reached or run goes into the runtime."""
    chosen = build(PersonaSettings, settings)
    if is_stream(Path(out)):
        raise ConfigError(f"{out} is no file, and the model's calls are kept in a run file beside it; name a file")
    refuse_outputs([out], inputs=[chosen.seeds])
    spec = ModelSpec.parse(chosen.model)
    runtime = (runtime or Runtime()).model_copy(update=as_runtime([spec]))
    return chosen.model_copy(update={"model": spec.known_as}), runtime


def personas_import(
    file: Path | str,
    out: Path | str,
    *,
    format: str = "auto",  # noqa: A002  (the option's name)
    columns: Sequence[str] = (),
    personalities: Path | str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
) -> "Imported":
    """Read personas in any format of `registries.PERSONA_FORMATS` and write them in ours; what became of the rows.

    `columns` such as `profile=COLUMN` read the columns of a table; `personalities` is `people` or a file from which
    one is drawn for each persona that has none. Raises DataError that names the bad rows, unless `skip_bad`.
    """
    from interalign.people.importing import import_personas

    pool = None if personalities is None else str(personalities)
    refuse_outputs([out], inputs=[file, None if pool == "people" else pool])
    found = import_personas(Path(file), format=format, columns=columns, pool=pool, seed=seed, skip_bad=skip_bad)
    _write_personas(Path(out), found.personas)
    return found


def personas_filter(
    file: Path | str,
    out: Path | str,
    *,
    threshold: float = 0.6,
    embedding: str = "tfidf",
    add_to: Path | str | None = None,
) -> "Diversity":
    """Write the personas of `file` without near-repeats of a profile; what was kept, and by which measure.

    With `add_to` they are written behind the personas of that pool, and only they are compared: with the pool and with
    each other.
    """
    from interalign.diversity import diverse

    refuse_outputs([out], inputs=[file, None if add_to in ("people", "aloe") else add_to])
    found = diverse(_pool(file), threshold, embedding, () if add_to is None else _pool(add_to))
    _write_personas(Path(out), found.kept)
    return found


def personas_split(
    file: Path | str,
    train_out: Path | str,
    heldout_out: Path | str,
    *,
    share: float,
    seed: int,
    max_similarity: float | None = None,
    embedding: str = "tfidf",
) -> "SplitPool":
    """Hold out about `share` of the profiles, each by a hash of `seed` and its facts; who is on which side.

    A profile stays on its side when others are added. With `max_similarity` training personas whose profile is closer
    to a held-out one are left out, and counted.
    """
    from interalign.people.split import split_pool

    refuse_outputs([train_out, heldout_out], inputs=[file])
    found = split_pool(_pool(file), share, seed, max_similarity, embedding)
    _write_personas(Path(train_out), found.train)
    _write_personas(Path(heldout_out), found.heldout)
    return found


def personas_stats(file: Path | str, *, threshold: float = 0.6, embedding: str = "tfidf") -> dict[str, Any]:
    """Sizes of a persona pool and how different its profiles are; `people` is the shipped one, `aloe` its cases."""
    from interalign.people.stats import pool_stats

    return pool_stats(str(file), _pool(file), threshold, embedding)


def _pool(file: Path | str) -> Sequence[Persona]:
    """The personas of a file, or those that ship."""
    return load_personas(str(file), split="heldout" if str(file) == "aloe" else "train", n=0, seed=0)


def _write_personas(out: Path, personas: Sequence[Persona]) -> int:
    write_atomically(out, dump_personas(personas))
    return len(personas)


def graph(name: str) -> str:
    """Mermaid text of the state machine `turn`, `tree` or `personas`."""
    from interalign.graphs.drawing import mermaid

    return mermaid(name)


def _chosen(
    kind: type[R], config: Path | str | None, settings: Mapping[str, Any], runtime: Runtime | None
) -> tuple[R, Runtime]:
    """The settings and the runtime of a run: what the caller says, else what the YAML file says, else the defaults."""
    file = Path(config) if config else None
    in_file = read_settings(file) if file else {}
    given = {name: value for name, value in {**in_file, **settings}.items() if name not in Runtime.model_fields}
    chosen = build(kind, given, file, in_file.keys() - settings.keys())
    carried = _carried_out(settings, in_file, file, runtime)
    if carried.budget is not None:
        refuse_shared([Path(carried.budget)], inputs=[file, chosen.prompts, chosen.rubric])
    return with_addresses(chosen, carried)


def _carried_out(
    settings: Mapping[str, Any], in_file: Mapping[str, Any], config: Path | None, runtime: Runtime | None
) -> Runtime:
    """How a run is carried out, by what is set in `runtime`, else by the caller's settings, else by those of the file.

    Of each server the file and the caller may say something.
    """
    said = {} if runtime is None else {name: getattr(runtime, name) for name in runtime.model_fields_set}
    fields = {name: value for name, value in {**in_file, **settings, **said}.items() if name in Runtime.model_fields}
    from_file = in_file.keys() - settings.keys() - said.keys()
    if "prices" in fields:
        fields["prices"] = _prices(fields["prices"], f"{config}: prices" if "prices" in from_file else "prices")
    for table in (each["servers"] for each in (settings, in_file) if "servers" in each):
        if table is not fields["servers"]:
            known = build(Runtime, {"servers": table}, config, from_file).servers
            fields["servers"] = merged_servers(known, build(Runtime, {"servers": fields["servers"]}).servers)
    return build(Runtime, fields, config, from_file)


def _prices(given: Any, where: str) -> Any:
    """A price table, or the file that holds it, as pairs."""
    if isinstance(given, str | Path):
        return read_prices(Path(given))
    return price_table(given, where) if isinstance(given, Mapping) else given


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
