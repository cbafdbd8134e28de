"""The command line: parse, call one library function, report. Data to standard output, messages to standard error."""

import signal
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interalign.cli.audit import audit
from interalign.cli.exit_codes import Debug, say_short
from interalign.cli.exit_codes import errors_as_exit_codes as _errors_as_exit_codes
from interalign.cli.exit_codes import say as _say
from interalign.cli.export import export
from interalign.cli.imports import import_
from interalign.cli.labels import labels_app
from interalign.cli.live_display import one_line
from interalign.cli.merge import merge
from interalign.cli.options import Run, as_settings, known_in, with_options
from interalign.cli.personas import personas_app
from interalign.cli.processes import in_processes, without
from interalign.cli.progress import json_line, names_failed, shown, shown_training, view_command
from interalign.cli.report import compare, power, report
from interalign.cli.rounds import rounds
from interalign.cli.steps import shown_step
from interalign.cli.trace import trace
from interalign.cli.trust import calibrate, fidelity
from interalign.config import EngineSettings, EvaluationSettings, RewardSettings, Runtime, SimulationSettings
from interalign.errors import ConfigError
from interalign.files import refuse_outputs
from interalign.registries import METHODS
from interalign.signals import OWN_PROCESS, end_process
from interalign.version import __version__

if TYPE_CHECKING:
    from interalign.records import RunSummary

app = typer.Typer(
    name="interalign",
    help="Teach a chat model to find out, while it talks, what this user likes, and to act on it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
roles_app = typer.Typer(no_args_is_help=True, help="See and check the roles that can take a seat.")
app.command()(rounds)
app.command()(report)
app.command()(compare)
app.command()(power)
app.add_typer(personas_app, name="personas")
app.add_typer(labels_app, name="labels")
app.add_typer(roles_app, name="roles")
app.command()(merge)
app.command()(audit)
app.command("import")(import_)
app.command()(calibrate)
app.command()(fidelity)
app.command()(trace)


class Method(StrEnum):
    """How preference data is packed for training."""

    pairs = "pairs"
    tree = "tree"


Config = Annotated[Path | None, typer.Option(help="YAML file with the same settings as these options.")]
Fork = Annotated[Path | None, typer.Option(help="Leave the run file alone and go on in this copy of it.")]
PricesFile = Annotated[
    Path | None, typer.Option("--prices", metavar="FILE.yaml", help="What each model costs, USD per million tokens.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what to expect: calls, tokens, money, time, disk. Nothing is asked.")
]
LogJson = Annotated[bool, typer.Option("--log-json", help="Progress and messages as JSON lines, for machines.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"interalign {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
@with_options(SimulationSettings, Runtime)
def simulate(
    run: Run,
    config: Config = None,
    fork: Fork = None,
    dry_run: DryRun = False,
    log_json: LogJson = False,
    debug: Debug = False,
    **options: Any,
) -> None:
    """Grow conversation trees and keep them in RUN.db. The same command again goes on where it stopped."""
    from interalign import api

    with _errors_as_exit_codes(debug, log_json):
        settings = as_settings(options, SimulationSettings, Runtime)
        if dry_run:
            typer.echo(api.estimate("simulation", run, config=config, fork=fork, **settings))
            return
        with shown("trees", log_json=log_json, run=fork or run) as progress:
            summary = api.simulate(run, config=config, fork=fork, progress=progress, **settings)
    _end(summary, log_json)


@app.command()
@with_options(EvaluationSettings, Runtime)
def evaluate(
    run: Run,
    config: Config = None,
    fork: Fork = None,
    dry_run: DryRun = False,
    log_json: LogJson = False,
    debug: Debug = False,
    **options: Any,
) -> None:
    """Measure candidates by the ALOE evaluation: every candidate meets every case, a judge scores every reply."""
    from interalign import api

    with _errors_as_exit_codes(debug, log_json):
        settings = as_settings(options, EvaluationSettings, Runtime)
        if dry_run:
            typer.echo(api.estimate("evaluation", run, config=config, fork=fork, **settings))
            return
        if note := api.about_cases(config=config, cases=settings.get("cases")):
            _say(json_line("note", message=note) if log_json else note)
        with shown("conversations", log_json=log_json, run=fork or run) as progress:
            summary = api.evaluate(run, config=config, fork=fork, progress=progress, **settings)
    _end(summary, log_json)


@app.command()
@with_options(EngineSettings, Runtime)
def judge(
    run: Run,
    judge: Annotated[str, typer.Option(metavar="MODEL", help="Who judges.")],
    controls: Annotated[
        int, typer.Option(metavar="N", min=0, help="Score the replies of N cases once more, for another persona.")
    ] = 0,
    log_json: LogJson = False,
    debug: Debug = False,
    **options: Any,
) -> None:
    """Judge the stored trees of RUN.db again; what other judges said stays beside it."""
    from interalign import api

    with _errors_as_exit_codes(debug, log_json), shown("trees", log_json=log_json) as progress:
        settings = as_settings(options, EngineSettings, Runtime)
        summary = api.judge(run, judge=judge, controls=controls, progress=progress, **settings)
    _end(summary, log_json)


app.command()(export)


@app.command()
@with_options(RewardSettings, Runtime)
def train(
    stage: Annotated[
        str, typer.Argument(metavar="|".join(METHODS.built_in), help="How to train.", callback=known_in(METHODS))
    ],
    model: Annotated[str, typer.Option(metavar="FOLDER|ID", help="The model to start from.")],
    data: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="What `export` wrote.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the trained model goes.")],
    config: Annotated[Path | None, typer.Option(help="YAML file with TRL's own settings.")] = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="How preference pairs are read: one by one, or tree by tree. [default: tree, where model and settings "
            "allow it]",
            show_default=False,
        ),
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train a LoRA adapter instead of all weights.")] = False,
    drop_too_long: Annotated[
        bool, typer.Option("--drop-too-long", help="Leave rows out that are longer than max_length, and say how many.")
    ] = False,
    max_per_persona: Annotated[
        int | None, typer.Option(min=1, help="Train on at most so many rows of one persona, evenly apart.")
    ] = None,
    report_to: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also report to tensorboard, wandb, ..., as transformers does. Repeatable."),
    ] = None,
    nproc: Annotated[
        int, typer.Option(min=1, help="Processes that share every batch, one GPU each, or all on the CPU.")
    ] = 1,
    debug: Debug = False,
    **options: Any,
) -> None:
    """Train a model with TRL on exported data. grpo samples replies of its own, which a judge scores."""
    from interalign import api
    from interalign.training.processes import rank

    if nproc > 1:
        raise typer.Exit(in_processes([*without(sys.argv[1:], "--nproc")], nproc))
    with _errors_as_exit_codes(debug), shown_training() as progress:
        result = api.train(
            stage, model=model, data=data, out=out, config=config, lora=lora, drop_too_long=drop_too_long,
            method=None if method is None else method.value, max_per_persona=max_per_persona,
            report_to=report_to or (), progress=progress, tell=_say,
            **as_settings(options, RewardSettings, Runtime),
        )  # fmt: skip
    if rank() == 0:
        _say(str(result))


