"""One SQLite file (write-ahead log, one writer, many readers) per run: personas, trees, verdicts, calls."""

import asyncio
import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import JsonValue

from interalign.errors import ConfigError
from interalign.judge_warnings import judge_warnings, sibling_warnings
from interalign.panel import PANEL, with_panel
from interalign.personas import Persona
from interalign.records import (
    GROWN,
    CallRecord,
    JudgeAnswers,
    JudgeCounts,
    Label,
    LabelQuestion,
    Reply,
    ReplyCounts,
    RunKind,
    RunPart,
    RunRecord,
    Shortfalls,
    SiblingCounts,
    TreeRecord,
    TreeStatus,
    Usage,
    by_role,
)
from interalign.shard import Shard
from interalign.store import calls
from interalign.store import run_file as runfile
from interalign.store.branches import find_branches
from interalign.store.calls import CallRow, CallWriter
from interalign.store.group_commit import GroupCommitWriter, Work
from interalign.store.judged_trees import (
    JudgedWriter,
    answers_of,
    any_readable,
    count_answers,
    count_siblings,
    read_judged,
)
from interalign.store.labels import delete_label, read_labels, read_questions, write_labels, write_questions
from interalign.store.lock import Lock
from interalign.store.pending_inserts import PendingInserts
from interalign.store.texts import TextWriter, decode_json, decode_text, encode_json, encode_text
from interalign.store.tree_list import (
    CallPace,
    HintWin,
    RoleTime,
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
    read_pace,
    role_times,
    turn_scores,
)
from interalign.tree import Annotation, JudgedTree, Message, Node, Score, Verdict

__all__ = ["Store"]

_SHOWN_CHANGES = 5
_SHOWN_CHARACTERS = 40


_PAGE = 256
"""Rows in memory at once, of what may be millions."""


