"""Judged trees in the run file: nodes, verdicts, scores, annotations, with every text stored once."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from pydantic import JsonValue

from interalign.records import ASPECTS_NOTE, JudgeAnswers, JudgeCounts, SiblingCounts
from interalign.store.calls import cut_calls
from interalign.store.pending_inserts import PendingInserts
from interalign.store.texts import TextWriter, TreeTexts, decode_json, decode_text, encode_json, encode_text, read_text
from interalign.tree import IMPORTED, SYSTEM, Annotation, JudgedTree, Node, Presentation, Score, Tree, Verdict

_TREES = 1024
"""Trees whose numbers are cached at most."""


class JudgedWriter:
    """Inserts what was said in trees and about them. Used inside write transactions only."""

    def __init__(self, db: sqlite3.Connection, rows: PendingInserts, texts: TextWriter) -> None:
        self._db = db
        self._rows = rows
        self._texts = texts
        self._judges: dict[str, int] = {}
        self._number = lru_cache(_TREES)(self._find_number)

    def of(self, tree: str) -> "TreeWriter":
        """What inserts into this tree. KeyError if it was never planned."""
        return TreeWriter(self._rows, self._texts.of(tree), self._number(tree), self._judge)

    def forget_annotations(self, tree: str, name: str, by: str) -> None:
        """Remove what this author noted in the tree under this name."""
        find = "DELETE FROM annotations WHERE tree = ? AND name = ? AND by = ?"
        self._db.execute(find, (self._number(tree), encode_text(name), encode_text(by)))

    def _find_number(self, tree: str) -> int:
        row = self._db.execute("SELECT number FROM trees WHERE id = ?", (tree,)).fetchone()
        if row is None:
            raise KeyError(f"tree {tree!r} was never planned")
        return int(row[0])

    def forget(self) -> None:
        """Drop the caches (after a rollback the ids may be wrong)."""
        self._judges.clear()
        self._number.cache_clear()

    def _judge(self, name: str) -> int:
        if name not in self._judges:
            stored = encode_text(name)
            self._db.execute("INSERT OR IGNORE INTO judges (name) VALUES (?)", (stored,))
            self._judges[name] = self._db.execute("SELECT id FROM judges WHERE name = ?", (stored,)).fetchone()[0]
        return self._judges[name]


_NAMED = "judge = (SELECT id FROM judges WHERE name = ?)"
_UNREAD = "((json_extract(orders, '$[0][3]') IS NULL) + (json_extract(orders, '$[1][3]') IS NULL))"


def count_answers(db: sqlite3.Connection, judge: str) -> JudgeCounts:
    """How many questions this judge was asked and how many have no readable answer."""
    name = (encode_text(judge),)
    compared = f"SELECT 2 * count(*), coalesce(sum({_UNREAD}), 0) FROM verdicts WHERE {_NAMED}"
    scored = f"SELECT count(*), coalesce(sum(value IS NULL), 0) FROM scores WHERE {_NAMED}"
    pairs, singles = (db.execute(find, name).fetchone() for find in (compared, scored))
    return JudgeCounts(judge=judge, asked=pairs[0] + singles[0], missing=pairs[1] + singles[1])


def answers_of(db: sqlite3.Connection, judge: str) -> JudgeAnswers:
    """What this judge's answers have in common; of a panel, which is not stored, nothing."""
    first, second = "json_extract(orders, '$[0][3]')", "json_extract(orders, '$[1][3]')"
    agree = f"({first} || {second} IN ('tietie', 'AB', 'BA'))"  # the orders are each other's reverse
    named = " + ".join(f"ifnull({one} IN ('A', 'B'), 0)" for one in (first, second))
    said_first = " + ".join(f"ifnull({one} = 'A', 0)" for one in (first, second))
    sums = ", ".join(f"coalesce(sum({one}), 0)" for one in (f"{_UNREAD} = 0", f"ifnull({agree}, 0)", named, said_first))
    counts = count_answers(db, judge)
    found = db.execute(f"SELECT {sums} FROM verdicts WHERE {_NAMED}", (encode_text(judge),)).fetchone()
    return JudgeAnswers(counts.asked, counts.missing, *found)


