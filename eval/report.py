"""The report for people and for programs: tables on a console, JSON, one HTML file with the curves."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from interalign.eval.calibration import TITLES, Calibration
from interalign.eval.chart import SERIES_COLOURS, Axis, ChartLine, curves_svg
from interalign.eval.intervals import Interval
from interalign.eval.results import CandidateComparison, CandidateResult, Report
from interalign.eval.safe_text import visible
from interalign.eval.simulator_swap import swap_lines
from interalign.eval.tallies import JudgeFigures, SimulatorFigures
from interalign.records import ReplyCounts
from interalign.version import __version__

TURNS_A_ROW = 10
"""AL columns of one table: what fits an 80-column terminal."""
AL_AXIS = Axis("alignment level AL(k)", 1, 5, (1, 2, 3, 4, 5))
WIN_AXIS = Axis("share of pairs the hinted reply wins", 0, 1, (0, 0.25, 0.5, 0.75, 1), line=0.5)
NOTHING = "-"
"""Stands for a figure that is not defined."""


class Whisker(NamedTuple):
    """An interval with its point, drawn beside its numbers: positions in percent of the width, zero at 50."""

    low: float
    point: float
    high: float


def report_json(report: Report) -> str:
    """The report as JSON text in the schema of docs/report.md; never NaN, never a lone surrogate."""
    return json.dumps(_plain(report.as_dict()), ensure_ascii=False, allow_nan=False, indent=2)


def report_html(report: Report) -> str:
    """The report as one self-contained HTML page: no script, nothing loaded from elsewhere, all text escaped.

    The same report gives the same bytes.
    """
    page = _environment().get_template("report.html.jinja")
    return _without_surrogates(
        page.render(
            report=report,
            summary=summary(report),
            headline=headline(report),
            chart=_chart(report),
            whiskers=_whiskers(report.comparisons),
            swap_lines=swap_lines,
            turns=range(1, report.turns + 1),
            colours=SERIES_COLOURS,
            run=json.dumps(_plain(report.run), ensure_ascii=False, indent=2),
        )
    )


def calibration_html(found: Calibration) -> str:
    """A judge's calibration as one self-contained HTML page, as `report_html`."""
    page = _environment().get_template("calibration.html.jinja")
    return _without_surrogates(page.render(found=found, titles=TITLES, version=__version__))


def print_report(report: Report, console: Console) -> None:
    """Print the tables, the judge, the user agent and the notes, in at most 80 columns where names are short."""
    console.print(_text(summary(report), "bold"))
    for table in _tables(report):
        console.print(table)
        console.print()
    for line in (
        *_judge_lines(report),
        *_aspect_lines(report),
        *_control_lines(report),
        *(line for swap in report.simulator_swap for line in swap_lines(swap)),
        *_simulator_lines(report),
        *_note_lines(report),
        *_usage_lines(report),
    ):
        console.print(_text(line))
    for note in report.notes:
        console.print(_text(f"Note: {note}", "yellow"))


def summary(report: Report) -> str:
    """One sentence on what the figures are: how many cases, whose verdict, which intervals."""
    noun = "case" if report.kind == "evaluation" else "tree"
    what = f"{_count(report.n_cases, noun)} of {_count(report.n_profiles, 'profile')}, {_count(report.turns, 'turn')}"
    judge = f"judged by {_judge_named(report.judge)}" if report.judge.name else "not judged"
    draws = f"bootstrap over profiles, {report.bootstrap.resamples:,} draws"
    return f"{report.kind.capitalize()}: {what}, {judge}. {100 * report.bootstrap.level:.0f} % intervals: {draws}."


def headline(report: Report) -> str:
    """What the page is about, in the words of its kind."""
    if report.kind != "evaluation":
        return f"{_count(report.simulator.conversations, 'conversation tree')}, what the judge preferred"
    who = _count(len(report.candidates), "candidate")
    return f"How well {who} came to suit the user over {_count(report.turns, 'turn')}"


def number(value: float | None, digits: int = 2) -> str:
    """The number with this many decimals; `-` for None."""
    return NOTHING if value is None else f"{value:z.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """The number with its sign."""
    return NOTHING if value is None else f"{value:+z.{digits}f}"


def percent(value: float | None) -> str:
    """A share as percent."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


def ends(interval: Interval | None, digits: int = 2) -> str:
    """`[low, high]`; nothing at all for None."""
    return "" if interval is None else f"[{number(interval[0], digits)}, {number(interval[1], digits)}]"


