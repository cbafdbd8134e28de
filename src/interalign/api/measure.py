"""What came out of a run, and how far its judge and its simulated user can be trusted."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from interalign.api.resolve import engine_of, run_async, runtime_of
from interalign.config import (
    EngineKeywords,
    Runtime,
    as_runtime,
)
from interalign.errors import ConfigError
from interalign.files import refuse_outputs, write_atomically
from interalign.ledger.budget import Prices, read_prices
from interalign.model_spec import ModelSpec
from interalign.records import Progress

if TYPE_CHECKING:
    from pydantic import JsonValue

    from interalign.eval.audit import Audit
    from interalign.eval.calibration import Calibration
    from interalign.eval.fidelity import Fidelity
    from interalign.eval.notebook import NotebookReport
    from interalign.eval.power import PowerFigures
    from interalign.eval.results import CandidateComparison, Report, SimulatorSwap


def report(run: Path | str, prices: Path | None = None, *, panel_weights: Sequence[str] = ()) -> "NotebookReport":
    """The figures of a run, as documented in docs/report.md; with a price table also what it cost.

    `panel_weights`: `labels`, `truth`, or files of `calibrate --json`, one a judge: the run's panel weighs its members
    by their accuracy there.
    """
    from interalign.eval.notebook import NotebookReport
    from interalign.eval.panel_weights import panel_weights as weights_from
    from interalign.eval.run_report import run_report
    from interalign.store import Store

    with Store.open(Path(run)) as store:
        store.refuse_personas("report")
        if panel_weights:
            if not store.panel():
                raise ConfigError(
                    f"--panel-weights: {run} was begun with one judge, and its report is by the newest one"
                )
            weights = weights_from(store, panel_weights)
            store.panel_weights = {each.judge: each.weight for each in weights}
            return NotebookReport.of(run_report(store, Prices(read_prices(prices) if prices else ()), weights))
        return NotebookReport.of(run_report(store, Prices(read_prices(prices) if prices else ())))


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
    **settings: Unpack[EngineKeywords],
) -> "Audit":
    """Audit the simulated user of `run` by rules, with `judge` also by a model; findings are stored as annotations.

    Returns what all audits of the file found, and what this judge could not audit. `settings` are the fields of
    Runtime, of which what is set in `runtime` wins, and `workers` and `engine`: which processes share the judge's work.
    """
    from interalign.eval.audit import audit_of
    from interalign.run.audit import audit_by_judge, audit_by_rules
    from interalign.store import Store

    unread, failed = 0, dict[str, str]()
    engine = engine_of(settings)
    if judge is not None:
        spec = ModelSpec.parse(judge)
        carried = runtime_of(settings, {}, None, runtime).model_copy(update=as_runtime([spec]))
        summary = run_async(audit_by_judge(Path(run), spec.known_as, carried, progress, engine))
        unread, failed = summary.unread, summary.failed
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


def calibration_json(found: "Calibration") -> dict[str, "JsonValue"]:
    """A calibration as `interalign calibrate --json` prints it."""
    from interalign.eval.calibration import as_json

    return as_json(found)


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


def simulator_swap(*runs: Path | str) -> "tuple[SimulatorSwap, ...]":
    """Whether the ranking of candidates stands under another simulated user, for every two users of the evaluations.

    One evaluation with several users, or several with one each; empty where all have the same. Raises ConfigError as
    `compare` does.
    """
    from interalign.eval.gates import swaps

    return swaps([Path(run) for run in runs])


def print_report(found: "Report") -> None:
    """Print the report's tables to standard output."""
    from rich.console import Console

    from interalign.eval import report as pages

    pages.print_report(found, Console())