@app.command()
def view(
    run: Run,
    others: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[OTHER.db ...]", help="Runs to show beside it, of the same cases.", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8321,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the pages as one HTML file instead of serving them.")
    ] = None,
    instructions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What labellers are told; kept with the labels. A short one ships."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Look at what was said in RUN.db in a browser, beside other runs if you like. Writes nothing but labels."""
    from interalign import api

    with _errors_as_exit_codes(debug):
        if export is None:
            api.view(run, *(others or ()), host=host, port=port, instructions=instructions, announce=_say)
        elif instructions is not None:
            refuse_outputs([export], inputs=[run, instructions, *(others or ())])
            raise ConfigError(f"--instructions {instructions}: {export} will have no labelling page; leave them out")
        elif others:
            raise ConfigError("--export writes one run file; leave the others out")
        else:
            _say(f"{api.view_export(run, export)} trees written to {export}")


@app.command()
def graph(name: Annotated[str, typer.Argument(help="turn, tree or personas.")] = "turn", debug: Debug = False) -> None:
    """Print the Mermaid text of a state machine."""
    from interalign import api

    with _errors_as_exit_codes(debug):
        typer.echo(api.graph(name))


@roles_app.command("list")
def roles_list(debug: Debug = False) -> None:
    """List what can be named: models of the world, plug-in roles, branching policies, export formats."""
    from interalign import api

    with _errors_as_exit_codes(debug):
        for name, what in api.roles():
            typer.echo(f"{name}\t{what}")


@roles_app.command("check")
def roles_check(
    spec: Annotated[str, typer.Argument(help="A model name, a registered role or module:attribute.")],
    debug: Debug = False,
) -> None:
    """Load a role and say which seats it can take."""
    from interalign import api

    with _errors_as_exit_codes(debug):
        typer.echo(api.check_role(spec))


