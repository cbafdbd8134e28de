"""`interalign report` and `compare`: what came out, for people, for programs, and as a gate of a build."""

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from interalign.cli.exit_codes import Debug, errors_as_exit_codes, say
from interalign.cli.options import PanelWeights
from interalign.errors import ConfigError


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN.db", help="The run file.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="The figures as JSON on standard output.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="The figures as one HTML file.")] = None,
    md: Annotated[Path | None, typer.Option(metavar="FILE.md", help="The figures as Markdown.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="A line a figure, for a spreadsheet.")] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(metavar="al=X|ir=X", help="Exit 1 if a candidate's mean AL or IR is lower. Repeat it for both."),
    ] = None,
    no_worse_than: Annotated[
        Path | None,
        typer.Option(
            metavar="BASE.db", help="Exit 1 if a candidate is worse than in this evaluation, by its interval."
        ),
    ] = None,
    panel_weights: PanelWeights = None,
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="What each model costs, USD per million tokens.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Say what came out: alignment level per turn, improvement rate, intervals, comparisons, the judge."""
    from interalign import api
    from interalign.api.exports import is_weight_file
    from interalign.files import refuse_outputs

    with errors_as_exit_codes(debug):
        weights = panel_weights or []
        refuse_outputs([html, md, csv], inputs=[run, prices, no_worse_than, *filter(is_weight_file, weights)])
        found = api.report(run, prices, panel_weights=weights)
        missed = api.missed_gates(run, found, fail_under=fail_under or (), no_worse_than=no_worse_than)
        if html:
            api.write_report_html(found, html)
        for out, markdown in ((md, True), (csv, False)):
            if out:
                api.write_report_table(found, out, markdown=markdown)
        for out in filter(None, (html, md, csv)):
            say(f"report written to {out}")
        if json:
            typer.echo(api.report_json(found))
        elif not (html or md or csv):
            api.print_report(found)
    for line in missed:
        say(f"gate missed: {line}")
    if missed:
        raise typer.Exit(1)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="A.db B.db ...", help="Evaluations of the same cases.")],
    json: Annotated[bool, typer.Option("--json", help="The differences as JSON on standard output.")] = False,
    swap: Annotated[
        bool, typer.Option("--swap", help="Only whether the ranking stands between the evaluations' users.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Compare the candidates of several evaluations, paired by case; under different users, their rankings too."""
    from interalign import api
    from interalign.eval.simulator_swap import swap_lines
    from interalign.eval.tables import comparison_lines

    with errors_as_exit_codes(debug):
        found = () if swap else api.compare(*runs)
        swaps = api.simulator_swap(*runs) if swap or not json else ()
        if swap and not swaps:
            raise ConfigError("no two candidates were met by two users; evaluate the same cases with another --user")
        if json:
            typer.echo(dumps([each.model_dump() for each in (swaps if swap else found)], indent=2))
            return
        table = comparison_lines(found) if not swap else ()
        for line in (*table, *(line for each in swaps for line in swap_lines(each))):
            typer.echo(line)


def power(
    run: Annotated[Path, typer.Argument(metavar="EVAL.db", help="An evaluation.", show_default=False)],
    delta: Annotated[float, typer.Option(metavar="D", help="The difference in mean AL to be shown.")],
    at: Annotated[float, typer.Option("--power", metavar="P", help="With which probability.")] = 0.8,
    json: Annotated[bool, typer.Option("--json", help="The figures as JSON on standard output.")] = False,
    debug: Debug = False,
) -> None:
    """Say how many cases would show a difference between two candidates, from the scores of an evaluation."""
    from interalign import api
    from interalign.eval.power import as_json, power_lines

    with errors_as_exit_codes(debug):
        found = api.power(run, delta=delta, power=at)
    typer.echo(dumps(as_json(found), indent=2) if json else "\n".join(power_lines(found, at)))