def count_siblings(db: sqlite3.Connection) -> SiblingCounts:
    """How many replies have siblings, and how many of them repeat an earlier one word by word."""
    turns = (
        "SELECT count(*) AS replies, count(DISTINCT text) AS texts FROM nodes WHERE role = 'assistant' "
        "GROUP BY tree, parent HAVING count(*) > 1"
    )
    sums = f"SELECT ifnull(sum(replies), 0), ifnull(sum(replies - texts), 0) FROM ({turns})"
    replies, identical = db.execute(sums).fetchone()
    return SiblingCounts(replies=replies, identical=identical)


def count_user_marks(db: sqlite3.Connection) -> tuple[dict[str, int], int]:
    """What a user agent should not do -> how many of its messages do it, as noted when they were written; messages."""
    noted = "SELECT value, count(*) FROM annotations WHERE name = 'audit' AND by = 'interalign' GROUP BY value"
    marks = Counter[str]()
    for value, count in db.execute(noted):
        marks.update(dict.fromkeys(decode_json(value), count))
    return dict(marks), db.execute("SELECT count(*) FROM nodes WHERE role = 'user'").fetchone()[0]


def any_readable(db: sqlite3.Connection, judge: str) -> bool:
    """Whether this judge gave any readable answer. Stops at the first one found."""
    found = (
        f"SELECT EXISTS (SELECT 1 FROM verdicts WHERE {_NAMED} AND {_UNREAD} < 2) "
        f"OR EXISTS (SELECT 1 FROM scores WHERE {_NAMED} AND value IS NOT NULL)"
    )
    return bool(db.execute(found, (encode_text(judge),) * 2).fetchone()[0])


