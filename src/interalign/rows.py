"""Rows on their way into the file: collected while a transaction goes on, inserted together at its end."""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

_MOST = 32
"""Rows that one statement inserts at most; with powers of two up to it there are few statements to prepare."""

Row = Sequence[Any]


class Rows:
    """What the transaction under way will insert. Lives in the writer's thread.

    Each step of SQLite gives up the interpreter and waits for it again, beside an event loop that needs it: for single
    rows that costs more than the insertion. So many rows share one statement.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: dict[str, list[Row]] = {}
        self._largest: dict[str, int] = {}

    def add(self, statement: str, row: Row) -> None:
        """Let `statement` insert this row, too: its `VALUES ROWS` will become the rows that wait for it by then."""
        self._waiting.setdefault(statement, []).append(row)

    def new_id(self, table: str) -> int:
        """An id that no row of the table has: there is one writer, so the largest is looked up once."""
        if table not in self._largest:
            found = self._connection.execute(f"SELECT ifnull(max(id), 0) FROM {table}").fetchone()
            self._largest[table] = found[0]
        self._largest[table] += 1
        return self._largest[table]

    def insert(self) -> None:
        """Insert what waits, table by table, each in the order in which it came."""
        for statement, rows in self._waiting.items():
            for some in _chunks(rows):
                values = [value for row in some for value in row]
                self._connection.execute(_for_rows(statement, len(some), len(some[0])), values)
        self._waiting.clear()

    def forget(self) -> None:
        """Drop what waits and the ids given out: the transaction was rolled back."""
        self._waiting.clear()
        self._largest.clear()


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows in groups of 32, then of 16, 8, 4, 2, 1."""
    start, size = 0, _MOST
    while start < len(rows):
        if len(rows) - start >= size:
            yield rows[start : start + size]
            start += size
        else:
            size //= 2


@cache
def _for_rows(statement: str, count: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return statement.replace("VALUES ROWS", f"VALUES {', '.join([row] * count)}")
