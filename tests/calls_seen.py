"""What is on record about the calls of a run: who was asked what, and what came back."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import interalign as ia


class Seen(NamedTuple):
    """One call of the ledger."""

    tree: str
    node: str
    role: str
    sample: int
    messages: list[ia.Message]
    reply: str
    key: str

    @property
    def last(self) -> str:
        """The text of the last message that was sent."""
        return self.messages[-1].content


def calls_of(path: Path | str, role: str | None = None) -> list[Seen]:
    """The calls of a run in the order they were committed, all of them or those of one role."""
    # `immutable` is left out on purpose: after a kill the newest calls are still in the write-ahead log.
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db, ia.open_run(path) as run:
        rows = db.execute("SELECT tree, node, role, sample, lower(hex(key)) FROM calls ORDER BY id").fetchall()
        return [
            Seen(*place, run.prompt_of(key), run.reply_of(key).text, key)
            for *place, key in rows
            if role in (None, place[2])
        ]


def trees_of(path: Path | str) -> list[ia.JudgedTree]:
    """The finished trees of a run."""
    with ia.open_run(path) as run:
        return list(run.judged_trees())