class TreeWriter:
    """Inserts what belongs to one planned tree."""

    def __init__(self, rows: PendingInserts, texts: TreeTexts, number: int, judge: Callable[[str], int]) -> None:
        """`number` of the tree; `judge` gives the id of a judge's name."""
        self._rows = rows
        self._texts = texts
        self._number = number
        self._judge = judge

    def nodes(self, nodes: Sequence[Node]) -> None:
        """Add these; one that is there already stays as it is."""
        for n in nodes:
            row = (self._number, n.id, n.parent, n.turn, n.role, self._id(n.text), encode_text(n.by), n.call, n.hinted)
            self._rows.add("INSERT OR IGNORE INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def judgement(self, verdicts: Sequence[Verdict], scores: Sequence[Score]) -> None:
        """Add these; what the same judge said before about the same nodes is replaced."""
        for v in verdicts:
            orders = encode_json([self._order(order) for order in v.orders])
            verdict = (self._number, self._judge(v.judge), v.a, v.b, orders)
            self._rows.add("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?)", verdict)
        for s in scores:
            score = (self._number, self._judge(s.judge), s.node, encode_json(self._ids(s.replies)), s.value)
            self._rows.add("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?)", score)
            if (
                s.aspects
            ):  # as a note of the judge's at the reply: older versions read the file, and every page shows it
                self.annotations([Annotation(node=s.node, name=ASPECTS_NOTE, by=s.judge, value=dict(s.aspects))])

    def annotations(self, annotations: Sequence[Annotation]) -> None:
        """Add these; an older one by the same author, of the same name, on the same node is replaced."""
        for a in annotations:
            row = (self._number, a.node, encode_text(a.name), encode_text(a.by), self._value(a.value))
            self._rows.add(
                "INSERT INTO annotations (tree, node, name, by, value) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (tree, node, name, by) DO UPDATE SET value = excluded.value",
                row,
            )

    def _order(self, order: Presentation) -> list[JsonValue]:
        return [order.first, order.second, [*self._ids(order.replies)], order.value]

    def _value(self, value: JsonValue) -> int | str | bytes:
        """A plain text is most likely a reply, such as the inducer's notes: its id. Anything else: JSON."""
        return self._id(value) if isinstance(value, str) else encode_json(value)

    def _ids(self, texts: Sequence[str]) -> list[int]:
        return [self._id(text) for text in texts]

    def _id(self, text: str) -> int:
        return self._texts.id_of(text)


def read_judged(db: sqlite3.Connection, number: int, run: str, system: str | None = None) -> JudgedTree | None:
    """The tree with this number and all that was said about it, as one snapshot; None while it has no node."""
    with snapshot(db):
        nodes = _read_nodes(db, number)
        if not nodes:
            return None
        tree, persona, seed = db.execute("SELECT id, persona, seed FROM trees WHERE number = ?", (number,)).fetchone()
        cut = cut_calls(db, decode_text(tree))
        rank = {node.id: place for place, node in enumerate(nodes)}
        annotations = _read_annotations(db, number, rank)
        own = next((note.value for note in annotations if (note.name, note.by) == (SYSTEM, IMPORTED)), None)
        system = own if isinstance(own, str) else system
        return JudgedTree(
            tree=Tree(id=tree, run=run, persona=persona, seed=seed, nodes=nodes, system=system),
            verdicts=_read_verdicts(db, number, rank),
            scores=_with_aspects(_read_scores(db, number, rank), annotations),
            annotations=annotations,
            cut=frozenset(node.id for node in nodes if node.call in cut),
        )


@contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """Everything inside is read from one snapshot: a turn that is committed meanwhile is seen whole or not at all."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")


def _read_nodes(db: sqlite3.Connection, number: int) -> tuple[Node, ...]:
    rows = db.execute(f"SELECT {_NODE} FROM nodes WHERE tree = ?", (number,)).fetchall()
    return tuple(sorted((_node(db, *row) for row in rows), key=_place_in_tree))


_NODE = "id, parent, turn, role, text, by, hinted, call"


def _node(
    db: sqlite3.Connection,
    node: str,
    parent: str | None,
    turn: int,
    role: Any,
    text: int,
    by: str | bytes,
    hinted: int,
    call: str | None,
) -> Node:
    return Node(
        id=node,
        parent=parent,
        turn=turn,
        role=role,
        text=read_text(db, text),
        by=decode_text(by),
        hinted=bool(hinted),
        call=call,
    )


def _place_in_tree(node: Node) -> tuple[int, bool, list[str | int]]:
    """Turn by turn, the user first, then by the numbers of the path: the same however the tree grew."""
    parts = re.split(r"(\d+)", node.id)
    return node.turn, node.role == "assistant", [int(part) if part.isdecimal() else part for part in parts]


def _read_verdicts(db: sqlite3.Connection, number: int, rank: Mapping[str, int]) -> tuple[Verdict, ...]:
    rows = db.execute(
        "SELECT judges.id, name, a, b, orders FROM verdicts JOIN judges ON judges.id = judge WHERE tree = ?", (number,)
    ).fetchall()
    rows.sort(key=lambda row: (row[0], rank.get(row[2], -1), rank.get(row[3], -1)))
    return tuple(
        Verdict(
            judge=decode_text(judge), a=a, b=b, orders=tuple(_presentation(db, order) for order in decode_json(orders))
        )
        for _, judge, a, b, orders in rows
    )


def _presentation(db: sqlite3.Connection, stored: Sequence[Any]) -> Presentation:
    first, second, replies, value = stored
    answers = tuple(read_text(db, reply) for reply in replies)
    return Presentation(first=first, second=second, replies=answers, value=value)


def _read_scores(db: sqlite3.Connection, number: int, rank: Mapping[str, int]) -> tuple[Score, ...]:
    rows = db.execute(
        "SELECT judges.id, name, node, replies, value FROM scores JOIN judges ON judges.id = judge WHERE tree = ?",
        (number,),
    ).fetchall()
    rows.sort(key=lambda row: (row[0], rank.get(row[2], -1)))
    return tuple(
        Score(
            judge=decode_text(judge),
            node=node,
            replies=tuple(read_text(db, reply) for reply in decode_json(replies)),
            value=value,
        )
        for _, judge, node, replies, value in rows
    )


def _with_aspects(scores: tuple[Score, ...], annotations: Sequence[Annotation]) -> tuple[Score, ...]:
    """The scores with the aspects that their judges noted."""
    found = {(note.by, note.node): note.value for note in annotations if note.name == ASPECTS_NOTE}
    if not found:
        return scores
    return tuple(
        Score.model_validate({**dict(score), "aspects": found.get((score.judge, score.node), {})}) for score in scores
    )


def _read_annotations(db: sqlite3.Connection, number: int, rank: Mapping[str, int]) -> tuple[Annotation, ...]:
    rows = db.execute("SELECT node, name, by, value FROM annotations WHERE tree = ? ORDER BY id", (number,)).fetchall()
    rows.sort(key=lambda row: rank.get(row[0], -1))
    return tuple(
        Annotation(node=node, name=decode_text(name), by=decode_text(by), value=_read_value(db, value))
        for node, name, by, value in rows
    )


def _read_value(db: sqlite3.Connection, stored: int | str | bytes) -> JsonValue:
    return read_text(db, stored) if isinstance(stored, int) else decode_json(stored)
