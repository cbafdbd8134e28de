"""What a run file says of its run, its personas and its trees."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from interalign.errors import ConfigError
from interalign.personas import Persona
from interalign.records import (
    RunPart,
    RunRecord,
    TreeRecord,
    TreeStatus,
    Usage,
    by_role,
)
from interalign.store import calls
from interalign.store import run_file as runfile
from interalign.store.branches import find_branches
from interalign.store.settings_diff import changed_settings
from interalign.store.texts import decode_json, decode_text, encode_text
from interalign.store.tree_list import (
    HintWin,
    TreeFigures,
    TreeFilter,
    TurnScore,
    candidate_names,
    case_means,
    find_trees,
    hint_wins,
    last_turns,
    note_names,
    read_figures,
    turn_scores,
)

__all__ = ["TreeReader"]

_PAGE = 256
"""Rows in memory at once, of what may be millions."""

_TREE = 'id, position, persona, seed, candidate, "case", status, reason, attempts'


class TreeReader:
    """A run file as something to read: the run, its personas, its trees. Needs no lock, and others may write."""

    def __init__(self, path: Path, reader: sqlite3.Connection) -> None:
        self.path = path
        self._reader = reader
        self._reader_lock = threading.Lock()

    @property
    def run(self) -> RunRecord | None:
        """The run's record; None before `begin_run`."""
        row = self._one("SELECT name, kind, identity, created, version FROM runs")
        if row is None:
            return None
        name, kind, identity, created, version = row
        return RunRecord(
            name=decode_text(name), kind=kind, identity=decode_json(identity), created=created, version=version
        )

    @property
    def part(self) -> RunPart | None:
        """Which part of a run the file holds; None for a run that was never sharded."""
        row = self._one("SELECT number, of, trees FROM shard")
        return None if row is None else RunPart(*row)

    def usage(self) -> dict[str, Usage]:
        """Calls and tokens by role, over all calls in the file."""
        return by_role(self.usage_by_model())

    def usage_by_model(self) -> dict[tuple[str, str], Usage]:
        """Calls and tokens by role and the model that was asked, over all calls in the file."""
        with self._reading() as db:
            return calls.usage(db)

    def size_bytes(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def differences(self, identity: Mapping[str, JsonValue]) -> list[str]:
        """Settings of this file's run that this identity has otherwise, `NAME THIS -> THAT` each."""
        run = self.run
        return [] if run is None else changed_settings(run.identity, identity)

    def find_persona(self, persona_id: str) -> Persona | None:
        """The persona with this id; None if there is none, as of an imported conversation."""
        row = self._one("SELECT persona FROM personas WHERE id = ?", encode_text(persona_id))
        return None if row is None else Persona.model_validate(decode_json(row[0]))

    def persona(self, persona_id: str) -> Persona:
        """The persona with this id; KeyError if there is none."""
        found = self.find_persona(persona_id)
        if found is None:
            raise KeyError(persona_id)
        return found

    def personas(self) -> dict[str, Persona]:
        """All personas by id, in the order they were added."""
        rows = self._rows("SELECT id, persona FROM personas ORDER BY number")
        return {persona_id: Persona.model_validate(decode_json(stored)) for persona_id, stored in rows}

    def branches(self) -> dict[str, str]:
        """Tree -> the message at which it was branched off another tree, of those that were."""
        with self._reading() as db:
            return find_branches(db)

    def trees(self, status: str | None = None, *, first: int = 0, most: int = -1) -> list[TreeRecord]:
        """Planned trees by index: those with this status (None: all) from place `first` on, at `most` (-1: all)."""
        wanted = "WHERE ? IS NULL OR status = ? ORDER BY position, number LIMIT ? OFFSET ?"
        rows = self._rows(f"SELECT {_TREE} FROM trees {wanted}", status, status, most, first)
        return [_tree_record(row) for row in rows]

    def tree_record(self, tree: str) -> TreeRecord | None:
        """The tree with this id; None if it was never planned."""
        row = self._one(f"SELECT {_TREE} FROM trees WHERE id = ?", encode_text(tree))
        return None if row is None else _tree_record(row)

    def beside(self, tree: str) -> tuple[TreeRecord | None, TreeRecord | None]:
        """The trees planned before and after this one."""
        at = "(SELECT position, number FROM trees WHERE id = ?)"
        before = f"(position, number) < {at} ORDER BY position DESC, number DESC LIMIT 1"
        after = f"(position, number) > {at} ORDER BY position, number LIMIT 1"
        found = (self._one(f"SELECT {_TREE} FROM trees WHERE {one}", encode_text(tree)) for one in (before, after))
        first, last = (None if row is None else _tree_record(row) for row in found)
        return first, last

    def last_tree(self) -> TreeRecord | None:
        """The tree planned last."""
        row = self._one(f"SELECT {_TREE} FROM trees ORDER BY position DESC, number DESC LIMIT 1")
        return None if row is None else _tree_record(row)

    def trees_of_case(self, case: str) -> list[TreeRecord]:
        """The trees of one case of an evaluation, by index: one a candidate."""
        found = self._rows(f'SELECT {_TREE} FROM trees WHERE "case" = ? ORDER BY position, number', encode_text(case))
        return [_tree_record(row) for row in found]

    def walk_trees(self, *statuses: TreeStatus) -> Iterator[TreeRecord]:
        """The trees with one of these statuses, by index, a page of them in memory; they may change meanwhile."""
        page = (
            f"SELECT {_TREE}, number FROM trees WHERE status IN ({', '.join('?' * len(statuses))}) "
            f"AND (position, number) > (?, ?) ORDER BY position, number LIMIT {_PAGE}"
        )
        after = (-(2**63), 0)
        while rows := self._rows(page, *statuses, *after):
            yield from (_tree_record(row[:-1]) for row in rows)
            after = (rows[-1][1], rows[-1][-1])

    def count_trees(self) -> dict[TreeStatus, int]:
        """How many trees have which status."""
        return dict(self._rows("SELECT status, count(*) FROM trees GROUP BY status"))

    def find_trees(
        self, asked: TreeFilter, judge: str | None, *, first: int, most: int
    ) -> tuple[list[tuple[int, TreeRecord]], int]:
        """One page of the trees that `asked` lets through, with their numbers for `figures_of`; and how many there are.

        `judge`: whose scores and verdicts the conditions and the order go by.
        """
        with self._reading() as db:
            rows, total = find_trees(db, f"number, {_TREE}", asked, judge, first=first, most=most)
        return [(row[0], _tree_record(row[1:])) for row in rows], total

    def figures_of(self, numbers: Sequence[int], judge: str | None) -> dict[int, TreeFigures]:
        """Tree number -> what it holds and what this judge, no panel, said about it; of trees that have a node."""
        with self._reading() as db:
            return read_figures(db, numbers, judge)

    def note_names(self) -> list[str]:
        """Names of all annotations in the run but the inducer's notes, in alphabetical order."""
        with self._reading() as db:
            return note_names(db)

    def candidate_names(self) -> list[str]:
        """The candidates of an evaluation, as planned."""
        with self._reading() as db:
            return candidate_names(db)

    def turn_scores(self, judge: str, status: str | None = None) -> list[TurnScore]:
        """Every speaker's scores by this judge, no panel, turn by turn, of trees with this status (None: any)."""
        with self._reading() as db:
            return turn_scores(db, judge, status)

    def hint_wins(self, judge: str) -> list[HintWin]:
        """How replies with the inducer's notes did beside those without, as this judge, no panel, saw it."""
        with self._reading() as db:
            return hint_wins(db, judge)

    def case_means(self, judge: str | None) -> dict[str, dict[str, float]]:
        """Case, or tree of no case, -> candidate (empty: none) -> mean score by this judge, no panel."""
        with self._reading() as db:
            return case_means(db, judge)

    def last_turns(self, ended: str | None) -> dict[str, int]:
        """Tree -> its last turn, of the trees that the user ended with an annotation of this name (None: of all)."""
        with self._reading() as db:
            return last_turns(db, ended)

    def reasons(self, most: int = 20) -> list[tuple[str, int]]:
        """Why trees failed and how many for each reason, the most frequent reasons first, at `most` so many."""
        found = self._rows(
            "SELECT ifnull(reason, ''), count(*) FROM trees WHERE status = 'failed' "
            "GROUP BY reason ORDER BY count(*) DESC, min(position) LIMIT ?",
            most,
        )
        return [(decode_text(reason), count) for reason, count in found]

    def failed_for(self, reason: str, most: int) -> list[str]:
        """Ids of the first trees that failed for just this reason, at `most` so many."""
        found = self._rows(
            "SELECT id FROM trees WHERE status = 'failed' AND ifnull(reason, '') = ? ORDER BY position, number LIMIT ?",
            encode_text(reason),
            most,
        )
        return [tree for (tree,) in found]

    def refuse_import(self, command: str) -> None:
        """ConfigError if the file holds conversations that were recorded elsewhere."""
        run = self.run
        if run is not None and run.kind == "import":
            raise ConfigError(f"{self.path} holds imported conversations, and {command}; `interalign view` shows them")

    def refuse_personas(self, command: str) -> None:
        """ConfigError if the file holds the calls that wrote a persona pool: there are no conversations in it."""
        run = self.run
        if run is not None and run.kind == "personas":
            raise ConfigError(
                f"{self.path} holds the calls that wrote a persona pool, and {command} needs conversations; "
                "`interalign view` shows the calls, `interalign personas stats` measures the pool"
            )

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection that reads, for SQL that stands elsewhere in this package."""
        return self._reading()

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        with self._reading() as db:
            return db.execute(statement, values).fetchall()

    def _one(self, statement: str, *values: Any) -> Any | None:
        with self._reading() as db:
            return db.execute(statement, values).fetchone()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """The reading connection, one thread at a time: threads that share it would share its read transaction."""
        with self._reader_lock, runfile.sqlite_errors(self.path):
            yield self._reader


def _tree_record(row: Sequence[Any]) -> TreeRecord:
    tree, index, persona, seed, candidate, case, status, reason, attempts = row
    return TreeRecord(
        id=tree,
        index=index,
        persona=persona,
        seed=seed,
        candidate=candidate,
        case=case,
        status=status,
        reason=None if reason is None else decode_text(reason),
        attempts=attempts,
    )
