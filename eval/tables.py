"""The figures of a report as Markdown for a page, and as CSV for a spreadsheet."""

import csv
import io
from collections.abc import Iterator, Sequence

from interalign.eval.aspects import AspectFigures
from interalign.eval.report import chance as p_value
from interalign.eval.report import ends as interval
from interalign.eval.report import number, signed, signed_ends, summary
from interalign.eval.results import CandidateComparison, CandidateResult, Report
from interalign.eval.simulator_swap import swap_lines

_COLUMNS = ("candidate", "measure", "turn", "value", "low", "high", "n")


def report_markdown(report: Report) -> str:
    """The report as Markdown: what was measured, the candidates, the comparisons, and what has to be known of them."""
    lines = [summary(report), ""]
    if report.candidates:
        lines += [*_levels(report.candidates), ""]
    if report.comparisons:
        lines += [*comparison_lines(report.comparisons), ""]
    if report.aspects:
        lines += [*_aspects(report.aspects), ""]
    for swap in report.simulator_swap:
        lines += [*(f"- {line.strip()}" for line in swap_lines(swap)), ""]
    return "\n".join([*lines, *(f"- {note}" for note in report.notes)]).rstrip() + "\n"


def _levels(candidates: Sequence[CandidateResult]) -> Iterator[str]:
    yield "| candidate | mean AL | 95 % interval | AL(1) | last AL | IR | 95 % interval | cases | missing |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for each in candidates:
        last = next((level for level in reversed(each.al) if level is not None), None)
        first = each.al[0] if each.al else None
        cells = (
            _cell(each.name), number(each.al_mean), interval(each.al_ci), number(first), number(last),
            signed(each.ir, 3), signed_ends(each.ir_ci, 3), str(each.n_cases), str(each.missing),
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _aspects(aspects: Sequence[AspectFigures]) -> Iterator[str]:
    yield "| candidate | aspect | mean | 95 % interval | n | missing |"
    yield "|---|---|---|---|---|---|"
    for each in aspects:
        cells = (
            _cell(each.candidate), each.aspect, number(each.mean), interval(each.ci), str(each.n), str(each.missing),
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def comparison_lines(comparisons: Sequence[CandidateComparison]) -> Iterator[str]:
    """A Markdown table of differences, paired by case."""
    yield "| a - b, paired by case | delta AL | 95 % interval | p | p (Holm) | cases |"
    yield "|---|---|---|---|---|---|"
    for each in comparisons:
        cells = (
            f"{_cell(each.a)} - {_cell(each.b)}", signed(each.delta_al), signed_ends(each.ci), p_value(each.p),
            p_value(each.p_holm), str(each.n),
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def report_csv(report: Report) -> str:
    """One line a figure: AL of every turn, then mean AL and IR of each candidate, then the differences `a - b`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for each in report.candidates:
        for turn, (level, ends, n) in enumerate(zip(each.al, each.al_k_ci, each.n, strict=True), start=1):
            writer.writerow([each.name, "AL", turn, level, *(ends or (None, None)), n])
        writer.writerow([each.name, "mean AL", None, each.al_mean, *(each.al_ci or (None, None)), each.n_cases])
        writer.writerow([each.name, "IR", None, each.ir, *(each.ir_ci or (None, None)), each.n_cases])
    for one in report.aspects:
        writer.writerow([one.candidate, one.aspect, None, one.mean, *(one.ci or (None, None)), one.n])
    for pair in report.comparisons:
        names = f"{pair.a} - {pair.b}"
        writer.writerow([names, "delta mean AL", None, pair.delta_al, *(pair.ci or (None, None)), pair.n])
    return out.getvalue()
