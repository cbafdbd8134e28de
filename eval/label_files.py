"""Labels as a file, JSON lines or CSV: out of a run file for other tools, and in from people's work elsewhere."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import JsonValue

from interalign.errors import DataError
from interalign.files import write_atomically
from interalign.people.table import Bad, read_table
from interalign.records import Label, LabelQuestion
from interalign.store import Store
from interalign.tree import JudgedTree, Tree

COLUMNS: Final = ("question", "tree", "a", "b", "turn", "probability", "who", "answer", "first", "at")
_NAMED: Final = 20
"""Bad rows that are named; of more, how many."""


class ImportedLabels(NamedTuple):
    """What became of a file."""

    labels: int
    new: int
    """Those that the run file did not have."""


def export_labels(store: Store, out: Path) -> int:
    """Write all labels, then the planned questions that nobody answered (`answer` null), and return how many labels.

    CSV if `out` ends in `.csv`, else JSON lines. `answer` is A, B or tie with A the reply `first`, or 1 to 5.
    """
    labels = store.labels()
    questions = {one.key: one for one in store.label_questions()}
    answered = {label.key for label in labels}
    rows = [_row(store, label.key, questions.get(label.key), label) for label in labels]
    rows += [_row(store, key, question, None) for key, question in questions.items() if key not in answered]
    write_atomically(out, _as_csv(rows) if out.suffix.lower() == ".csv" else (f"{json.dumps(row)}\n" for row in rows))
    return len(labels)


def _row(
    store: Store, key: tuple[str, str, str | None], question: LabelQuestion | None, label: Label | None
) -> dict[str, JsonValue]:
    tree, a, b = key
    judged = store.judged_tree(tree)
    return {
        "question": LabelQuestion(tree=tree, a=a, b=b).id,
        "tree": tree,
        "a": a,
        "b": b,
        "turn": None if judged is None else judged.tree.node(a).turn,
        "probability": None if question is None else question.probability,
        "who": None if label is None else label.who,
        "answer": None if label is None else label.choice,
        "first": None if label is None else label.first,
        "at": None if label is None else label.at,
    }


def _as_csv(rows: Sequence[Mapping[str, JsonValue]]) -> Iterator[str]:
    page = io.StringIO()
    writer = csv.DictWriter(page, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    yield page.getvalue()


def import_labels(
    store: Store, path: Path, *, who: str | None = None, instructions: str | None = None
) -> ImportedLabels:
    """Add the labels of a file (JSON lines, JSON, CSV, Parquet), all or none.

    A row names its question by `question`, or by `tree` with `a` and `b` (`node` or `a` alone for a score), and has an
    `answer`: A, B or tie, where A is the reply `first` (by default `a`), or 1 to 5. `who` is for rows that do not say.
    Rows without an answer are planned questions that nobody answered: they are passed over.

    Raises DataError that names all bad rows by line: a question that the run does not have, an answer that is none, two
    answers of one person to one question.
    """
    found: dict[tuple[Any, ...], Label] = {}
    bad: list[str] = []
    trees: dict[str, JudgedTree | None] = {}
    for row in read_table(path):
        try:
            if isinstance(row.value, Bad):
                raise ValueError(row.value.reason)
            if not isinstance(row.value, Mapping):
                raise ValueError("expected an object with question, who and answer")
            if _blank(row.value.get("answer")):
                continue
            label = _label(store, trees, row.value, who, instructions)
            key = (*label.key, label.who)
            if key in found and found[key].answer != label.answer:
                raise ValueError(f"{label.who} answered this question otherwise above")
            found[key] = label
        except ValueError as error:
            bad.append(f"{row.where}: {error}")
    if bad:
        more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise DataError(f"{path}: {len(bad)} bad rows, nothing was imported: {'; '.join(bad[:_NAMED])}{more}")
    if not found:
        raise DataError(f"{path}: no label in it; each row has a question, who answered and the answer")
    there = {(*label.key, label.who): label for label in store.labels()}
    store.add_labels(list(found.values()))
    return ImportedLabels(len(found), sum(key not in there for key in found))


def _label(
    store: Store, trees: dict[str, JudgedTree | None], row: Mapping[str, Any], who: str | None, instructions: str | None
) -> Label:
    tree_id, a, b = _asked(row)
    first = a if _blank(row.get("first")) else str(row["first"])
    if tree_id not in trees:
        trees[tree_id] = store.judged_tree(tree_id)
    judged = trees[tree_id]
    if judged is None:
        raise ValueError(f"the run has no tree {tree_id!r}")
    question = _question(judged.tree, a, b)
    name = who if _blank(row.get("who")) else str(row["who"])
    if name is None or _blank(name):
        raise ValueError("does not say who answered; add a column `who`, or --name NAME for all")
    if first not in (question.a, question.b):
        raise ValueError(f"`first` is {first!r}, which is not one of the replies asked about")
    return Label(
        tree=tree_id,
        a=question.a,
        b=question.b,
        who=name,
        answer=_answer(str(row["answer"]).strip(), question, first),
        first=first,
        at=str(row["at"]) if not _blank(row.get("at")) else now(),
        instructions=instructions,
    )


def _asked(row: Mapping[str, Any]) -> tuple[str, str, str | None]:
    if not _blank(row.get("question")):
        tree, _, replies = str(row["question"]).rpartition(":")
        a, _, b = replies.partition("|")
        return tree, a, b or None
    node = row.get("node") if _blank(row.get("a")) else row["a"]
    if _blank(row.get("tree")) or _blank(node):
        raise ValueError("does not say what was asked: give `question`, or `tree` with `a` and `b`")
    return str(row["tree"]), str(node), None if _blank(row.get("b")) else str(row["b"])


def _question(tree: Tree, a: str, b: str | None) -> LabelQuestion:
    """The question in stored order of the replies; ValueError if they are not replies, or not siblings."""
    nodes = {node.id: node for node in tree.nodes if node.role == "assistant"}
    for node in (a, b):
        if node is not None and node not in nodes:
            raise ValueError(f"tree {tree.id!r} has no reply {node!r}")
    if b is None:
        return LabelQuestion(tree=tree.id, a=a, b=None)
    if a == b or nodes[a].parent != nodes[b].parent:
        raise ValueError(f"{a!r} and {b!r} are not two replies to one message")
    order = list(nodes)
    first, second = sorted((a, b), key=order.index)
    return LabelQuestion(tree=tree.id, a=first, b=second)


def _answer(said: str, question: LabelQuestion, first: str) -> str:
    """The answer as it is stored; ValueError for one that is none."""
    if question.b is None:
        value = said.removesuffix(".0")
        if value not in ("1", "2", "3", "4", "5"):
            raise ValueError(f"answer {said!r} is no score; write 1 to 5")
        return value
    choice = said.casefold()
    if choice not in ("a", "b", "tie"):
        raise ValueError(f"answer {said!r} is no choice; write A, B or tie")
    return choice if choice == "tie" or first == question.a else {"a": "b", "b": "a"}[choice]


def stored_answer(key: str, question: LabelQuestion, first: str) -> str:
    """What a key (1, 2, 0 of a pair; 1 to 5 of a score) means; ValueError for any other key."""
    return _answer({"1": "A", "2": "B", "0": "tie"}.get(key, key) if question.b else key, question, first)


def now() -> str:
    """The time as it is stored with a label."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
