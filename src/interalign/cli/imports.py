"""`interalign import`: conversations that were recorded elsewhere, into a run file."""

from pathlib import Path
from typing import Annotated

import typer

from interalign.cli.exit_codes import ROWS_NAMED, Debug, errors_as_exit_codes, say
from interalign.cli.live_display import one_line
from interalign.registries import CONVERSATION_FORMATS


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Conversations, in a format that --format lists.")],
    run: Annotated[Path, typer.Argument(metavar="RUN.db", help="The run file to make.", show_default=False)],
    format: Annotated[  # noqa: A002
        str, typer.Option(metavar="|".join(["auto", *CONVERSATION_FORMATS.built_in]), help="How FILE is written.")
    ] = "auto",
    personas: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="Personas by the ids that rows name, so that judges know them."),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out, and name them.")] = False,
    debug: Debug = False,
) -> None:
    """Bring recorded conversations into RUN.db, as trees to view, judge, report and export."""
    from interalign import api

    with errors_as_exit_codes(debug):
        found, written = api.import_conversations(file, run, format=format, personas=personas, skip_bad=skip_bad)
    said = f"{run}: {found}" if written else f"{run} holds this import already; nothing was changed"
    say(one_line(said, ROWS_NAMED))
