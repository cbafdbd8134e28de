"""`interalign labels`: people's own judgements, planned, asked for and exchanged."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interalign.cli.exit_codes import Debug, errors_as_exit_codes, say
from interalign.errors import ConfigError

if TYPE_CHECKING:
    from interalign.records import Label, LabelQuestion
    from interalign.store import Store
    from interalign.tree import JudgedTree

labels_app = typer.Typer(no_args_is_help=True)
Instructions = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What labellers are told; kept with the labels. A short one ships.")
]


@labels_app.callback()
def labels(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN.db", help="The run file.", show_default=False)],
) -> None:
    """People's labels of a run: which reply suits the user better, or how well one does."""
    context.obj = run


@labels_app.command()
def plan(
    context: typer.Context,
    n: Annotated[int, typer.Option("--n", help="Questions to draw.")],
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    debug: Debug = False,
) -> None:
    """Draw questions with known probabilities, spread over profiles and candidates, more where the judge is unsure."""
    from interalign import api

    run = context.obj
    with errors_as_exit_codes(debug):
        questions = api.plan_labels(run, n=n, seed=seed)
    pairs = sum(question.b is not None for question in questions)
    what = f"{pairs} pairs of replies" if pairs else f"{len(questions)} single replies"
    say(f"{len(questions)} questions planned ({what}); `interalign labels {run} ask` puts them to you")


@labels_app.command()
def ask(
    context: typer.Context,
    name: Annotated[str, typer.Option(metavar="WHO", help="Who answers.")] = "me",
    instructions: Instructions = None,
    debug: Debug = False,
) -> None:
    """Put the planned questions to you, one after the other: keys only, every answer is kept at once."""
    from interalign.eval.labelling import shipped_instructions
    from interalign.files import read_text
    from interalign.store import Store

    run = context.obj
    with errors_as_exit_codes(debug):
        told = shipped_instructions() if instructions is None else read_text(instructions)
        with Store.open(run) as stored:
            stored.refuse_personas("labels ask")
        with Store.create_or_open(run) as store:
            answered = _asked(store, name, told, _keys())
    say(f"{answered} {'answer' if answered == 1 else 'answers'} of {name} kept in {run}")


@labels_app.command("import")
def import_labels(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines or CSV.", show_default=False)],
    name: Annotated[str | None, typer.Option(metavar="WHO", help="Who answered, for rows that do not say.")] = None,
    instructions: Instructions = None,
    debug: Debug = False,
) -> None:
    """Add the labels of a file, all or none; rows that cannot be read are named."""
    from interalign import api

    run = context.obj
    with errors_as_exit_codes(debug):
        found = api.import_labels(run, file, who=name, instructions=instructions)
    say(f"{found.labels} labels imported into {run}, {found.new} of them new")


@labels_app.command("export")
def export_labels(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="FILE.jsonl|FILE.csv", help="File to write.", show_default=False)],
    debug: Debug = False,
) -> None:
    """Write all labels, and the planned questions that nobody answered yet."""
    from interalign import api

    run = context.obj
    with errors_as_exit_codes(debug):
        written = api.export_labels(run, out)
    say(f"{written} labels written to {out}")


def _keys() -> Iterator[str]:
    """Keys as they are pressed; where standard input is no terminal, its characters. Ends where it ends."""
    while True:
        key = typer.getchar() if sys.stdin.isatty() else sys.stdin.read(1)
        if not key:
            return
        if not key.isspace():
            yield key.lower()


def _asked(store: "Store", who: str, told: str, keys: Iterator[str]) -> int:
    """Ask what `who` has not answered yet until there is nothing left, or `q`; how many answers were kept."""
    from interalign.eval.labelling import label_of

    questions = store.label_questions()
    if not questions:
        raise ConfigError(f"{store.path}: no question is planned; `interalign labels {store.path} plan --n 50` does it")
    done = {label.key for label in store.labels() if label.who == who}
    open_questions = [question for question in questions if question.key not in done]
    typer.echo(
        f"{told.rstrip()}\n\nKeys: 1 or 2 for the better reply, 0 for a tie; 1 to 5 for a score; u undo, q stop."
    )
    kept: list[Label] = []
    place = 0
    while place < len(open_questions):
        question = open_questions[place]
        _show(store, question, who, f"{len(done) + place + 1} of {len(questions)}")
        key = _answer_key(keys, question, can_undo=bool(kept))
        if key == "q":
            break
        if key == "u":
            store.remove_label(kept.pop())
            place -= 1
            continue
        label = label_of(question, who, key, told)
        store.add_labels([label])
        kept.append(label)
        place += 1
    return len(kept)


def _answer_key(keys: Iterator[str], question: "LabelQuestion", *, can_undo: bool) -> str:
    from interalign.eval.labelling import answers_to

    allowed = {*answers_to(question), "q", *("u" if can_undo else "")}
    for key in keys:
        if key in allowed:
            return key
        typer.echo(f"  {key!r} is no answer here; press one of {' '.join(sorted(allowed))}")
    return "q"


def _show(store: "Store", question: "LabelQuestion", who: str, progress: str) -> None:
    judged = store.judged_tree(question.tree)
    assert judged is not None
    for line in _lines(store, judged, question, who, progress):
        typer.echo(line)


def _lines(store: "Store", judged: "JudgedTree", question: "LabelQuestion", who: str, progress: str) -> Iterator[str]:
    """The persona, the conversation up to the message answered, and the replies, without the names of candidates."""
    from interalign.eval.labelling import order_shown
    from interalign.eval.safe_text import shown

    yield f"\n--- {progress}"
    persona = store.personas().get(judged.tree.persona)
    if persona is not None:
        yield from (f"  {shown(fact)}" for fact in persona.profile)
        yield f"  {shown(persona.personality)}"
    asked = judged.tree.node(question.a).parent
    for message in judged.tree.transcript(str(asked)):
        yield f"\n{message.role.capitalize()}: {shown(message.content)}"
    for number, node in enumerate(order_shown(question, who), start=1):
        title = f"Reply {number}" if question.b else "The reply"
        yield f"\n[{title}] {shown(judged.tree.node(node).text)}"
    yield "\nWhich suits this user better? 1, 2 or 0: " if question.b else "\nHow well does it suit this user? 1 to 5: "
