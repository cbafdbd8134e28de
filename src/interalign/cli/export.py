"""`interalign export`: a run as training data, or as the log of another program."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from interalign.cli.exit_codes import Debug, errors_as_exit_codes, say, say_short
from interalign.cli.options import PanelWeights, Run, known_in
from interalign.registries import FORMATS, LOG_FORMATS


class Pairs(StrEnum):
    """Which preference pairs a turn gives."""

    best_worst = "best-worst"
    all = "all"


class AuditMode(StrEnum):
    """What becomes of user messages with a finding."""

    keep = "keep"
    drop = "drop"


Format = Annotated[
    str,
    typer.Option(
        metavar="|".join([*FORMATS.built_in, *LOG_FORMATS.built_in]),
        callback=known_in(FORMATS, LOG_FORMATS),
        help="What the rows are for; inspect: the whole run as a log for Inspect's viewer.",
    ),
]
Out = Annotated[
    Path,
    typer.Option(metavar="FILE.jsonl|FILE.parquet|FILE.eval", help="File to write; a folder with --rows-per-file."),
]
Judge = Annotated[
    str | None,
    typer.Option(
        help="Whose preferences; `panel`: all judges together. [default: panel if the run has several, else the last "
        "with a readable answer]"
    ),
]
MinMargin = Annotated[
    float | None, typer.Option("--min-margin", metavar="X", help="Leave out turns whose clearest pair has less.")
]
MinAgreement = Annotated[
    float | None,
    typer.Option(
        "--min-agreement", metavar="SHARE", help="Leave out turns where fewer of the run's judges agree, 0 to 1."
    ),
]
Audit = Annotated[
    AuditMode, typer.Option(help="`drop` leaves out user messages with a finding of the audit, and what follows them.")
]
KeepLeaks = Annotated[
    bool, typer.Option("--keep-leaks", help="Keep replies that repeat the inducer's note, and what follows them.")
]
KeepCut = Annotated[bool, typer.Option("--keep-cut", help="Learn replies that were cut at their length limit, too.")]
RowsPerFile = Annotated[
    int | None, typer.Option("--rows-per-file", min=1, metavar="N", help="Parquet files of N rows, in a new folder.")
]


def export(
    run: Run,
    format: Format,  # noqa: A002
    out: Out,
    pairs: Annotated[Pairs, typer.Option(help="Which pairs a turn gives.")] = Pairs.best_worst,
    judge: Judge = None,
    min_margin: MinMargin = None,
    min_agreement: MinAgreement = None,
    audit: Audit = AuditMode.keep,
    panel_weights: PanelWeights = None,
    keep_leaks: KeepLeaks = False,
    keep_cut: KeepCut = False,
    rows_per_file: RowsPerFile = None,
    debug: Debug = False,
) -> None:
    """Write the trees of RUN.db as training data, a row a line of JSON, or Parquet."""
    from interalign import api

    with errors_as_exit_codes(debug):
        written = api.export(
            run,
            out,
            format=format,
            pairs=pairs.value,
            judge=judge,
            min_margin=min_margin,
            min_agreement=min_agreement,
            audit=audit.value,
            keep_leaks=keep_leaks,
            keep_cut=keep_cut,
            panel_weights=panel_weights or (),
            rows_per_file=rows_per_file,
        )
    if format in LOG_FORMATS.names():
        say(f"{written} conversations written to {out}, a log for {format}")
        return
    filtered = min_margin is not None or min_agreement is not None or audit is AuditMode.drop
    why = "" if written else api.why_empty(run, format, filtered=filtered)
    say(f"{written} {format} rows written to {out}" if written else f"{out} is empty: {why}")
    for line in api.export_shortfalls(run, judge, format=format):
        say_short(line)
