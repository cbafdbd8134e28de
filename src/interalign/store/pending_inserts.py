"""Batched inserts: rows are collected during a transaction and inserted table by table before its commit."""

import sqlite3
from collections.abc import Sequence
from typing import Any

Row = Sequence[Any]


class PendingInserts:
    """The rows that the open transaction will insert, one `executemany` a statement. Used inside transactions only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: dict[str, list[Row]] = {}
        self._largest: dict[str, int] = {}

    def add(self, statement: str, row: Row) -> None:
        """Have `statement` insert this row before the commit."""
        self._waiting.setdefault(statement, []).append(row)

    def new_id(self, table: str) -> int:
        """An id that no row of the table has: there is one writer, so the largest is looked up once."""
        if table not in self._largest:
            found = self._connection.execute(f"SELECT ifnull(max(id), 0) FROM {table}").fetchone()
            self._largest[table] = found[0]
        self._largest[table] += 1
        return self._largest[table]

    def insert(self) -> None:
        """Insert the pending rows, statement by statement, each in the order in which they came."""
        for statement, rows in self._waiting.items():
            self._connection.executemany(statement, rows)
        self._waiting.clear()

    def forget(self) -> None:
        """Drop the pending rows and the ids given out: the transaction was rolled back."""
        self._waiting.clear()
        self._largest.clear()
