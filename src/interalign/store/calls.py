"""Recorded calls: what was asked, at which place, and what came back, found by a hash of the request."""

import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, NamedTuple

from interalign.models.endings import Ending, ending_of
from interalign.records import AgentRecord, CallRecord, Place, Reply, ReplyCounts, Usage
from interalign.store.pending_inserts import PendingInserts
from interalign.store.texts import (
    TextWriter,
    TreeTexts,
    decode_text,
    encode_text,
    read_text,
    text_digests,
    tree_prefix,
)
from interalign.tree import Message

_LETTERS = {"system": "s", "user": "u", "assistant": "a"}
_ROLES = {letter: role for role, letter in _LETTERS.items()}


def usage(connection: sqlite3.Connection) -> dict[tuple[str, str], Usage]:
    """What was used, by role and the model that was asked."""
    rows = connection.execute(
        "SELECT role, asked, sum(calls), sum(prompt_tokens), sum(completion_tokens), sum(bad) "
        "FROM usage JOIN seats ON seats.id = seat GROUP BY role, asked ORDER BY role, asked"
    )
    return {
        (role, decode_text(asked)): Usage(calls=count, prompt_tokens=prompt, completion_tokens=completion, bad=bad)
        for role, asked, count, prompt, completion, bad in rows
    }


_CUT = ("length", "max_tokens", "max_output_tokens", "model_length")
"""What providers call the end of a reply at its limit."""


def reply_counts(connection: sqlite3.Connection) -> dict[str, ReplyCounts]:
    """Counts by role. Reads all calls: for the end of a run, not for its progress."""
    again, cut = Counter[str](), Counter[str]()
    for role, reason, count, repeated in connection.execute(
        "SELECT role, finish_reason, count(*), sum(sample = 1) FROM calls GROUP BY role, finish_reason ORDER BY role"
    ):
        again[role] += repeated
        cut[role] += count if ending_of(reason) is Ending.cut else 0
    return {role: ReplyCounts(asked_again=again[role], cut=cut[role]) for role in again}


def cut_calls(connection: sqlite3.Connection, tree: str) -> set[str]:
    """Keys, in hex, of the calls of this tree whose reply was cut at its length limit."""
    first = tree_prefix(tree)
    rows = connection.execute(
        "SELECT key, finish_reason FROM calls WHERE key BETWEEN ? AND ? AND finish_reason <> 'stop'",
        (first, first + b"\xff" * 11),
    )
    return {key.hex() for key, reason in rows if ending_of(reason) is Ending.cut}


class CallRow(NamedTuple):
    """One call as it goes into the file. `error` is why the reply could not be used."""

    key: bytes
    place: Place
    asked: str
    parameters: str | bytes
    messages: Sequence[Message]
    reply: Reply
    error: str | None
    began: float | None = None
    """Seconds since 1970."""
    seconds: float | None = None
    """Until the reply had come."""
    agent: AgentRecord | None = None


def call_key(place: Place, request: Sequence[str | bytes | int], messages: Sequence[Message]) -> bytes:
    """16 bytes for this request at this place. Calls of one tree share the first 5, which keeps them adjacent."""
    # ASCII literals: equal values, equal text, and a quarter of the time that JSON takes.
    head = ascii((*place, *request, *[message.role for message in messages]))
    digest = hashlib.sha256(head.encode())
    digest.update(text_digests([message.content for message in messages]))
    return tree_prefix(place.tree) + digest.digest()[:11]