@roles_app.command("probe")
def roles_probe(
    spec: Annotated[str, typer.Argument(help="A model name, such as openai:NAME or hf:FOLDER.")],
    json: Annotated[bool, typer.Option("--json", help="The figures as JSON on standard output.")] = False,
    base_url: Annotated[list[str] | None, typer.Option(metavar="URL", help="A server for openai:... names.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Model calls in flight.")] = 8,
    prompts: Annotated[Path | None, typer.Option(metavar="DIR", help="Prompts of your own, as for a run.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often user and candidate are asked, with other seeds.")] = 1,
    debug: Debug = False,
) -> None:
    """Try a model in every seat on fixed personas, talks and pairs, and say whether it can play it."""
    from interalign import api
    from interalign.cli.probe import probe_json, probe_lines

    with _errors_as_exit_codes(debug):
        seats = api.probe_role(spec, base_url=base_url or (), concurrency=concurrency, prompts=prompts, repeats=repeats)
        typer.echo(probe_json(spec, seats) if json else "\n".join(probe_lines(spec, seats)))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    no_train: Annotated[bool, typer.Option("--no-train", help="Without training: needs no torch.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    debug: Debug = False,
) -> None:
    """Run the whole chain on the embedded world: personas, trees, preference data, SFT, DPO, ALOE evaluation."""
    from interalign import api
    from interalign.cli.demo import Demo

    with _errors_as_exit_codes(debug):
        chain = Demo(out, train=not no_train, seed=seed)
        steps = list(chain.steps())
        for number, step in enumerate(steps, start=1):
            with shown_step(f"{number}/{len(steps)} {step.title}") as advance:
                _say(f"    {step.run(advance)}")
        api.print_report(api.report(out / "eval.db"))
        _say(_NEXT.format(out=out))


_NEXT = """
Next:
  interalign view {out}/run.db                                   look at the trees
  interalign report {out}/eval.db --json                         the figures, for machines
  interalign simulate my.db --candidate openai:NAME --base-url URL   your own model in the world"""


def _end(summary: "RunSummary", log_json: bool) -> None:
    """The last lines of a run, and exit code 1 if a tree failed."""
    if log_json:
        _say(
            json_line(
                "end", trees=summary.trees, done=summary.done, failed=len(summary.failed), calls=summary.calls,
                shortfalls=summary.shortfalls and summary.shortfalls.model_dump(), view=view_command(summary.run),
            )
        )  # fmt: skip
    else:
        _say_all(summary)
    if summary.failed:
        raise typer.Exit(1)


def _say_all(summary: "RunSummary") -> None:
    counts = f"{summary.done} of {summary.trees} trees done in {summary.run}"
    view = f"; `{view_command(summary.run)}` shows them" if summary.calls else ""
    _say(f"{counts}; {summary.calls} calls made, {summary.replayed} answered from the ledger{view}")
    if summary.usd is not None:
        costs = ", ".join(
            f"{role} {'not counted' if used.usd is None else f'${used.usd:.4f}'}"
            for role, used in summary.usage.items()
        )
        _say(f"${summary.usd:.4f} spent on all calls in the file ({costs})")
    say_short(str(summary.shortfalls or ""))
    for warning in summary.shortfalls.warnings if summary.shortfalls else ():
        say_short(f"warning: {warning}")
    if summary.failed:
        for line in list(_reasons(summary, named=names_failed()))[:10]:
            _say(line)
        _say(f"{len(summary.failed)} trees failed; run the same command again to retry just these")


def _reasons(summary: "RunSummary", *, named: bool) -> Iterator[str]:
    """One line a reason, with the trees that failed for it; where each tree was `named`, only what several share."""
    for reason, trees in summary.reasons.items():
        if len(trees) > 1:
            some = ", ".join([*trees[:3], *(["..."] if len(trees) > 3 else [])])
            yield f"failed: {len(trees)} trees: {one_line(reason)} ({one_line(some)})"
        elif not named:
            yield one_line(f"failed: {trees[0]}: {reason}")


# Typer brings Click along under a name of its own since 0.26, and shows only its subclasses.
_UsageError: Any = typer.BadParameter.__base__


def main() -> None:
    """Entry point of the `interalign` command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a KeyboardInterrupt, as Ctrl-C is
    sys.path.append(str(Path.cwd()))  # so that a plug-in, module:attribute, may lie in the folder one works in
    OWN_PROCESS.set(True)
    try:
        end_process(app(standalone_mode=False))
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            command = error.ctx.command_path if error.ctx else "interalign"
            message = f"{error.format_message()} (see {command} --help)"
            in_json = "--log-json" in sys.argv
            _say(json_line("error", message=message, exit=2) if in_json else one_line(f"interalign: {message}"))
        sys.exit(error.exit_code)
    except typer.Abort:
        _say("interalign: aborted")
        sys.exit(3)
