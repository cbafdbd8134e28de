"""`interalign trace`: a recorded run as OpenTelemetry spans, sent to where traces are looked at."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interalign.cli.exit_codes import Debug, errors_as_exit_codes, say
from interalign.cli.live_display import one_line
from interalign.cli.steps import shown_step

if TYPE_CHECKING:
    from interalign.api.tracing import Traced


def trace(
    run: Annotated[Path, typer.Argument(metavar="RUN.db", help="The run file.", show_default=False)],
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Base address of an OTLP/HTTP receiver. [default: OTEL_EXPORTER_OTLP_ENDPOINT, else port 4318 here]",
            show_default=False,
        ),
    ] = None,
    tree: Annotated[list[str] | None, typer.Option(metavar="ID", help="Send this tree only. Repeatable.")] = None,
    debug: Debug = False,
) -> None:
    """Send the recorded calls of RUN.db to an OTLP receiver such as Phoenix or Langfuse: run, tree, turn, call."""
    from interalign import api

    with errors_as_exit_codes(debug):
        with shown_step(f"sending the calls of {run}") if sys.stderr.isatty() else nullcontext(_silent) as advance:
            traced = api.trace(run, endpoint=endpoint, trees=tree or (), progress=advance)
        say(one_line(_told(traced)))


def _silent(share: float) -> None:
    """Shows nothing."""


def _told(traced: "Traced") -> str:
    left = {"still growing": traced.growing, "without any call that has a time": traced.untimed}
    out = [f"{count:,} {'tree' if count == 1 else 'trees'} {why}" for why, count in left.items() if count]
    out += [f"{traced.refused:,} spans by the receiver"] if traced.refused else []
    said = f"{traced.spans:,} spans of {traced.trees:,} {'tree' if traced.trees == 1 else 'trees'} sent to {traced.url}"
    return said + (f"; left out: {', '.join(out)}" if out else "")
