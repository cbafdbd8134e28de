"""`interalign rounds`: on-policy rounds of simulation and training."""

from pathlib import Path
from typing import Annotated, Any

import typer

from interalign.cli.exit_codes import Debug, errors_as_exit_codes, say
from interalign.cli.options import as_settings, with_options
from interalign.cli.steps import shown_step
from interalign.config import RoundsSettings, Runtime


@with_options(RoundsSettings, Runtime)
def rounds(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for everything the rounds make.")],
    config: Annotated[Path | None, typer.Option(help="YAML file with the same settings as these options.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The figures as JSON on standard output.")] = False,
    debug: Debug = False,
    **options: Any,
) -> None:
    """Simulate with the current model, train it on what the judge preferred, evaluate it on held-out personas, again.

    Ends when the mean alignment level no longer rises. The same command again goes on where it stopped.
    """
    from interalign.rounds import RECORD, Rounds, best, line

    with errors_as_exit_codes(debug):
        chain = Rounds(folder, config=config, **as_settings(options, RoundsSettings, Runtime))
        for step in chain.steps():
            with shown_step(step.title) as advance:
                say(f"    {step.run(advance)}")
        results = chain.results()
        kept = best(results)
        if json:
            typer.echo((folder / RECORD).read_text(encoding="utf-8").rstrip())
        else:
            for result in results:
                typer.echo(f"round {result.number}: {line(result)}")
        say(f"{chain.stopped()}; the best model is {kept.model} (round {kept.number})")
