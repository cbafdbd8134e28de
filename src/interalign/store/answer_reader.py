"""What a run file holds of answers: the calls, the judges' verdicts, people's labels."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from interalign.errors import ConfigError
from interalign.judge_warnings import judge_warnings, sibling_warnings, user_warnings
from interalign.panel import PANEL, with_panel
from interalign.records import (
    CallRecord,
    JudgeAnswers,
    JudgeCounts,
    Label,
    LabelQuestion,
    Reply,
    ReplyCounts,
    Shortfalls,
    SiblingCounts,
)
from interalign.store import calls
from interalign.store.judged_trees import (
    answers_of,
    any_readable,
    count_answers,
    count_siblings,
    count_user_marks,
    read_judged,
)
from interalign.store.labels import read_labels, read_questions
from interalign.store.texts import decode_json, decode_text, encode_text
from interalign.store.tree_list import (
    CallPace,
    RoleTime,
    read_pace,
    role_times,
)
from interalign.store.tree_reader import TreeReader
from interalign.tree import JudgedTree, Message

__all__ = ["AnswerReader"]


class AnswerReader(TreeReader):
    """A run file as something to read: besides its trees all that models, judges and people answered."""

    def __init__(self, path: Path, reader: sqlite3.Connection) -> None:
        super().__init__(path, reader)
        self.panel_weights: Mapping[str, float] | None = None
        """By which trees that are read from now on weigh the members of the run's panel; None: a vote each."""
        self._any_actions: bool | None = None
        """Whether an agent did anything for any call; None: unknown. A look-up every turn would cost."""

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
        warnings = (*self.speaker_warnings(), *self.judge_warnings(judge))
        return Shortfalls(judge=counts, replies=self.reply_counts(), warnings=warnings)

    def sibling_counts(self) -> SiblingCounts:
        """How many replies have siblings, and how many of them say the same."""
        with self._reading() as db:
            return count_siblings(db)

    def speaker_warnings(self) -> Iterator[str]:
        """Reasons to distrust what user and candidates said, a sentence each."""
        with self._reading() as db:
            marked, messages = count_user_marks(db)
        yield from user_warnings(marked, messages)
        yield from sibling_warnings(self.sibling_counts())

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

    def role_times(self) -> list[RoleTime]:
        """What the calls of each role took, over all of the run. Reads all calls."""
        with self._reading() as db:
            return role_times(db)

    def pace(self) -> CallPace | None:
        """How fast replies came lately; None as long as no call has a time."""
        with self._reading() as db:
            return read_pace(db)

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

    def label_questions(self) -> list[LabelQuestion]:
        """The questions planned to be put to people, in the order of the plan."""
        with self._reading() as db:
            return read_questions(db)

    def labels(self) -> list[Label]:
        """What people answered: tree by tree, question by question, in the order of their names."""
        with self._reading() as db:
            return read_labels(db)

    def _judged(self, number: int) -> JudgedTree | None:
        run = self.run
        if run is None:
            with self._reading() as db:
                return read_judged(db, number, "")
        with self._reading() as db:
            judged = read_judged(db, number, run.name, run.begun_with.system)
        members = run.begun_with.panel
        return with_panel(judged, members, self.panel_weights) if judged is not None and members else judged
