"""`interalign calibrate` and `fidelity`: how far a judge and a simulated user can be trusted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interalign.cli.exit_codes import Debug, errors_as_exit_codes, say
from interalign.files import refuse_outputs

if TYPE_CHECKING:
    from interalign.eval.calibration import Calibration, Figure


def calibrate(
    run: Annotated[Path, typer.Argument(metavar="RUN.db", help="The run file.", show_default=False)],
    against: Annotated[
        str, typer.Option("--against", metavar="truth|labels|JUDGE", help="What the judge is compared with.")
    ],
    judge: Annotated[str | None, typer.Option("--judge", help="The judge; the newest by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="The figures as one HTML file.")] = None,
    debug: Debug = False,
) -> None:
    """Compare a judge's stored answers with the truth (world personas), people's labels or another judge."""
    from interalign import api

    with errors_as_exit_codes(debug):
        refuse_outputs([html], inputs=[run])
        found = api.calibrate(run, against=against, judge=judge)
        if html:
            api.write_calibration_html(found, html)
            say(f"calibration written to {html}")
    if as_json or not html:
        typer.echo(json.dumps(api.calibration_json(found), indent=2) if as_json else "\n".join(_lines(found)))


def fidelity(
    run: Annotated[Path, typer.Argument(metavar="RUN.db", help="The run file.", show_default=False)],
    real: Annotated[Path, typer.Option(metavar="IMPORTED.db", help="A run file with conversations of real people.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Compare the simulated user's messages with those of real people: length, questions, manner, a classifier."""
    from interalign import api
    from interalign.eval.fidelity import as_json as to_json
    from interalign.eval.fidelity import fidelity_lines

    with errors_as_exit_codes(debug):
        found = api.fidelity(run, real=real)
    typer.echo(json.dumps(to_json(found), indent=2) if as_json else "\n".join(fidelity_lines(found)))


def _lines(found: "Calibration") -> Iterator[str]:
    yield f"judge {found.judge} against {found.against}, {found.profiles:,} profiles"
    for sentence in found.verdict or ("no warning",):
        yield f"  {sentence}"
    for name, figure in found.figures.items():
        yield f"  {name:18}{_value(figure)}"
        rates = ", ".join(f"{who} {share:.0%}" for who, share in found.base_rates.get(name, {}).items())
        if rates:
            yield f"    base rates: {rates}"
    if found.people is not None:
        who = ", ".join(f"{name} {count:,}" for name, count in found.people.labels.items())
        yield f"  labels: {who}; of every two people accuracy {_value(found.people.accuracy)}"
        yield f"  {'kappa of people':18}{_value(found.people.kappa)}"
    yield f"  {'missing':18}{found.missing:,}"
    yield f"  {'pairs':18}{found.pairs:,}"


def _value(figure: "Figure") -> str:
    if figure.value is None:
        return f"- (n {figure.n:,})"
    interval = f" [{figure.ci[0]:.2f}, {figure.ci[1]:.2f}]" if figure.ci else " [no interval: too few profiles]"
    return f"{figure.value:.2f}{interval} (n {figure.n:,})"