class CallWriter:
    """Inserts calls. Used inside write transactions only."""

    def __init__(self, connection: sqlite3.Connection, rows: PendingInserts, texts: TextWriter) -> None:
        self._connection = connection
        self._rows = rows
        self._texts = texts
        self.forget()

    def forget(self) -> None:
        """Drop the caches (after a rollback the ids may be wrong)."""
        self._seats: dict[tuple[str | bytes, ...], int] = {}
        self._servers: dict[str, int] = {}
        self._first_new: int | None = None

    def insert(self, row: CallRow) -> None:
        """Insert the call; one that is there already stays as it is."""
        place, reply = row.place, row.reply
        texts = self._texts.of(place.tree)
        number = self._rows.new_id("calls")
        self._first_new = self._first_new or number
        self._rows.add(
            "INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                number,
                row.key,
                *place,
                self._seat(encode_text(row.asked), encode_text(reply.model), row.parameters),
                _prompt(row, texts),
                texts.id_of(reply.text),
                None if reply.finish_reason is None else encode_text(reply.finish_reason),
                reply.prompt_tokens,
                reply.completion_tokens,
                None if row.error is None else encode_text(row.error),
                *self._how(row),
            ),
        )
        if row.agent is not None:
            self._rows.add("INSERT OR IGNORE INTO agents VALUES (?, ?, ?, ?)", (row.key, *row.agent))

    def insert_failed(self, row: CallRow) -> None:
        """Keep the call that a tree failed on; there is one a tree."""
        place, texts = row.place, self._texts.of(row.place.tree)
        error = None if row.error is None else encode_text(row.error)
        self._rows.add(
            "INSERT OR REPLACE INTO failed_calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*place, encode_text(row.asked), row.parameters, _prompt(row, texts), error, *self._how(row)),
        )

    def count(self) -> None:
        """Add the calls of this transaction to `usage`, once its rows are inserted.

        They are counted from the table: a call that was there already has no row with a new id.
        """
        if self._first_new is not None:
            self._connection.execute(_COUNT, (self._first_new,))
            self._first_new = None

    def _how(self, row: CallRow) -> tuple[int | None, int | None, int, int | None]:
        """Its columns `began`, `took`, `sends` and `server`."""
        began = None if row.began is None else int(row.began * 1e3)
        took = None if row.seconds is None else int(row.seconds * 1e6)
        return began, took, row.reply.sends, self._server(row.reply.server) if row.reply.server else None

    def _server(self, address: str) -> int:
        if address not in self._servers:
            stored = (encode_text(address),)
            self._connection.execute("INSERT OR IGNORE INTO servers VALUES (NULL, ?)", stored)
            found = self._connection.execute("SELECT id FROM servers WHERE address = ?", stored)
            self._servers[address] = found.fetchone()[0]
        return self._servers[address]

    def _seat(self, *seat: str | bytes) -> int:
        """Id of (model asked for, name it answered with, parameters): few in a run, so calls hold a number."""
        if seat not in self._seats:
            self._connection.execute("INSERT OR IGNORE INTO seats VALUES (NULL, ?, ?, ?)", seat)
            find = "SELECT id FROM seats WHERE asked = ? AND answered = ? AND parameters = ?"
            self._seats[seat] = self._connection.execute(find, seat).fetchone()[0]
        return self._seats[seat]


_COUNT = """
INSERT INTO usage
SELECT role, seat, count(*), sum(prompt_tokens), sum(completion_tokens), count(error)
FROM calls WHERE id >= ? GROUP BY role, seat
ON CONFLICT (role, seat) DO UPDATE SET
    calls = calls + excluded.calls,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    bad = bad + excluded.bad
"""


def _prompt(row: CallRow, texts: TreeTexts) -> str:
    """`s12u15a16u19`: the messages' roles and text ids. The last one is this role's own, the rest is shared."""
    if not row.messages:
        return ""
    *history, last = row.messages
    known, id_of = (
        texts.known,
        texts.id_of,
    )  # most of a long history is known, and a call of id_of costs as much as all the rest
    parts = [f"{_LETTERS[said.role]}{known.get(said.content) or id_of(said.content)}" for said in history]
    return "".join(parts) + f"{_LETTERS[last.role]}{id_of(last.content, row.place.role)}"


def texts_of_tree(connection: sqlite3.Connection, tree: str) -> set[int]:
    """Ids of all texts that calls of this tree refer to."""
    first = tree_prefix(tree)
    find = (
        "SELECT prompt, reply FROM calls WHERE key BETWEEN ? AND ? "
        "UNION ALL SELECT prompt, NULL FROM failed_calls WHERE tree = ?"
    )
    found = set[int]()
    for prompt, reply in connection.execute(find, (first, first + b"\xff" * 11, encode_text(tree))):
        found.update(text for _, text in _parts(prompt))
        if reply is not None:
            found.add(reply)
    return found


def any_of_tree(connection: sqlite3.Connection, tree: str) -> bool:
    """Whether there is a call of this tree (or, once in 2^40, of another whose keys begin alike)."""
    first = tree_prefix(tree)
    row = connection.execute("SELECT 1 FROM calls WHERE key BETWEEN ? AND ?", (first, first + b"\xff" * 11)).fetchone()
    return row is not None


def find_reply(connection: sqlite3.Connection, key: bytes) -> tuple[Reply, str | None] | None:
    """The committed reply, with why it could not be used if so; None if there is none."""
    row = connection.execute(_REPLY, (key,)).fetchone()
    if row is None:
        return None
    text_id, *said, error = row
    return _reply(read_text(connection, text_id), *said), None if error is None else decode_text(error)


_REPLY = """
SELECT reply, answered, finish_reason, prompt_tokens, completion_tokens, sends, address, error
FROM calls JOIN seats ON seats.id = seat LEFT JOIN servers ON servers.id = server WHERE key = ?
"""


def _reply(
    text: str,
    answered: str | bytes,
    finish_reason: str | bytes | None,
    prompt_tokens: int,
    completion_tokens: int,
    sends: int | None,
    address: str | bytes | None,
) -> Reply:
    return Reply(
        text=text,
        model=decode_text(answered),
        finish_reason=None if finish_reason is None else decode_text(finish_reason),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        server="" if address is None else decode_text(address),
        sends=1 if sends is None else sends,
    )


