"""Copying trees from one run file into another, with everything that belongs to them: numbers are given anew."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from interalign.records import AUDITED, FINDING
from interalign.store.calls import texts_of_tree
from interalign.store.judged_trees import snapshot
from interalign.store.pending_inserts import PendingInserts
from interalign.store.texts import decode_json, decode_text, encode_json, tree_prefix
from interalign.tree import SYSTEM

Stored = Any
"""A value as it lies in a column."""


class CopiedTable(NamedTuple):
    """A table with rows of trees: how those of one tree are found, and what makes two rows the same."""

    name: str
    of_tree: str
    """Its rows of the tree `:number`, `:id`, whose calls' keys lie between `:low` and `:high`, in their order."""
    key: tuple[str, ...]
    references: dict[str, str] = {}
    """Columns that hold numbers of rows elsewhere, by what they refer to: a method of `_Batch`."""


_OF_NUMBER: Final = "tree = :number"
_OF_KEYS: Final = "key BETWEEN :low AND :high AND tree = :id ORDER BY id"
COPIED: Final = (
    CopiedTable("trees", "number = :number", ("id",), {"number": "tree"}),
    CopiedTable("nodes", _OF_NUMBER, ("tree", "id"), {"tree": "tree", "text": "text"}),
    CopiedTable(
        "verdicts", _OF_NUMBER, ("tree", "judge", "a", "b"), {"tree": "tree", "judge": "judge", "orders": "orders"}
    ),
    CopiedTable(
        "scores", _OF_NUMBER, ("tree", "judge", "node"), {"tree": "tree", "judge": "judge", "replies": "replies"}
    ),
    CopiedTable(
        "annotations",
        f"{_OF_NUMBER} ORDER BY id",
        ("tree", "node", "name", "by"),
        {"id": "new_annotation", "tree": "tree", "value": "value"},
    ),
    CopiedTable(
        "calls",
        _OF_KEYS,
        ("key",),
        {"id": "new_call", "seat": "seat", "prompt": "prompt", "reply": "text", "server": "server"},
    ),
    CopiedTable("agents", "key IN (SELECT key FROM calls WHERE key BETWEEN :low AND :high AND tree = :id)", ("key",)),
    CopiedTable("label_questions", _OF_NUMBER, ("tree", "a", "b"), {"tree": "tree"}),
    CopiedTable("labels", _OF_NUMBER, ("tree", "a", "b", "who"), {"tree": "tree", "instructions": "instructions"}),
    CopiedTable("failed_calls", "tree = :id", ("tree",), {"prompt": "prompt", "server": "server"}),
)
"""In the order in which they are copied. A column that is not named here is copied as it is."""
REFERRED: Final = ("personas", "texts", "judges", "seats", "servers", "instructions")
"""Tables whose rows come along with those that refer to them."""
DERIVED: Final = ("usage",)
"""Tables that are counted anew."""
OF_THE_FILE: Final = ("runs", "shard", "_sqlite_migrations")
"""Tables that say what the file is."""
_SAID: Final = ("verdicts", "scores", "annotations")
"""Tables in which what is said later of a tree takes the place of what was said before."""


