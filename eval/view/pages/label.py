"""Labelling without seeing who replied or what a judge said: the planned questions, one after the other, by keys."""

from collections.abc import Mapping
from pathlib import Path

from interalign.errors import ConfigError
from interalign.eval.view.label_page import keep_answer, label_page, name_of
from interalign.eval.view.page import Labelling, Page, PageRequest
from interalign.eval.view.queries import NotThereError
from interalign.store import Store


def label(store: Store, asked: PageRequest) -> str:
    """The next question of `who`; before that, the form that asks for the name."""
    run = store.run
    if run is not None and run.kind == "personas":
        raise NotThereError("This file holds a persona pool; there are no replies to label in it.")
    problem, who = asked.problem, ""
    try:
        who = name_of(asked.query.get("who", ""))
    except ConfigError as error:
        problem = str(error)
    told = None if asked.labelling is None else asked.labelling.instructions
    return asked.render(
        "label", view=label_page(store, who, told, asked.links), problem=problem, labelling=asked.labelling,
        judged=asked.links.page("/judge", against="labels"), again=asked.links.page("/label"),
    )  # fmt: skip


def keep(path: Path, form: Mapping[str, str], labelling: Labelling) -> Mapping[str, str]:
    """Keep an answer, or take one back; the next question is shown after that."""
    return {"who": keep_answer(path, form, labelling.instructions)}


PAGE = Page("/label", "Label", label, kinds=("simulation", "evaluation", "import"), keep=keep)
