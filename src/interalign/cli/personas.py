"""`interalign personas`: make, read, compare and divide persona files."""

from pathlib import Path
from typing import Annotated

import typer

from interalign.cli.exit_codes import errors_as_exit_codes, say

personas_app = typer.Typer(no_args_is_help=True, help="Make, read and divide persona files.")

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


@personas_app.command("generate")
def personas_generate(
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="File to write.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many.")] = 100,
    heldout: Annotated[bool, typer.Option("--heldout", help="Of values kept out of all training.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    debug: Debug = False,
) -> None:
    """Write personas of the embedded world."""
    from interalign import api

    with errors_as_exit_codes(debug):
        written = api.personas_generate(out, n=n, heldout=heldout, seed=seed)
    say(f"{written} personas written to {out}")


@personas_app.command("import")
def personas_import(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Personas as JSON lines.")],
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="File to write, every row checked and with an id.")],
    debug: Debug = False,
) -> None:
    """Check a persona file of your own and write it with ids."""
    from interalign import api

    with errors_as_exit_codes(debug):
        written = api.personas_import(file, out)
    say(f"{written} personas written to {out}")


@personas_app.command("filter")
def personas_filter(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Personas as JSON lines.")],
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Where those that are kept go.")],
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Largest cosine to a profile kept before.")] = 0.6,
    debug: Debug = False,
) -> None:
    """Drop personas whose profile nearly repeats one before it, by TF-IDF cosine."""
    from interalign import api

    with errors_as_exit_codes(debug):
        found = api.personas_filter(file, out, threshold=threshold)
    say(f"{found}; {len(found.kept)} personas written to {out}")


@personas_app.command("split")
def personas_split(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Personas as JSON lines.")],
    train: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Where the training personas go.")],
    heldout: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Where the held-out personas go.")],
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of profiles held out.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    debug: Debug = False,
) -> None:
    """Divide personas by profile, so that no held-out profile is in training."""
    from interalign import api

    with errors_as_exit_codes(debug):
        counts = api.personas_split(file, train, heldout, share=share, seed=seed)
    say(f"{counts[0]} personas written to {train}, {counts[1]} to {heldout}")


@personas_app.command("stats")
def personas_stats(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Personas as JSON lines.")], debug: Debug = False
) -> None:
    """Say what is in a persona file."""
    from interalign import api

    with errors_as_exit_codes(debug):
        for name, value in api.personas_stats(file).items():
            typer.echo(f"{name}\t{value}")
