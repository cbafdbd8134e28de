"""Trees that begin with messages of another one."""

import sqlite3
from typing import Final

from interalign.store.texts import encode_text

BRANCH: Final = "from"
"""Name of the annotation, by BRANCHER, of the message at which a tree was branched off another one."""
BRANCHER: Final = "interalign"


def branch_name(spec: str, number: int | None = None) -> str:
    """The id of a branch off `TREE:NODE`; without a number, how the ids of all its branches begin."""
    return f"{spec}@" if number is None else f"{spec}@{number:05}"


def find_branches(db: sqlite3.Connection) -> dict[str, str]:
    """Tree -> the message at which it was branched off another tree."""
    found = db.execute(
        "SELECT trees.id, node FROM annotations JOIN trees ON tree = number WHERE name = ? AND by = ?",
        (encode_text(BRANCH), encode_text(BRANCHER)),
    )
    return dict(found.fetchall())
