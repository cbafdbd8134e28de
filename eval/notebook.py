"""A report as a notebook shows it: one piece of HTML without scripts, style sheets or anything loaded."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from interalign.eval.report import chance, ends, headline, number, signed, signed_ends, summary
from interalign.eval.results import Report
from interalign.visible_text import shown


class NotebookReport(Report):
    """A report that a notebook shows as a page."""

    @classmethod
    def of(cls, report: Report) -> "NotebookReport":
        """The same report."""
        return cls.model_construct(**dict(report))

    def _repr_html_(self) -> str:
        """The figures, as a notebook shows them."""
        return notebook_html(self)


def notebook_html(report: Report) -> str:
    """Headline, what was measured, candidates and differences with intervals, and what has to be known of them."""
    body = Markup("<h4>{}</h4><p>{}</p>").format(shown(headline(report)), shown(summary(report)))
    if report.candidates:
        body += _table(("candidate", "mean AL", "AL(1) to last", "IR", "cases", "missing"), _levels(report))
    if report.comparisons:
        body += _table(("a - b, paired by case", "delta AL", "p (Holm)", "cases"), _differences(report))
    notes = Markup("").join(Markup("<li>{}</li>").format(shown(note)) for note in report.notes)
    return str(Markup('<div style="max-width:60em">{}<ul>{}</ul></div>').format(body, notes))


def _levels(report: Report) -> Iterator[Sequence[str]]:
    for each in report.candidates:
        known = [level for level in each.al if level is not None]
        course = f"{number(known[0])} to {number(known[-1])}" if known else "-"
        level, slope = (
            f"{number(each.al_mean)} {ends(each.al_ci)}",
            f"{signed(each.ir, 3)} {signed_ends(each.ir_ci, 3)}",
        )
        yield each.name, level, course, slope, str(each.n_cases), str(each.missing)


def _differences(report: Report) -> Iterator[Sequence[str]]:
    for each in report.comparisons:
        delta = f"{signed(each.delta_al)} {signed_ends(each.ci)}"
        yield f"{each.a} - {each.b}", delta, chance(each.p_holm), str(each.n)


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> Markup:
    titles = Markup("").join(Markup('<th style="text-align:left">{}</th>').format(title) for title in head)
    lines = (
        Markup("").join(Markup('<td style="text-align:left">{}</td>').format(shown(cell)) for cell in row)
        for row in rows
    )
    body = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in lines)
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(titles, body)