def signed_ends(interval: Interval | None, digits: int = 2) -> str:
    """`[-low, +high]`; nothing at all for None."""
    return "" if interval is None else f"[{signed(interval[0], digits)}, {signed(interval[1], digits)}]"


def chance(p: float | None) -> str:
    """A p value; never `0.000`."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _tables(report: Report) -> Iterator[Table]:
    if report.candidates:
        yield from (_levels_table(report, first) for first in range(0, report.turns, TURNS_A_ROW))
        yield _figures_table(report.candidates)
    if report.comparisons:
        yield _comparisons_table(report.comparisons)


def _levels_table(report: Report, first: int) -> Table:
    turns = range(first, min(first + TURNS_A_ROW, report.turns))
    table = _table("AL(k): mean score of turn k, 1 to 5")
    table.add_column("candidate", overflow="fold")
    for turn in turns:
        table.add_column(f"AL({turn + 1})", justify="right", no_wrap=True)
    for result in report.candidates:
        table.add_row(_text(result.name, "bold"), *(number(result.al[turn]) for turn in turns))
        if any(result.n[turn] < result.n_cases for turn in turns):
            table.add_row(Text("  n", "dim"), *(Text(str(result.n[turn]), "dim") for turn in turns))
    return table


def _figures_table(results: Sequence[CandidateResult]) -> Table:
    table = _table("Over all turns")
    table.add_column("candidate", overflow="fold")
    for heading in ("mean AL", "IR, points a turn", "R2", "N-IR", "n", "miss."):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        table.add_row(
            _text(result.name, "bold"),
            f"{number(result.al_mean)} {ends(result.al_ci)}",
            f"{signed(result.ir, 3)} {signed_ends(result.ir_ci, 3)}",
            number(result.r2),
            signed(result.n_ir, 3),
            str(result.n_cases),
            str(result.missing),
        )
    return table


def _comparisons_table(comparisons: Sequence[CandidateComparison]) -> Table:
    table = _table("Paired by case: AL(a) - AL(b)")
    table.add_column("a - b", overflow="fold")
    for heading in ("delta AL", "p", "p (Holm)", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in comparisons:
        table.add_row(
            _text(f"{pair.a} - {pair.b}"),
            f"{signed(pair.delta_al)} {signed_ends(pair.ci)}",
            chance(pair.p),
            chance(pair.p_holm),
            str(pair.n),
        )
    return table


def _judge_lines(report: Report) -> Iterator[str]:
    if report.judge.name is None:
        yield "Judge: none was asked."
        return
    for judge in (report.judge, *report.judge.members):
        yield from _lines_of(judge)
    if ties := report.judge.ties:
        yield (
            f"The panel has no preference about {ties.ties:,} of {_count(ties.n, 'pair')}: its members are split about "
            f"{ties.split:,}, and too few prefer one reply of {ties.undecided:,}."
        )
    for pair in report.judge.agreement:
        yield f"{pair.a} and {pair.b}: {percent(pair.same)} of {pair.n} answers alike, kappa {number(pair.kappa)}"


def _judge_named(judge: JudgeFigures) -> str:
    """The judge, of a panel each member too."""
    members = ", ".join(str(member.name) for member in judge.members)
    return f"a panel of {members}" if members else str(judge.name)


def _lines_of(judge: JudgeFigures) -> Iterator[str]:
    yield (
        f"Judge {judge.name}: {_count(judge.asked, 'question')}, {judge.missing} without a readable answer, "
        f"{judge.re_asked} asked again."
    )
    if judge.scores:
        spread = ", ".join(f"{value}: {times}" for value, times in enumerate(judge.scores.counts, start=1))
        yield f"  scores given: {spread}"
    if pairs := judge.comparisons:
        yield (
            f"  {_count(pairs.n, 'pair')} in both orders: {percent(pairs.consistency)} agree, "
            f"{percent(pairs.tie_rate)} ties, {pairs.missing} missing; "
            f"the first shown wins {percent(pairs.first_rate)} of {pairs.first_n}"
        )
    if hint := judge.hint:
        yield (
            f"  hinted against unhinted: wins {number(hint.win_rate)} {ends(hint.ci)} of {hint.n} "
            f"({hint.wins} won, {hint.ties} tied, {hint.losses} lost)"
        )


def _aspect_lines(report: Report) -> Iterator[str]:
    for one in report.aspects:
        gone = f", {one.missing:,} missing" if one.missing else ""
        yield f"{one.aspect.capitalize()} of {one.candidate}: {number(one.mean)} {ends(one.ci)} (n {one.n:,}{gone})"


def _control_lines(report: Report) -> Iterator[str]:
    for one in report.controls:
        yield (
            f"Personal fit of {one.candidate}: {number(one.own)} for its own user, {number(one.other)} for another, "
            f"difference {number(one.fit)} {ends(one.ci)} (n {one.n:,})"
        )


def _simulator_lines(report: Report) -> Iterator[str]:
    for user in report.simulator.members or (report.simulator,):
        yield from _lines_of_user(user)


def _lines_of_user(user: SimulatorFigures) -> Iterator[str]:
    yield (
        f"User {user.user or 'agent'}: {_count(user.turns, 'message')} in "
        f"{_count(user.conversations, 'conversation')}, "
        f"{number(user.mean_words, 1)} words on average, {percent(user.repeated)} repeated, "
        f"{percent(user.ended)} say goodbye, {percent(user.as_assistant)} speak as the assistant."
    )
    if user.audited:
        kinds = ", ".join(f"{kind} {percent(found.share)} (n {found.n:,})" for kind, found in user.findings.items())
        yield f"  audited: {_count(user.audited, 'message')}; {kinds or 'nothing found'}"


def _note_lines(report: Report) -> Iterator[str]:
    if notes := report.inducer:
        yield (
            f"Inducer: {_count(notes.notes, 'note')}, {notes.empty} of them empty; "
            f"{notes.leaks} of {notes.hinted:,} hinted replies repeat words of the note."
        )


def _usage_lines(report: Report) -> Iterator[str]:
    for role, used in report.usage.items():
        bad = f", {used.bad:,} refused or empty" if used.bad else ""
        counts = report.replies.get(role, ReplyCounts())
        bad += f", {counts.asked_again:,} asked again" if counts.asked_again else ""
        bad += f", {counts.cut:,} cut at the length limit" if counts.cut else ""
        cost = "" if used.usd is None else f", ${used.usd:,.4f}"
        tokens = f"{used.prompt_tokens:,} tokens in, {used.completion_tokens:,} out"
        yield f"Calls of the {role}: {used.calls:,} ({tokens}{bad}{cost})"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="italic", box=None, pad_edge=False, header_style="dim")


def _chart(report: Report) -> Markup | None:
    """AL curves; for a simulation without scores the hint's win rate by turn; None if there is nothing to draw."""
    lines = [ChartLine(_printable(result.name), result.al, result.al_k_ci) for result in report.candidates]
    axis = AL_AXIS
    if not lines and report.judge.hint:
        hint = report.judge.hint
        lines, axis = [ChartLine("hinted", hint.by_turn, hint.by_turn_ci)], WIN_AXIS
    if not any(value is not None for line in lines for value in line.values):
        return None
    return Markup(curves_svg(lines, axis))  # matplotlib escapes the names