class TreeCopier:
    """Copies trees within one write transaction of the target."""

    def __init__(self, target: sqlite3.Connection) -> None:
        self._target = target
        self._rows = PendingInserts(target)

    def copy(self, source: sqlite3.Connection, tree: str) -> None:
        """Copy a tree that the target does not have."""
        with snapshot(source):
            self._rows_of(source, tree, lambda table, row: False)
        self._insert(tree, 0)

    def copy_for_judges(self, source: sqlite3.Connection, tree: str) -> None:
        """Copy a tree that the target does not have, as somebody is to judge it: nothing of what was said of it.

        Of its calls only judges' own come along, to be replayed. They stay the source's: they are not counted again.
        """
        replayed = set[bytes]()

        def is_left_out(table: CopiedTable, row: dict[str, Stored]) -> bool:
            if table.name == "calls" and row["role"].partition("/")[0] == "judge":
                replayed.add(row["key"])
            return not (
                table.name in ("trees", "nodes")
                or (table.name == "annotations" and row["name"] == SYSTEM)
                or (table.name in ("calls", "agents") and row["key"] in replayed)
            )

        with snapshot(source):
            self._rows_of(source, tree, is_left_out)
        self._rows.insert()

    def renew(self, source: sqlite3.Connection, tree: str) -> None:
        """Copy what is new of a tree that was copied to be judged; what is said anew replaces what was said before."""
        before = self._calls(tree)
        with snapshot(source):
            self._rows_of(source, tree, self._is_kept)
        self._insert(tree, before)

    def add_missing(self, source: sqlite3.Connection, tree: str) -> None:
        """Copy what the source has of a tree that the target has, too: another judge's verdicts, say."""
        before = self._calls(tree)
        with snapshot(source):
            self._rows_of(source, tree, self._has)
        self._insert(tree, before)

    def remove(self, tree: str) -> None:
        """Remove a tree, with everything that belongs to it."""
        place = _place(self._target, tree)
        self._count(tree, -1, 0)
        texts = texts_of_tree(self._target, decode_text(tree))
        self._target.executemany("DELETE FROM texts WHERE id = ?", [(text,) for text in texts])
        for table in sorted(COPIED, key=lambda table: table.name == "calls"):  # by which the agents are found
            where = table.of_tree.partition(" ORDER BY")[0]
            self._target.execute(f"DELETE FROM {table.name} WHERE {where}", place)
        self._target.execute("DELETE FROM usage WHERE calls = 0")

    def _insert(self, tree: str, counted: int) -> None:
        self._rows.insert()
        self._count(tree, 1, counted)

    def _calls(self, tree: str) -> int:
        """The largest number of a call in the target: those of `tree` behind it are new."""
        return int(self._target.execute("SELECT ifnull(max(id), 0) FROM calls").fetchone()[0])

    def _count(self, tree: str, sign: int, after: int) -> None:
        """Add the tree's calls behind this number to `usage`, or take them away."""
        first = tree_prefix(decode_text(tree))
        self._target.execute(
            _COUNT, {"low": first, "high": first + b"\xff" * 11, "id": tree, "sign": sign, "after": after}
        )

    def _has(self, table: CopiedTable, row: dict[str, Stored]) -> bool:
        where = " AND ".join(f"{column} = ?" for column in table.key)
        values = [row[column] for column in table.key]
        return self._target.execute(f"SELECT 1 FROM {table.name} WHERE {where}", values).fetchone() is not None

    def _is_kept(self, table: CopiedTable, row: dict[str, Stored]) -> bool:
        """Whether the target's row stays, in place of this one of a tree that was judged; if not, it is removed."""
        if table.name not in _SAID:
            if table.name == "trees":
                self._target.execute(
                    "UPDATE trees SET attempts = max(attempts, ?) WHERE id = ?", (row["attempts"], row["id"])
                )
            return self._has(table, row)
        where = " AND ".join(f"{column} = ?" for column in table.key)
        self._target.execute(f"DELETE FROM {table.name} WHERE {where}", [row[column] for column in table.key])
        if row.get("name") == AUDITED:  # whoever audits the tree again may find nothing where there was something
            found = (row["tree"], FINDING, row["by"])
            self._target.execute("DELETE FROM annotations WHERE tree = ? AND name = ? AND by = ?", found)
        return False

    def _rows_of(
        self, source: sqlite3.Connection, tree: str, is_there: Callable[[CopiedTable, dict[str, Stored]], bool]
    ) -> None:
        place = _place(source, tree)
        there = self._target.execute("SELECT number FROM trees WHERE id = ?", (tree,)).fetchone()
        number = there[0] if there else self._new_number()
        links = _Links(source, self._target, self._rows, number)
        links.persona(tree)
        for table in COPIED:
            for row in _rows(source, f"SELECT * FROM {table.name} WHERE {table.of_tree}", place):
                keys = {name: row[name] for name in table.references if name in table.key}
                new = {**row, **{name: links.of(table.references[name], value) for name, value in keys.items()}}
                if not is_there(table, new):
                    more = {name: kind for name, kind in table.references.items() if name not in table.key}
                    new.update({name: links.of(kind, row[name]) for name, kind in more.items()})
                    self._rows.add(_insertion(table.name, tuple(new)), tuple(new.values()))

    def _new_number(self) -> int:
        found = self._target.execute("SELECT ifnull(max(number), 0) + 1 FROM trees").fetchone()
        return int(found[0])


_COUNT = """
INSERT INTO usage
SELECT role, seat, :sign * count(*), :sign * sum(prompt_tokens), :sign * sum(completion_tokens), :sign * count(error)
FROM calls WHERE key BETWEEN :low AND :high AND tree = :id AND id > :after GROUP BY role, seat
ON CONFLICT (role, seat) DO UPDATE SET
    calls = calls + excluded.calls,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    bad = bad + excluded.bad
"""


