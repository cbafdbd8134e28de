"""One SQLite file (write-ahead log, one writer, many readers) per run: personas, trees, verdicts, calls."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import JsonValue

from interalign.errors import ConfigError
from interalign.personas import Persona
from interalign.records import (
    GROWN,
    Label,
    LabelQuestion,
    RunKind,
    RunPart,
    RunRecord,
    TreeRecord,
)
from interalign.shard import Shard
from interalign.store import calls
from interalign.store import run_file as runfile
from interalign.store.answer_reader import AnswerReader
from interalign.store.calls import CallRow, CallWriter
from interalign.store.group_commit import GroupCommitWriter, Work
from interalign.store.judged_trees import (
    JudgedWriter,
)
from interalign.store.labels import delete_label, write_labels, write_questions
from interalign.store.lock import Lock
from interalign.store.pending_inserts import PendingInserts
from interalign.store.settings_diff import changed_settings, shortened
from interalign.store.texts import TextWriter, encode_json, encode_text
from interalign.tree import Annotation, JudgedTree, Node, Score, Verdict

__all__ = ["Store"]

_PAGE = 256
"""Rows in memory at once, of what may be millions."""


class Store(AnswerReader):
    """A run file. Reading needs no lock and goes on while another process writes."""

    def __init__(
        self, path: Path, reader: sqlite3.Connection, writing: "_Writing | None" = None, *, is_new: bool = False
    ) -> None:
        """Use `create_or_open` or `open`."""
        super().__init__(path, reader)
        self._writing = writing
        self.is_new = is_new
        """There was no file at this path: it was made by opening this store."""

    @classmethod
    def create_or_open(cls, path: Path) -> Self:
        """For writing; made if missing. LockedError if another process has it, ConfigError if it is no run file."""
        path = path.absolute().resolve()
        runfile.refuse_unusable(path)
        lock = Lock(path)
        is_new = not path.exists()  # under the lock: until it was held, another process might have made a run here
        try:
            connection = runfile.open_for_writing(path)
            return cls(path, runfile.open_for_reading(path), _Writing(lock, connection, path), is_new=is_new)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: Path) -> Self:
        """For reading. ConfigError if there is no such file or it is not a run file."""
        path = path.absolute().resolve()
        return cls(path, runfile.open_for_reading(path))

    @staticmethod
    def fork(source: Path, target: Path) -> None:
        """Copy a run to start it with other settings: calls and personas stay, the run record and all trees go.

        ConfigError if the target exists or the source is no run file.
        """
        runfile.copy(source.absolute().resolve(), target.absolute().resolve(), _FORGET_THE_RUN)

    def close(self) -> None:
        """Commit what is queued, checkpoint the write-ahead log, release the lock; a second call does nothing."""
        self._reader.close()
        if self._writing is not None:
            self._writing.close()

    def discard(self) -> None:
        """Close, and remove the file while it is still locked."""
        self._reader.close()
        self._writes.close(lambda: self.path.unlink(missing_ok=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin_run(
        self,
        name: str,
        kind: RunKind,
        identity: Mapping[str, JsonValue],
        version: str,
    ) -> RunRecord:
        """Store what this run is, or return the stored record if it is the same; ConfigError says what changed.

        A prompt that there was not when the run began is no change: nothing on record was made with it.
        """
        stored = self.run
        if stored is None:
            created = datetime.now(UTC).isoformat(timespec="seconds")
            row = (encode_text(name), kind, encode_json(dict(identity)), created, version)
            self._write(lambda db: db.execute("INSERT INTO runs VALUES (1, ?, ?, ?, ?, ?)", row))
            stored = self.run
            assert stored is not None
            return stored
        if stored.kind != kind:
            raise ConfigError(f"{self.path} holds {_a(stored.kind)}; give the {kind} a file of its own")
        self._refuse_changes(stored.identity, identity)
        return stored

    def begin_branches(self, name: str, identity: Mapping[str, JsonValue], version: str) -> None:
        """As `begin_run` for a simulation; an import keeps what it is, and has these settings beside it from now on.

        ConfigError for any other run, whose trees are all of its plan.
        """
        stored = self.run
        if stored is None or stored.kind == "simulation":
            self.begin_run(name, "simulation", identity, version)
        elif stored.kind != "import":
            raise ConfigError(f"{self.path} holds {_a(stored.kind)}; branch it in a copy with --fork OTHER.db")
        elif (known := stored.grown_with) is not None:
            self._refuse_changes(known, identity)
        else:
            row = (encode_json({**stored.identity, GROWN: dict(identity)}),)
            self._write(lambda db: db.execute("UPDATE runs SET identity = ?", row))

    def _refuse_changes(self, stored: Mapping[str, JsonValue], asked: Mapping[str, JsonValue]) -> None:
        if changes := changed_settings(stored, json.loads(json.dumps(asked))):
            raise ConfigError(
                f"{self.path} was started with other settings (changed: {shortened(changes)}); "
                "restore them, or start a copy with --fork OTHER.db"
            )

    def refuse_other_part(self, shard: Shard | None) -> None:
        """ConfigError if the file holds another part of its run than this shard, or than the whole run."""
        part = self.part
        if part is None and shard is not None and self.count_trees():
            raise ConfigError(f"{self.path} holds a whole run; give --shard {shard} a file of its own")
        if part is not None and part.shard != shard:
            raise ConfigError(f"{self.path} {_held(part)}; {_wanted(part, shard)}")

    def begin_part(self, shard: Shard | None, trees: int) -> None:
        """Record that the file holds this shard of a run of so many trees; ConfigError if it holds another part."""
        self.refuse_other_part(shard)
        if shard is not None or self.part is not None:
            row = (shard and shard.number, shard and shard.of, trees)
            self._write(lambda db: db.execute("INSERT OR REPLACE INTO shard VALUES (1, ?, ?, ?)", row))

    def keep_import(
        self,
        name: str,
        identity: Mapping[str, JsonValue],
        version: str,
        personas: Iterable[Persona],
        trees: Callable[[], Iterable[JudgedTree]],
    ) -> bool:
        """Store conversations recorded elsewhere, all in one transaction; False if just these are stored already.

        `trees` is called again if the transaction has to be begun again.

        ConfigError if the file holds another run or another import.
        """
        stored = self.run
        if stored is not None:
            if stored.kind != "import":
                raise ConfigError(f"{self.path} holds {_a(stored.kind)}; give the import a file of its own")
            own = {setting: value for setting, value in stored.identity.items() if setting != GROWN}
            if changes := changed_settings(own, identity):
                raise ConfigError(
                    f"{self.path} holds another import (changed: {shortened(changes)}); give this one a file of its own"
                )
            return False
        created = datetime.now(UTC).isoformat(timespec="seconds")
        run = (encode_text(name), "import", encode_json(dict(identity)), created, version)
        people = [(persona.id, encode_json(persona.model_dump())) for persona in personas]
        writes = self._writes

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO runs VALUES (1, ?, ?, ?, ?, ?)", run)
            db.executemany("INSERT INTO personas (id, persona) VALUES (?, ?)", people)
            for index, judged in enumerate(trees()):
                writes.keep_tree(db, index, judged)

        self._write(work)
        return True

    def add_personas(self, personas: Iterable[Persona]) -> None:
        """Keep these personas; one whose id is there already is replaced."""
        rows = ((persona.id, encode_json(persona.model_dump())) for persona in personas)
        statement = (
            "INSERT INTO personas (id, persona) VALUES (?, ?) "
            "ON CONFLICT (id) DO UPDATE SET persona = excluded.persona WHERE persona IS NOT excluded.persona"
        )
        self._write_all(statement, rows)

    def plan_trees(self, records: Iterable[TreeRecord]) -> None:
        """Add these trees to the run; those planned before stay as they are."""
        rows = (
            (r.id, r.index, r.persona, r.seed, r.candidate, r.case, r.status, r.reason, r.attempts) for r in records
        )
        self._write_all("INSERT OR IGNORE INTO trees VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def plan_branches(
        self, records: Iterable[TreeRecord], path: Sequence[Node], annotations: Sequence[Annotation]
    ) -> None:
        """Add these trees, each with the messages it begins with; those planned before stay as they are."""
        records, writes = list(records), self._writes

        def work(db: sqlite3.Connection) -> None:
            last = db.execute("SELECT ifnull(max(position), -1) FROM trees").fetchone()[0]
            for record in records:
                row = (record.id, last + 1 + record.index, record.persona, record.seed)
                new = "INSERT OR IGNORE INTO trees (id, position, persona, seed) VALUES (?, ?, ?, ?)"
                if db.execute(new, row).rowcount:
                    writes.begin_tree(record.id, path, annotations)

        self._write(work)

    async def save_turn(
        self,
        tree: str,
        nodes: Sequence[Node],
        verdicts: Sequence[Verdict] = (),
        scores: Sequence[Score] = (),
        annotations: Sequence[Annotation] = (),
    ) -> None:
        """Commit one turn of a planned tree, whole or not at all; saving it twice changes nothing."""

        writes = self._writes

        def work(db: sqlite3.Connection) -> None:
            writing = writes.judged.of(tree)
            writing.nodes(nodes)
            writing.judgement(verdicts, scores)
            writing.annotations(annotations)

        await writes.writer.submit(work)

    async def save_judgement(self, tree: str, verdicts: Sequence[Verdict], scores: Sequence[Score]) -> None:
        """Commit what a judge said about a tree; what the same judge said before about the same nodes is replaced."""
        writes = self._writes

        def work(db: sqlite3.Connection) -> None:
            writes.judged.of(tree).judgement(verdicts, scores)
            writes.texts.forget(tree)

        await writes.writer.submit(work)

    async def replace_annotations(
        self, tree: str, names: Collection[str], by: str, annotations: Sequence[Annotation]
    ) -> None:
        """Commit these; everything else that the same author noted in the tree under one of `names` goes."""
        writes = self._writes

        def work(_: sqlite3.Connection) -> None:
            for name in names:
                writes.judged.forget_annotations(tree, name, by)
            writes.judged.of(tree).annotations(annotations)
            writes.texts.forget(tree)

        await writes.writer.submit(work)

    async def finish_tree(self, tree: str, *, failed: str | None = None, on: CallRow | None = None) -> None:
        """Mark the tree done, or failed with the reason; `on` is the call that it failed on, if it was one."""
        writes = self._writes
        change = (
            "UPDATE trees SET status = 'done', reason = ? WHERE id = ?"
            if failed is None
            else "UPDATE trees SET status = 'failed', reason = ?, attempts = attempts + 1 WHERE id = ?"
        )
        reason = None if failed is None else encode_text(failed)

        def work(db: sqlite3.Connection) -> None:
            db.execute(change, (reason, tree))
            db.execute("DELETE FROM failed_calls WHERE tree = ?", (tree,))
            if on is not None:
                writes.calls.insert_failed(on)
            writes.texts.forget(tree)

        await writes.writer.submit(work)

    async def allow_more_samples(self, trees: Iterable[str]) -> None:
        """Have the questions about these trees that had no usable answer asked again, whatever their status."""
        rows = [(tree,) for tree in trees]
        again = "UPDATE trees SET attempts = attempts + 1 WHERE id = ?"
        await self._writes.writer.submit(lambda db: db.executemany(again, rows))

    def submit_call(self, row: CallRow, settled: Callable[[], object] | None = None) -> "asyncio.Future[None]":
        """Queue one call; the future is done once it is committed. `settled` as in GroupCommitWriter."""
        writes = self._writes
        if row.agent is not None and row.agent.tools is not None:
            self._any_actions = True
        return writes.writer.submit(lambda db: writes.calls.insert(row), settled)

    def refuse_if_stopped(self) -> None:
        """StopError once writing has failed."""
        self._writes.writer.refuse_if_stopped()

    @property
    def can_write(self) -> bool:
        """Whether anything can still be written; False once writing has failed or the file is closed."""
        return self._writes.writer.can_write

    def wait_for_more(self, expects_more: Callable[[], bool]) -> None:
        """Delay commits by some milliseconds, and so commit more at once, while this says that replies are expected."""
        self._writes.writer.expects_more = expects_more

    def write(self, work: Work[Any]) -> None:
        """Run SQL that stands elsewhere in this package in a transaction; it may be run again if it was interrupted."""
        self._write(work)

    def plan_labels(self, questions: Sequence[LabelQuestion]) -> None:
        """Make these the planned questions, in this order, in place of others; labels stay."""
        self._write(lambda db: write_questions(db, questions))

    def add_labels(self, labels: Sequence[Label]) -> None:
        """Commit these, all or none; what the same person answered to the same question before is replaced."""
        self._write(lambda db: write_labels(db, labels))

    def remove_label(self, label: Label) -> None:
        """Take an answer back."""
        self._write(lambda db: delete_label(db, label))

    @property
    def _writes(self) -> "_Writing":
        if self._writing is None:
            raise ConfigError(f"{self.path} was opened for reading only")
        return self._writing

    def _write_all(self, statement: str, rows: Iterator[tuple[Any, ...]]) -> None:
        """The statement for each row, a page of them in a transaction."""
        while page := list(islice(rows, _PAGE)):
            self._write(lambda db, page=page: db.executemany(statement, page))  # type: ignore[misc]

    def _write(self, work: Work[Any]) -> None:
        try:
            self._writes.writer.run(work)
        except (UnicodeEncodeError, OverflowError) as error:
            raise ConfigError(f"{self.path}: a name or number cannot be stored ({error}); give another") from None


class _Writing:
    """What only a store opened for writing has: the lock, the writer and its caches."""

    def __init__(self, lock: Lock, connection: sqlite3.Connection, path: Path) -> None:
        self._lock = lock
        self._rows = PendingInserts(connection)
        self.texts = TextWriter(connection, self._rows, calls.texts_of_tree)
        self.calls = CallWriter(connection, self._rows, self.texts)
        self.judged = JudgedWriter(connection, self._rows, self.texts)
        self.writer = GroupCommitWriter(connection, path, self._complete, self._forget)

    def close(self, at_last: Callable[[], object] = lambda: None) -> None:
        """`at_last` is called when the file is closed and still locked."""
        self.writer.close()
        at_last()
        self._lock.release()

    def keep_tree(self, db: sqlite3.Connection, index: int, judged: JudgedTree) -> None:
        """Insert a whole tree that is done, with all that was said about it."""
        tree = judged.tree
        row = (tree.id, index, tree.persona, tree.seed)
        db.execute("INSERT INTO trees (id, position, persona, seed, status) VALUES (?, ?, ?, ?, 'done')", row)
        self.judged.of(tree.id).judgement(judged.verdicts, judged.scores)
        self.begin_tree(tree.id, tree.nodes, judged.annotations)

    def begin_tree(self, tree: str, nodes: Sequence[Node], annotations: Sequence[Annotation]) -> None:
        """Insert messages of a planned tree, with what is noted at them."""
        writing = self.judged.of(tree)
        writing.nodes(nodes)
        writing.annotations(annotations)
        self._rows.insert()
        self.texts.forget(tree)

    def _complete(self) -> None:
        self._rows.insert()
        self.calls.count()

    def _forget(self) -> None:
        for each in (self._rows, self.texts, self.calls, self.judged):
            each.forget()


_OF_THE_RUN = (
    *("runs", "trees", "nodes", "verdicts", "scores", "annotations", "judges", "failed_calls", "shard"),
    *("label_questions", "labels", "instructions"),
)
_FORGET_THE_RUN = tuple(f"DELETE FROM {table}" for table in _OF_THE_RUN)


def _a(kind: RunKind) -> str:
    return "a persona pool" if kind == "personas" else f"an {kind}" if kind[0] in "ei" else f"a {kind}"


def _held(part: RunPart) -> str:
    return "holds merged shards" if part.shard is None else f"holds shard {part.shard} of its run"


def _wanted(part: RunPart, asked: Shard | None) -> str:
    if asked is None:
        return f"go on with it by --shard {part.shard}, or merge the shards of the run"
    return f"give --shard {asked} a file of its own"