def find_state(
    connection: sqlite3.Connection, tree: str, role: str, asked: str, paths: Sequence[tuple[str, bytes]]
) -> tuple[int, bytes] | None:
    """The newest state of what was asked in this role at the first of these nodes, after messages with this digest,
    that has one; and its number among them.
    """
    first = tree_prefix(tree)
    rows = connection.execute(_STATES, (first, first + b"\xff" * 11, tree, role, encode_text(asked))).fetchall()
    by_path = {(node, path): key for node, path, key in rows}
    for number, path in enumerate(paths):
        if path in by_path:
            state = connection.execute("SELECT state FROM agents WHERE key = ?", (by_path[path],)).fetchone()[0]
            return number, state
    return None


_STATES = """
SELECT node, path, calls.key FROM agents JOIN calls ON calls.key = agents.key JOIN seats ON seats.id = seat
WHERE agents.key BETWEEN ? AND ? AND tree = ? AND role = ? AND asked = ? AND state IS NOT NULL ORDER BY calls.id
"""


def find_actions(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, str]:
    """What agents did for these calls, as JSON, by the calls' keys."""
    marks = ", ".join("?" * len(keys))
    return dict(connection.execute(f"SELECT key, tools FROM agents WHERE key IN ({marks}) AND tools IS NOT NULL", keys))


class _Reader:
    """Calls of one tree. A text that several of them hold is read once."""

    def __init__(self, connection: sqlite3.Connection, tree: str) -> None:
        self._tree = tree
        self._text = cache(partial(read_text, connection))
        self._message = cache(lambda letter, text_id: Message(role=_ROLES[letter], content=self._text(text_id)))

    def call(self, key: bytes, node: str, role: str, sample: int, *rest: Any) -> CallRecord:
        """A row of `calls`."""
        asked, parameters, prompt, began, took, error, text_id, *said = rest
        reply = _reply(self._text(text_id), *said)
        return self._record(key.hex(), (node, role, sample), asked, parameters, prompt, reply, error, began, took)

    def failed(self, node: str, role: str, sample: int, *rest: Any) -> CallRecord:
        """A row of `failed_calls`."""
        asked, parameters, prompt, began, took, error, sends, address = rest
        reply = _reply("", asked, None, 0, 0, sends, address)
        return self._record("", (node, role, sample), asked, parameters, prompt, reply, error, began, took)

    def _record(
        self,
        key: str,
        place: tuple[str, str, int],
        asked: str | bytes,
        parameters: str | bytes,
        prompt: str,
        reply: Reply,
        error: str | bytes | None,
        began: int | None,
        took: int | None,
    ) -> CallRecord:
        return CallRecord(
            key=key,
            place=Place(self._tree, *place),
            asked=decode_text(asked),
            parameters=decode_text(parameters),
            messages=tuple(self._message(*part) for part in _parts(prompt)),
            reply=reply,
            error=None if error is None else decode_text(error),
            began=None if began is None else datetime.fromtimestamp(began / 1e3, UTC),
            seconds=None if took is None else took / 1e6,
        )


def read_calls(connection: sqlite3.Connection, tree: str) -> list[CallRecord]:
    """All calls of a tree in the order of their commits."""
    first, reader = tree_prefix(tree), _Reader(connection, tree)
    return [reader.call(*row) for row in connection.execute(_CALLS_OF_TREE, (first, first + b"\xff" * 11, tree))]


_CALLS_OF_TREE = """
SELECT key, node, role, sample, asked, parameters, prompt, began, took, error,
    reply, answered, finish_reason, prompt_tokens, completion_tokens, sends, address
FROM calls JOIN seats ON seats.id = seat LEFT JOIN servers ON servers.id = server
WHERE key BETWEEN ? AND ? AND tree = ? ORDER BY calls.id
"""


def read_failed_call(connection: sqlite3.Connection, tree: str) -> CallRecord | None:
    """The call that the tree failed on, without key and reply; None if it did not fail on a call."""
    row = connection.execute(_FAILED_CALL, (encode_text(tree),)).fetchone()
    return None if row is None else _Reader(connection, tree).failed(*row)


_FAILED_CALL = """
SELECT node, role, sample, asked, parameters, prompt, began, took, error, sends, address
FROM failed_calls LEFT JOIN servers ON servers.id = server WHERE tree = ?
"""


def find_prompt(connection: sqlite3.Connection, key: bytes) -> list[Message] | None:
    """The messages that were sent, None if there is no such call."""
    row = connection.execute("SELECT prompt FROM calls WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    return [Message(role=_ROLES[letter], content=read_text(connection, text)) for letter, text in _parts(row[0])]


def _parts(prompt: str) -> list[tuple[str, int]]:
    """What `_prompt` wrote: the letter of each message's role and its text."""
    return [(letter, int(text)) for letter, text in re.findall(r"([sua])(\d+)", prompt)]