class _Links:
    """From numbers in the source to numbers in the target, for one tree; what is referred to is copied once."""

    def __init__(
        self, source: sqlite3.Connection, target: sqlite3.Connection, rows: PendingInserts, number: int
    ) -> None:
        self._source = source
        self._target = target
        self._pending = rows
        self._number = number
        self.text = cache(self._text)
        self.judge = cache(self._judge)
        self.seat = cache(self._seat)
        self.server = cache(self._server)
        self.instructions = cache(self._instructions)

    def of(self, kind: str, value: Stored) -> Stored:
        """The value for the target of a column that refers to rows elsewhere; NULL refers to none."""
        return None if value is None else getattr(self, kind)(value)

    def persona(self, tree: str) -> None:
        """Copy the persona that the tree is about, unless it is there."""
        row = self._source.execute(
            "SELECT id, persona FROM personas WHERE id = (SELECT persona FROM trees WHERE id = ?)", (tree,)
        ).fetchone()
        if row is not None:
            self._target.execute("INSERT OR IGNORE INTO personas (id, persona) VALUES (?, ?)", row)

    def tree(self, _: int) -> int:
        """The tree's number in the target."""
        return self._number

    def new_call(self, _: int) -> int:
        """A new call's number."""
        return self._pending.new_id("calls")

    def new_annotation(self, _: int) -> int:
        """A new annotation's number."""
        return self._pending.new_id("annotations")

    def value(self, value: Stored) -> Stored:
        """Of an annotation: a number is a text's, anything else JSON."""
        return self.text(value) if isinstance(value, int) else value

    def replies(self, stored: Stored) -> Stored:
        """Numbers of texts, as JSON."""
        return encode_json([self.text(text) for text in decode_json(stored)])

    def orders(self, stored: Stored) -> Stored:
        """Both orders of a verdict, with the numbers of the judge's replies."""
        return encode_json(
            [
                [first, second, [self.text(text) for text in texts], value]
                for first, second, texts, value in decode_json(stored)
            ]
        )

    def prompt(self, stored: str) -> str:
        """Roles and numbers of the texts of a prompt."""
        return re.sub(r"\d+", lambda number: str(self.text(int(number[0]))), stored)

    def _text(self, number: int) -> int:
        """Copies the text, and first the one that it is a delta to."""
        base, body = self._source.execute("SELECT base, body FROM texts WHERE id = ?", (number,)).fetchone()
        on = None if base is None else self.text(base)
        new = self._pending.new_id("texts")
        self._pending.add("INSERT INTO texts VALUES (?, ?, ?)", (new, on, body))
        return new

    def _judge(self, number: int) -> int:
        return self._shared("judges", number)

    def _seat(self, number: int) -> int:
        return self._shared("seats", number)

    def _server(self, number: int) -> int:
        return self._shared("servers", number)

    def _instructions(self, number: int) -> int:
        return self._shared("instructions", number)

    def _shared(self, table: str, number: int) -> int:
        """The row of a table of few, different rows; made if it is not there."""
        (row,) = _rows(self._source, f"SELECT * FROM {table} WHERE id = ?", (number,))
        del row["id"]
        values = tuple(row.values())
        same = " AND ".join(f"{name} = ?" for name in row)
        found = self._target.execute(f"SELECT id FROM {table} WHERE {same}", values).fetchone()
        if found is None:
            return int(self._target.execute(_insertion(table, tuple(row)), values).lastrowid or 0)
        return int(found[0])


def copy_judges(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Judges are listed in the order in which they were first asked: keep the source's."""
    target.executemany(
        "INSERT OR IGNORE INTO judges (name) VALUES (?)", source.execute("SELECT name FROM judges ORDER BY id")
    )


def count_calls(db: sqlite3.Connection, tree: str) -> int:
    """How many calls of this tree are on record."""
    found = db.execute("SELECT count(*) FROM calls WHERE key BETWEEN :low AND :high AND tree = :id", _range(tree))
    return int(found.fetchone()[0])


def _range(tree: str) -> dict[str, Stored]:
    first = tree_prefix(decode_text(tree))
    return {"id": tree, "low": first, "high": first + b"\xff" * 11}


def _place(db: sqlite3.Connection, tree: str) -> dict[str, Stored]:
    """What the rows of a tree are found by."""
    number = db.execute("SELECT number FROM trees WHERE id = ?", (tree,)).fetchone()[0]
    return {**_range(tree), "number": number}


def _rows(db: sqlite3.Connection, select: str, values: Any) -> Iterator[dict[str, Stored]]:
    found = db.execute(select, values)
    names = [column[0] for column in found.description]
    return (dict(zip(names, row, strict=True)) for row in found)


@cache
def _insertion(table: str, columns: Sequence[str]) -> str:
    names = ", ".join(f'"{column}"' for column in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"
