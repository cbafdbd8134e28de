"""`interalign personas`: make, read, compare and divide persona files."""

from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interalign.cli.exit_codes import Debug, errors_as_exit_codes, say
from interalign.cli.live_display import one_line
from interalign.cli.progress import json_line, shown
from interalign.registries import PERSONA_FORMATS

if TYPE_CHECKING:
    from interalign.config import Runtime

personas_app = typer.Typer(no_args_is_help=True, help="Make, read and divide persona files.")


Pool = Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Personas as JSON lines.")]
Embedding = Annotated[
    str, typer.Option(metavar="tfidf|st:MODEL", help="How profiles are compared; st: needs the extra `embed`.")
]


@personas_app.command("generate")
def personas_generate(
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="File to write.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many.")] = 100,
    model: Annotated[
        str, typer.Option(metavar="MODEL|world", help="Who writes them; `world`: those of the embedded world.")
    ] = "world",
    seeds: Annotated[
        str | None,
        typer.Option(metavar="FILE.jsonl", help="Personas to begin with. [default: 20 + 20 of the shipped pool]"),
    ] = None,
    per_profile: Annotated[int | None, typer.Option(min=1, help="Personalities to each profile. [default: 10]")] = None,
    personalities: Annotated[
        int | None, typer.Option(min=1, help="Different personalities. [default: 7 x --per-profile at most]")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Largest cosine of what is kept to all kept before. [default: 0.6]"),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(metavar="tfidf|st:MODEL", help="How texts are compared; st: needs the extra `embed`."),
    ] = None,
    prompts: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of your own prompts.")] = None,
    heldout: Annotated[bool, typer.Option("--heldout", help="World: of values kept out of all training.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    base_url: Annotated[list[str] | None, typer.Option(help="Server of an openai: model.")] = None,
    server: Annotated[
        list[str] | None, typer.Option(metavar="URL=VARIABLE", help="Where the key of a server is.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, max=4096, help="Calls in flight. [default: 16]")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds for one call in all. [default: 120]")] = None,
    max_usd: Annotated[float | None, typer.Option(min=0, help="Stop before it costs more. Needs --prices.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=0, help="Stop before it takes more tokens.")] = None,
    prices: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="What each model costs.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what to expect. Nothing is asked.")] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Progress and messages as JSON lines.")] = False,
    debug: Debug = False,
) -> None:
    """Have a model write personas by self-generation, or take those of the embedded world.

    A model's calls are kept in OUT.db, and the same command goes on where it stopped.
    """
    from interalign import api
    from interalign.errors import ConfigError
    from interalign.files import refuse_outputs

    given = {
        "seeds": seeds, "per_profile": per_profile, "personalities": personalities, "threshold": threshold,
        "embedding": embedding, "prompts": prompts,
    }  # fmt: skip
    carried = {
        "base_url": base_url, "server": server, "concurrency": concurrency, "deadline": deadline, "max_usd": max_usd,
        "max_tokens": max_tokens, "prices": prices,
    }  # fmt: skip
    settings = {name: value for name, value in given.items() if value is not None}
    with errors_as_exit_codes(debug, log_json):
        if model == "world":
            if useless := next(iter([*settings, *(name for name in carried if carried[name] is not None)]), None):
                raise ConfigError(f"--{useless.replace('_', '-')} is for --model MODEL; the world's are not written")
            written = api.personas_generate(out, n=n, heldout=heldout, seed=seed)
            say(f"{written} personas written to {out}")
            return
        if heldout:
            raise ConfigError("--heldout is for --model world; divide what a model wrote with `personas split`")
        refuse_outputs([out], inputs=[prices, seeds])
        runtime = _runtime(carried)
        settings |= {"model": model, "n": n, "seed": seed}
        if dry_run:
            typer.echo(api.personas_estimate(out, runtime=runtime, **settings))
            return
        with shown("calls", log_json=log_json) as progress:
            found = api.personas_by_model(out, runtime=runtime, progress=progress, **settings)
    said = f"{len(found.personas)} personas written to {out}: {found}; every call and text: interalign view {found.run}"
    say(json_line("done", message=said) if log_json else one_line(said))
    if found.shortfall:
        say(json_line("short", message=found.shortfall) if log_json else one_line(found.shortfall))
        raise typer.Exit(1)


def _runtime(given: Mapping[str, Any]) -> "Runtime":
    from interalign.config import Runtime, build, key_variables
    from interalign.ledger.budget import read_prices

    carried = {name: value for name, value in given.items() if value is not None and name not in ("server", "prices")}
    if given["server"]:
        carried["servers"] = key_variables(given["server"])
    if given["prices"]:
        carried["prices"] = read_prices(given["prices"])
    return build(Runtime, carried)


@personas_app.command("import")
def personas_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Personas as JSON lines, JSON, CSV or Parquet.")],
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="File to write, every row checked and with an id.")],
    format: Annotated[  # noqa: A002
        str, typer.Option(metavar="|".join(["auto", *PERSONA_FORMATS.built_in]), help="How FILE is written.")
    ] = "auto",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="profile=COLUMN,personality=COLUMN",
            help="The columns of a table that are read. Name several for the profile to put them together.",
        ),
    ] = None,
    personalities: Annotated[
        str | None,
        typer.Option(metavar="FILE|people", help="Draw a personality from here for each persona that has none."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of that draw.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out, and name them.")] = False,
    debug: Debug = False,
) -> None:
    """Read personas as others publish them, check every row, and write them with ids."""
    from interalign import api

    with errors_as_exit_codes(debug):
        found = api.personas_import(
            file, out, format=format, columns=columns or (), personalities=personalities, seed=seed, skip_bad=skip_bad
        )
    say(one_line(f"{len(found.personas)} personas written to {out}{found}"))


@personas_app.command("filter")
def personas_filter(
    file: Pool,
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Where those that are kept go.")],
    add_to: Annotated[
        str | None,
        typer.Option(metavar="POOL.jsonl|people", help="A pool that is kept as it is, before those that FILE adds."),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Largest cosine to a profile kept before.")] = 0.6,
    embedding: Embedding = "tfidf",
    debug: Debug = False,
) -> None:
    """Drop personas whose profile nearly repeats one before it, by cosine."""
    from interalign import api

    with errors_as_exit_codes(debug):
        found = api.personas_filter(file, out, threshold=threshold, embedding=embedding, add_to=add_to)
    say(f"{found}; {len(found.kept)} personas written to {out}")


@personas_app.command("split")
def personas_split(
    file: Pool,
    train: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Where the training personas go.")],
    heldout: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Where the held-out personas go.")],
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of profiles held out, about.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    max_similarity: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Leave training profiles out that are closer to a held-out one."),
    ] = None,
    embedding: Embedding = "tfidf",
    debug: Debug = False,
) -> None:
    """Divide personas by profile, so that no held-out profile is in training; a profile stays on its side."""
    from interalign import api

    with errors_as_exit_codes(debug):
        found = api.personas_split(
            file, train, heldout, share=share, seed=seed, max_similarity=max_similarity, embedding=embedding
        )
    left_out = f"; {found.left_out} left out, closer than {max_similarity:g}" if found.left_out else ""
    say(f"{len(found.train)} personas written to {train}, {len(found.heldout)} to {heldout}{left_out}")
    if found.near is not None:
        say(f"cosine of the held-out profiles to the nearest training profile: {found.near}")


@personas_app.command("stats")
def personas_stats(
    file: Annotated[str, typer.Argument(metavar="FILE.jsonl|people|aloe", help="A persona file, or the shipped pool.")],
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Cosine at which profiles are counted.")] = 0.6,
    embedding: Embedding = "tfidf",
    json: Annotated[bool, typer.Option("--json", help="As JSON on standard output.")] = False,
    debug: Debug = False,
) -> None:
    """Say what is in a persona file and how different its profiles are."""
    from interalign import api

    with errors_as_exit_codes(debug):
        found = api.personas_stats(file, threshold=threshold, embedding=embedding)
        if json:
            typer.echo(dumps(found, indent=2))
            return
        for name, value in found.items():
            for each in value if name == "closest pairs" else [value]:
                typer.echo(f"{name}\t{', '.join(map(str, each)) if isinstance(each, list) else each}")