def _whiskers(comparisons: Sequence[CandidateComparison]) -> tuple[Whisker | None, ...]:
    """Where each comparison's interval lies on one scale that all share, symmetrical about zero."""
    widest = max((abs(end) for pair in comparisons if pair.ci for end in (*pair.ci, pair.delta_al or 0)), default=0.0)
    scale = 46 / widest if widest else 0.0
    return tuple(
        Whisker(*(50 + scale * end for end in (pair.ci[0], pair.delta_al or 0.0, pair.ci[1]))) if pair.ci else None
        for pair in comparisons
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("interalign.eval", "templates"),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"number": number, "signed": signed, "percent": percent, "ends": ends, "chance": chance}
    environment.filters.update({**filters, "signed_ends": signed_ends})
    return environment


def _plain(value: Any) -> Any:
    """JSON values only: tuples as lists, what is not a finite number as null, no lone surrogates."""
    if isinstance(value, Mapping):
        return {_without_surrogates(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return _without_surrogates(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_surrogates(text: str) -> str:
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _printable(text: str) -> str:
    """Text that cannot steer a terminal or break XML: control characters and lone surrogates become U+FFFD."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _text(text: str, style: str = "") -> Text:
    """Text for the console as it is: no markup, no terminal codes."""
    return Text(_printable(text), style=style)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