class Store:
    """A run file. Reading needs no lock and goes on while another process writes."""

    def __init__(self, path: Path, reader: sqlite3.Connection, writing: "_Writing | None" = None) -> None:
        """Use `create_or_open` or `open`."""
        self.path = path
        self._reader = reader
        self._reader_lock = threading.Lock()
        self._writing = writing
        self._any_actions: bool | None = None
        """Whether an agent did anything for any call; None: unknown. A look-up every turn would cost."""

    @classmethod
    def create_or_open(cls, path: Path) -> Self:
        """For writing; made if missing. LockedError if another process has it, ConfigError if it is no run file."""
        path = path.absolute().resolve()
        runfile.refuse_unusable(path)
        lock = Lock(path)
        try:
            connection = runfile.open_for_writing(path)
            return cls(path, runfile.open_for_reading(path), _Writing(lock, connection, path))
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

    # The run --------------------------------------------------------------------------------------

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
        if changes := _changes(stored, json.loads(json.dumps(asked))):
            raise ConfigError(
                f"{self.path} was started with other settings (changed: {_shortened(changes)}); "
                "restore them, or start a copy with --fork OTHER.db"
            )

    @property
    def part(self) -> RunPart | None:
        """Which part of a run the file holds; None for a run that was never sharded."""
        row = self._one("SELECT number, of, trees FROM shard")
        return None if row is None else RunPart(*row)

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
            if changes := _changes(own, identity):
                raise ConfigError(
                    f"{self.path} holds another import (changed: {_shortened(changes)}); "
                    "give this one a file of its own"
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

    # Personas and plan ----------------------------------------------------------------------------

    def add_personas(self, personas: Iterable[Persona]) -> None:
        """Keep these personas; one whose id is there already is replaced."""
        rows = ((persona.id, encode_json(persona.model_dump())) for persona in personas)
        statement = (
            "INSERT INTO personas (id, persona) VALUES (?, ?) "
            "ON CONFLICT (id) DO UPDATE SET persona = excluded.persona WHERE persona IS NOT excluded.persona"
        )
        self._write_all(statement, rows)

    def persona(self, persona_id: str) -> Persona:
        """The persona with this id; KeyError if there is none."""
        found = self.find_persona(persona_id)
        if found is None:
            raise KeyError(persona_id)
        return found

    def find_persona(self, persona_id: str) -> Persona | None:
        """The persona with this id; None if there is none, as of an imported conversation."""
        row = self._one("SELECT persona FROM personas WHERE id = ?", encode_text(persona_id))
        return None if row is None else Persona.model_validate(decode_json(row[0]))

    def personas(self) -> dict[str, Persona]:
        """All personas by id, in the order they were added."""
        rows = self._rows("SELECT id, persona FROM personas ORDER BY number")
        return {persona_id: Persona.model_validate(decode_json(stored)) for persona_id, stored in rows}

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

    def role_times(self) -> list[RoleTime]:
        """What the calls of each role took, over all of the run. Reads all calls."""
        with self._reading() as db:
            return role_times(db)

    def pace(self) -> CallPace | None:
        """How fast replies came lately; None as long as no call has a time."""
        with self._reading() as db:
            return read_pace(db)

    # Growing --------------------------------------------------------------------------------------

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

    # Reading --------------------------------------------------------------------------------------

    def judges(self) -> list[str]:
        """Names of all judges asked in this run, the newest last; behind them `panel`, if the run has one."""
        asked = [decode_text(name) for (name,) in self._rows("SELECT name FROM judges ORDER BY id")]
        return [*asked, PANEL] if asked and self.panel() else asked

    def panel(self) -> tuple[str, ...]:
        """The judges of a run that was begun with several; empty for any other."""
        run = self.run
        return () if run is None else run.begun_with.panel

    def newest_judge(self) -> str | None:
        """The last in `readable_judges`: whose verdicts count where none is named; None if none was asked yet."""
        asked = self.judges()
        if len(asked) < 2:
            return asked[0] if asked else None
        return next((name for name in reversed(asked) if self.has_readable(name)), asked[-1])

    def readable_judges(self) -> list[str]:
        """The judges with a readable answer, in the order of `judges`; all of them if none has one."""
        asked = self.judges()
        return asked if len(asked) < 2 else [name for name in asked if self.has_readable(name)] or asked

    def has_readable(self, judge: str) -> bool:
        """Whether this judge gave any answer in this run that could be read."""
        asked = self._members(judge)
        with self._reading() as db:
            return any(any_readable(db, name) for name in asked)

    def judge_counts(self, judge: str) -> JudgeCounts:
        """How many questions this judge was asked in this run and how many have no readable answer."""
        asked = self._members(judge)
        with self._reading() as db:
            counts = [count_answers(db, name) for name in asked]
        return JudgeCounts(
            judge=judge, asked=sum(each.asked for each in counts), missing=sum(each.missing for each in counts)
        )

    def _members(self, judge: str) -> Sequence[str]:
        """The judge alone; of `panel` its members: all judges asked, in a run that was begun with one."""
        return (self.panel() or self.judges()) if judge == PANEL else (judge,)

    def reply_counts(self) -> dict[str, ReplyCounts]:
        """By role, how many questions were asked again and how many replies cut, over all calls in the file."""
        with self._reading() as db:
            return calls.reply_counts(db)

    def shortfalls(self, judge: str | None) -> Shortfalls:
        """What fell short, as this judge saw it (None: no judge was asked)."""
        counts = None if judge is None else self.judge_counts(judge)
        warnings = (*sibling_warnings(self.sibling_counts()), *self.judge_warnings(judge))
        return Shortfalls(judge=counts, replies=self.reply_counts(), warnings=warnings)

    def sibling_counts(self) -> SiblingCounts:
        """How many replies have siblings, and how many of them say the same."""
        with self._reading() as db:
            return count_siblings(db)

    def judge_warnings(self, judge: str | None) -> Iterator[str]:
        """Reasons to distrust this judge, a sentence each; of a panel, its members."""
        run = self.run
        candidates = {} if run is None else {each["name"]: each["model"] for each in run.begun_with.candidate}
        members = (self.panel() or self.judges()) if judge == PANEL else [judge] if judge is not None else []
        for member in members:
            if member != PANEL:
                yield from judge_warnings(member, self.judge_answers(member), candidates)

    def judge_answers(self, judge: str) -> JudgeAnswers:
        """What this judge's answers have in common, whatever they are about."""
        with self._reading() as db:
            return answers_of(db, judge)

    def judged_tree(self, tree: str) -> JudgedTree | None:
        """The tree with all that was said about it; None while it has no node."""
        row = self._one("SELECT number FROM trees WHERE id = ?", encode_text(tree))
        return None if row is None else self._judged(row[0])

    def judged_trees(self, status: str | None = "done") -> Iterator[JudgedTree]:
        """The trees with this status (None: all that have a node), by index, one at a time in memory."""
        numbers = self._rows(
            "SELECT number FROM trees WHERE ? IS NULL OR status = ? ORDER BY position, number", status, status
        )
        for (number,) in numbers:
            judged = self._judged(number)
            if judged is not None:
                yield judged

    def prompt_of(self, call_key: str) -> list[Message]:
        """The messages of a call; ConfigError if there is no such call."""
        key = self._key(call_key)
        with self._reading() as db:
            messages = calls.find_prompt(db, key)
        if messages is None:
            raise ConfigError(f"{self.path} holds no call {call_key!r}")
        return messages

    def reply_of(self, call_key: str) -> Reply:
        """The reply of a call, also one that could not be used; ConfigError if there is no such call."""
        found = self.find_call(self._key(call_key))
        if found is None:
            raise ConfigError(f"{self.path} holds no call {call_key!r}")
        return found[0]

    def calls_of(self, tree: str) -> list[CallRecord]:
        """All calls of a tree with their prompts and replies, in the order of their commits."""
        with self._reading() as db:
            return calls.read_calls(db, tree)

    def failed_call_of(self, tree: str) -> CallRecord | None:
        """The call that a failed tree failed on: what was sent, and in `error` why no reply came. It has no key.

        None for a tree that did not fail on a call.
        """
        with self._reading() as db:
            return calls.read_failed_call(db, tree)

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

    def _key(self, call_key: str) -> bytes:
        try:
            return bytes.fromhex(call_key)
        except ValueError:
            raise ConfigError(f"{self.path} holds no call {call_key!r}") from None

    def has_calls(self, tree: str) -> bool:
        """Whether any call of this tree is committed."""
        with self._reading() as db:
            return calls.any_of_tree(db, tree)

    def find_call(self, key: bytes) -> tuple[Reply, str | None] | None:
        """The committed reply and why it could not be used, if so; None if the call was not made yet."""
        with self._reading() as db:
            return calls.find_reply(db, key)

    def find_state(
        self, tree: str, role: str, asked: str, paths: Sequence[tuple[str, bytes]]
    ) -> tuple[int, bytes] | None:
        """An agent's state at the first of these places that has one, and its number. For the ledger."""
        with self._reading() as db:
            return calls.find_state(db, tree, role, asked, paths)

    def actions_of(self, call_keys: Iterable[str]) -> dict[str, list[dict[str, JsonValue]]]:
        """What agents did for these calls, by the calls' keys: tools they used, `{"tool", "arguments", "result"}`, and
        what they interrupted themselves to ask, `{"interrupt"}`. Calls for which they did nothing are left out.
        """
        if self._any_actions is None:
            self._any_actions = self._one("SELECT 1 FROM agents WHERE tools IS NOT NULL LIMIT 1") is not None
        if not self._any_actions:
            return {}
        keys = [self._key(key) for key in call_keys]
        with self._reading() as db:
            return {key.hex(): decode_json(actions) for key, actions in calls.find_actions(db, keys).items()}

    # For this package ------------------------------------------------------------------------------------

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection that reads, for SQL that stands elsewhere in this package."""
        return self._reading()

    def write(self, work: Work[Any]) -> None:
        """Run SQL that stands elsewhere in this package in a transaction; it may be run again if it was interrupted."""
        self._write(work)

    def differences(self, identity: Mapping[str, JsonValue]) -> list[str]:
        """Settings of this file's run that this identity has otherwise, `NAME THIS -> THAT` each."""
        run = self.run
        return [] if run is None else _changes(run.identity, identity)

    # Labels ------------------------------------------------------------------------------------------

    def label_questions(self) -> list[LabelQuestion]:
        """The questions planned to be put to people, in the order of the plan."""
        with self._reading() as db:
            return read_questions(db)

    def labels(self) -> list[Label]:
        """What people answered: tree by tree, question by question, in the order of their names."""
        with self._reading() as db:
            return read_labels(db)

    def plan_labels(self, questions: Sequence[LabelQuestion]) -> None:
        """Make these the planned questions, in this order, in place of others; labels stay."""
        self._write(lambda db: write_questions(db, questions))

    def add_labels(self, labels: Sequence[Label]) -> None:
        """Commit these, all or none; what the same person answered to the same question before is replaced."""
        self._write(lambda db: write_labels(db, labels))

    def remove_label(self, label: Label) -> None:
        """Take an answer back."""
        self._write(lambda db: delete_label(db, label))

    # Internals ---------------------------------------------------------------------------------------

    def _judged(self, number: int) -> JudgedTree | None:
        run = self.run
        if run is None:
            with self._reading() as db:
                return read_judged(db, number, "")
        with self._reading() as db:
            judged = read_judged(db, number, run.name, run.begun_with.system)
        members = run.begun_with.panel
        return with_panel(judged, members) if judged is not None and members else judged

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


_TREE = 'id, position, persona, seed, candidate, "case", status, reason, attempts'

_OF_THE_RUN = (
    *("runs", "trees", "nodes", "verdicts", "scores", "annotations", "judges", "failed_calls", "shard"),
    *("label_questions", "labels", "instructions"),
)
_FORGET_THE_RUN = tuple(f"DELETE FROM {table}" for table in _OF_THE_RUN)


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


def _a(kind: RunKind) -> str:
    return "a persona pool" if kind == "personas" else f"an {kind}" if kind[0] in "ei" else f"a {kind}"


def _held(part: RunPart) -> str:
    return "holds merged shards" if part.shard is None else f"holds shard {part.shard} of its run"


def _wanted(part: RunPart, asked: Shard | None) -> str:
    if asked is None:
        return f"go on with it by --shard {part.shard}, or merge the shards of the run"
    return f"give --shard {asked} a file of its own"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    before, after = dict(_flat(old)), dict(_flat(new))
    return [
        f"{name} {_brief(before.get(name))} -> {_brief(after.get(name))}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name) and not (name.startswith("prompts.") and name not in before)
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings within settings get dotted names, so that a message names what really changed."""
    for name, value in settings.items():
        if name == "own_prompts":
            continue  # their hashes stand among those of all prompts
        if name in ("rubric", "system") and isinstance(value, str):
            yield prefix + name, hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        elif name == "candidate" and isinstance(value, list):
            yield prefix + name, ", ".join(f"{one['name']}={one['model']}" for one in value)
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _shortened(changes: Sequence[str]) -> str:
    more = len(changes) - _SHOWN_CHANGES
    return ", ".join(changes[:_SHOWN_CHANGES]) + (f", and {more} more" if more > 0 else "")
