"""People's labels of a run: planned, imported, exported."""

from pathlib import Path
from typing import TYPE_CHECKING

from interalign.errors import ConfigError
from interalign.files import read_text, refuse_outputs

if TYPE_CHECKING:
    from interalign.eval.label_files import ImportedLabels
    from interalign.records import LabelQuestion


def plan_labels(run: Path | str, *, n: int, seed: int = 0) -> "list[LabelQuestion]":
    """Draw `n` questions for people, with known probabilities, and keep them in `run` (docs/labels.md).

    The same n and seed again change nothing. ConfigError where labels of another plan are in the file: their
    probabilities would be lost.
    """
    from interalign.eval.label_plan import plan_questions
    from interalign.store import Store

    with Store.open(Path(run)) as stored:
        stored.refuse_personas("labels plan")
        questions = plan_questions(stored, n, seed)
        planned = stored.label_questions()
        lost = {label.key for label in stored.labels()} & {one.key for one in planned} - {one.key for one in questions}
    if planned == questions:
        return questions
    if planned and lost:
        raise ConfigError(
            f"{run} has a plan of {len(planned)} questions, {len(lost)} of which are answered and would be lost; go on "
            "with it, or export the labels and begin with another copy of the file"
        )
    with Store.create_or_open(Path(run)) as store:
        store.plan_labels(questions)
    return questions


def import_labels(
    run: Path | str, file: Path | str, *, who: str | None = None, instructions: Path | None = None
) -> "ImportedLabels":
    """Add people's labels from a JSON lines or CSV file to `run`, all or none; DataError names all bad rows."""
    from interalign.eval.label_files import import_labels as add
    from interalign.store import Store

    text = None if instructions is None else read_text(instructions)
    with Store.open(Path(run)) as stored:
        stored.refuse_personas("labels import")
    with Store.create_or_open(Path(run)) as store:
        return add(store, Path(file), who=who, instructions=text)


def export_labels(run: Path | str, out: Path | str) -> int:
    """Write the labels of `run` to a file, CSV if its name ends so, else JSON lines; how many labels."""
    from interalign.eval.label_files import export_labels as write
    from interalign.store import Store

    refuse_outputs([out], inputs=[run])
    with Store.open(Path(run)) as store:
        store.refuse_personas("labels export")
        return write(store, Path(out))
