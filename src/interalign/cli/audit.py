"""`interalign audit`: how far the simulated user can be trusted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interalign.cli.exit_codes import Debug, errors_as_exit_codes, say
from interalign.cli.options import as_settings, with_options
from interalign.cli.progress import shown
from interalign.config import EngineSettings, Runtime

if TYPE_CHECKING:
    from interalign.eval.audit import Audit
    from interalign.eval.rates import Rate


@with_options(EngineSettings, Runtime)
def audit(
    run: Annotated[Path, typer.Argument(metavar="RUN.db", help="The run file.", show_default=False)],
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Who reads every user message, too; rules alone by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Progress as JSON lines.")] = False,
    debug: Debug = False,
    **options: Any,
) -> None:
    """Audit the simulated user of RUN.db: every user message beside the persona, findings stored with their words."""
    from interalign import api

    with errors_as_exit_codes(debug, log_json), shown("conversations", log_json=log_json) as progress:
        found = api.audit(run, judge=judge, progress=progress, **as_settings(options, EngineSettings, Runtime))
    typer.echo(json.dumps(api.audit_json(found), indent=2) if as_json else "\n".join(_lines(found)))
    if found.unread:
        say(f"{found.unread:,} answers of {judge} could not be read; it audited all other messages")
    for tree, reason in found.failed.items():
        say(f"{tree}: {reason}")
    if found.failed:
        raise typer.Exit(1)


def _lines(found: "Audit") -> Iterator[str]:
    yield (
        f"{found.messages:,} user messages in {found.conversations:,} conversations of {found.profiles:,} profiles, "
        f"audited by {' and '.join(found.by) or 'nobody'}"
    )
    for kind, rate in found.findings.items():
        yield f"  {kind:40}{_rate(rate)}"
    yield f"  {'any of these':40}{_rate(found.any)}"
    for located in found.examples:
        evidence = " ".join(located.finding.evidence.split())
        yield f"    {located.finding.kind}: {located.tree} turn {located.finding.turn}: {evidence[:80]!r}"
    told = [f"{share:.2f}" if share is not None else "-" for share in found.disclosure.by_turn]
    yield f"  share of the profile told by turn: {' '.join(told)}"
    yield f"  {'told in the first turn':40}{_rate(found.disclosure.at_once)}"
    yield f"  {'told right after a question':40}{_rate(found.disclosure.asked)}"
    yield f"  {'low scores that follow a finding':40}{_rate(found.low_scores)}"
    yield f"  {'all scores that follow a finding':40}{_rate(found.all_scores)}"
    for one in found.candidates:
        without = "-" if one.mean_without is None else f"{one.mean_without:.2f} (n {one.n_without:,})"
        yield f"  {one.name}: mean score {one.mean:.2f} (n {one.n:,}), without the affected turns {without}"
    for user, of_user in found.by_user.items():
        rates = {**{kind: rate for kind, rate in of_user.findings.items() if rate.hits}, "any": of_user.any}
        told = [f"{share:.2f}" if share is not None else "-" for share in of_user.disclosure.by_turn]
        yield f"user {user}: {of_user.messages:,} messages; share of the profile told by turn: {' '.join(told)}"
        yield from (f"  {kind:40}{_rate(rate)}" for kind, rate in rates.items())


def _rate(rate: "Rate") -> str:
    if rate.share is None:
        return "- (n 0)"
    interval = f" [{rate.ci[0]:.1%}, {rate.ci[1]:.1%}]" if rate.ci else " [no interval: one profile]"
    return f"{rate.share:.1%}{interval} ({rate.hits:,} of {rate.n:,})"
