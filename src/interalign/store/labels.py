"""People's labels in the run file, and the questions that were planned for them."""

import sqlite3
from collections.abc import Sequence

from interalign.records import Label, LabelQuestion
from interalign.store.texts import decode_text, encode_text

_NUMBER = "(SELECT number FROM trees WHERE id = ?)"


def read_questions(db: sqlite3.Connection) -> list[LabelQuestion]:
    """The planned questions in their order."""
    rows = db.execute(
        "SELECT trees.id, a, b, probability FROM label_questions JOIN trees ON number = tree ORDER BY place, tree, a, b"
    )
    return [
        LabelQuestion(tree=decode_text(tree), a=a, b=b or None, probability=probability)
        for tree, a, b, probability in rows
    ]


def read_labels(db: sqlite3.Connection) -> list[Label]:
    """All labels."""
    rows = db.execute(
        "SELECT trees.id, a, b, who, answer, first, at, instructions.text FROM labels JOIN trees ON number = tree "
        "LEFT JOIN instructions ON instructions.id = instructions ORDER BY trees.position, trees.number, a, b, who"
    )
    return [
        Label(
            tree=decode_text(tree),
            a=a,
            b=b or None,
            who=decode_text(who),
            answer=answer,
            first=first,
            at=at,
            instructions=None if text is None else decode_text(text),
        )
        for tree, a, b, who, answer, first, at, text in rows
    ]


def write_questions(db: sqlite3.Connection, questions: Sequence[LabelQuestion]) -> None:
    """Replace the plan."""
    db.execute("DELETE FROM label_questions")
    db.executemany(
        f"INSERT INTO label_questions (tree, a, b, place, probability) VALUES ({_NUMBER}, ?, ?, ?, ?)",
        [(encode_text(one.tree), one.a, one.b or "", place, one.probability) for place, one in enumerate(questions)],
    )


def write_labels(db: sqlite3.Connection, labels: Sequence[Label]) -> None:
    """Add or replace labels, by tree, replies and person."""
    for one in labels:
        number = None
        if one.instructions is not None:
            text = encode_text(one.instructions)
            db.execute("INSERT OR IGNORE INTO instructions (text) VALUES (?)", (text,))
            (number,) = db.execute("SELECT id FROM instructions WHERE text = ?", (text,)).fetchone()
        db.execute(
            "INSERT OR REPLACE INTO labels (tree, a, b, who, answer, first, at, instructions) "
            f"VALUES ({_NUMBER}, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(encode_text(one.tree), one.a, one.b or "", encode_text(one.who)),
                *(one.answer, one.first, one.at, number),
            ),
        )


def delete_label(db: sqlite3.Connection, label: Label) -> None:
    """Remove one, if it is there."""
    db.execute(
        f"DELETE FROM labels WHERE tree = {_NUMBER} AND a = ? AND b = ? AND who = ?",
        (encode_text(label.tree), label.a, label.b or "", encode_text(label.who)),
    )
