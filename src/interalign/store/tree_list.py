"""The list of a run's trees: filtered, searched, sorted and cut into pages by SQLite, with each tree's figures.

A search reads the texts themselves (no index is kept, so that writing costs nothing); LIKE ignores case in ASCII only.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

from interalign.store.texts import decode_text, encode_text, read_text, tree_prefix

Sort = Literal["planned", "worst", "best", "falling", "gap"]
"""`planned`: in the order of planning. `worst`, `best`: by the mean score. `falling`: by the slope of the scores over
the turns, steepest fall first. `gap`: evaluation: by how far the candidates' mean scores of the same case lie apart;
simulation: by the largest difference of two scores within a turn."""
SORTS: tuple[Sort, ...] = get_args(Sort)


class TreeFilter(NamedTuple):
    """Which trees, and in which order. What is None or empty is not asked for; all that is asked for must hold."""

    status: str | None = None
    words: str = ""
    """Some message holds this text."""
    persona: str = ""
    """Part of the persona's id or of what it says."""
    candidate: str = ""
    """Who is measured, or spoke in the tree."""
    turn: int | None = None
    """`words`, `low`, `high` and `margin` look at this turn only; alone: the tree reached it."""
    low: float | None = None
    high: float | None = None
    """Some reply has a score from `low` to `high`."""
    margin: float | None = None
    """Within a turn two scores lie at least so far apart."""
    orders: bool = False
    """The judge's two orders disagree about some pair."""
    judges: bool = False
    """Two judges disagree about some reply or pair."""
    note: str = ""
    """Some message has an annotation of this name, such as `audit` or `leak`."""
    reason: str | None = None
    """It failed for just this reason."""
    sort: Sort = "planned"


class TreeFigures(NamedTuple):
    """What one tree holds and what the judges meant said about it."""

    turns: int
    replies: int
    scores: tuple[tuple[int, float | None], ...]
    """Turn and value of every score, None for one that could not be read."""
    outcomes: tuple[str, ...]
    """`preferred`, `tie` or `missing`, one a comparison."""


def _order(number: int) -> str:
    """SQL: whom the judge preferred in one of its two orders; NULL if that could not be read."""
    at = f"json_extract(orders, '$[{number}]"
    return f"CASE {at}[3]') WHEN 'A' THEN {at}[0]') WHEN 'B' THEN {at}[1]') WHEN 'tie' THEN 'tie' END"


_OUTCOME = f"CASE WHEN {_order(0)} = {_order(1)} THEN {_order(0)} WHEN {_order(0)} <> {_order(1)} THEN 'tie' END"
_BY_JUDGE = "judge = :judge"
_AT_TURN = "(:turn IS NULL OR nodes.turn = :turn)"
_SCORED = f"scores JOIN nodes ON nodes.tree = scores.tree AND nodes.id = scores.node WHERE {_BY_JUDGE}"
_CONDITIONS = {
    "status": "status = :status",
    "words": (
        "EXISTS (SELECT 1 FROM nodes JOIN texts ON texts.id = nodes.text WHERE nodes.tree = trees.number "
        f"AND {_AT_TURN} AND CASE WHEN base IS NULL THEN body LIKE :words ESCAPE '\\' ELSE holds_words(texts.id) END)"
    ),
    "persona": (
        "(persona LIKE :persona ESCAPE '\\' "
        "OR persona IN (SELECT id FROM personas WHERE personas.persona LIKE :persona ESCAPE '\\'))"
    ),
    "candidate": (
        "(candidate IS :candidate "
        "OR EXISTS (SELECT 1 FROM nodes WHERE nodes.tree = trees.number AND role = 'assistant' AND by = :candidate))"
    ),
    "turn": "EXISTS (SELECT 1 FROM nodes WHERE nodes.tree = trees.number AND nodes.turn = :turn)",
    "score": (
        f"EXISTS (SELECT 1 FROM {_SCORED} AND scores.tree = trees.number AND {_AT_TURN} "
        "AND value BETWEEN ifnull(:low, 0) AND ifnull(:high, 6))"
    ),
    "margin": (
        f"EXISTS (SELECT 1 FROM {_SCORED} AND scores.tree = trees.number AND {_AT_TURN} "
        "GROUP BY nodes.parent HAVING max(value) - min(value) >= :margin)"
    ),
    "orders": (
        f"EXISTS (SELECT 1 FROM verdicts WHERE verdicts.tree = trees.number AND {_BY_JUDGE} "
        f"AND {_order(0)} <> {_order(1)})"
    ),
    "judges": (
        "(SELECT count(*) FROM judges) > 1 AND "
        "(EXISTS (SELECT 1 FROM scores WHERE scores.tree = trees.number GROUP BY node HAVING max(value) > min(value)) "
        f"OR EXISTS (SELECT 1 FROM verdicts WHERE verdicts.tree = trees.number GROUP BY a, b "
        f"HAVING max({_OUTCOME}) > min({_OUTCOME})))"
    ),
    "note": "EXISTS (SELECT 1 FROM annotations WHERE annotations.tree = trees.number AND name = :note)",
    "reason": "status = 'failed' AND ifnull(reason, '') = :reason",
}
_MEANS = f"SELECT tree, avg(value) AS mean FROM scores WHERE {_BY_JUDGE} GROUP BY tree"
_MEASURES = {
    "worst": (_MEANS, "mean"),
    "best": (_MEANS, "mean DESC"),
    "falling": (
        "SELECT tree, (count(*) * sum(turn * value) - sum(turn) * sum(value)) "
        "/ (1.0 * count(*) * sum(turn * turn) - sum(turn) * sum(turn)) AS slope FROM "
        f"(SELECT scores.tree, turn, value FROM {_SCORED} AND value IS NOT NULL) GROUP BY tree",
        "slope",
    ),
    "gap of a case": (
        'SELECT trees.number AS tree, gap FROM trees JOIN (SELECT "case" AS which, max(mean) - min(mean) AS gap '
        f'FROM ({_MEANS}) JOIN trees ON trees.number = tree GROUP BY "case") ON which = "case"',
        "gap DESC",
    ),
    "gap of a turn": (
        "SELECT tree, max(apart) AS gap FROM (SELECT scores.tree, max(value) - min(value) AS apart "
        f"FROM {_SCORED} GROUP BY scores.tree, nodes.parent) GROUP BY tree",
        "gap DESC",
    ),
}
"""What trees are sorted by: a table of trees and values, and how to go through it."""


def find_trees(
    db: sqlite3.Connection, columns: str, asked: TreeFilter, judge: str | None, *, first: int, most: int
) -> tuple[list[Any], int]:
    """Rows of `columns` of one page of the trees that `asked` lets through, and how many there are on all pages."""
    db.create_function("holds_words", 1, lambda text: asked.words.casefold() in read_text(db, text).casefold())
    wanted = " AND ".join(_CONDITIONS[name] for name in _asked(asked)) or "1"
    table, order = _MEASURES.get(_measure(db, asked.sort), ("", ""))
    joined = f"trees LEFT JOIN ({table}) ON tree = number" if table else "trees"
    by = f"{order.partition(' ')[0]} IS NULL, {order}, " if table else ""
    values = _values(db, asked, judge) | {"most": most, "first": first}
    # Counted in the same pass where there is a condition: a search reads every message once, not twice.
    total = "(SELECT count(*) FROM trees)" if wanted == "1" else "count(*) OVER ()"
    rows = db.execute(
        f"SELECT {total}, {columns} FROM {joined} WHERE {wanted} ORDER BY {by}position, number "
        "LIMIT :most OFFSET :first",
        values,
    ).fetchall()
    if rows:
        return [row[1:] for row in rows], rows[0][0]
    return [], db.execute(f"SELECT count(*) FROM trees WHERE {wanted}", values).fetchone()[0] if first else 0


def _measure(db: sqlite3.Connection, sort: Sort) -> str:
    if sort != "gap":
        return sort
    has_cases = db.execute('SELECT EXISTS (SELECT 1 FROM trees WHERE "case" IS NOT NULL)').fetchone()[0]
    return "gap of a case" if has_cases else "gap of a turn"


def _asked(asked: TreeFilter) -> Iterator[str]:
    """The conditions that must hold."""
    narrowed = asked.words or asked.low is not None or asked.high is not None or asked.margin is not None
    given = asked._asdict() | {
        "score": asked.low is not None or asked.high is not None,
        "turn": asked.turn is not None and not narrowed,
        "margin": asked.margin is not None,
        "reason": asked.reason is not None,
    }
    return (name for name in _CONDITIONS if given[name])


def _values(db: sqlite3.Connection, asked: TreeFilter, judge: str | None) -> dict[str, Any]:
    return {
        "status": asked.status,
        "words": _pattern(asked.words),
        "persona": _pattern(asked.persona),
        "candidate": encode_text(asked.candidate),
        "turn": asked.turn,
        "low": asked.low,
        "high": asked.high,
        "margin": asked.margin,
        "note": encode_text(asked.note),
        "reason": None if asked.reason is None else encode_text(asked.reason),
        "judge": judge_number(db, judge),
    }


def judge_number(db: sqlite3.Connection, judge: str | None) -> int | None:
    """The number of this judge in the file; None if nobody of this name was asked."""
    row = (
        None if judge is None else db.execute("SELECT id FROM judges WHERE name = ?", (encode_text(judge),)).fetchone()
    )
    return None if row is None else int(row[0])


def _pattern(words: str) -> str | bytes:
    """For LIKE: anything that holds these words."""
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return encode_text(f"%{escaped}%")


def read_figures(db: sqlite3.Connection, numbers: Sequence[int], judge: str | None) -> dict[int, TreeFigures]:
    """Tree number -> its figures, of those of these trees that have a node."""
    marks, by = ", ".join("?" * len(numbers)), judge_number(db, judge)
    sizes = db.execute(
        f"SELECT tree, max(turn), sum(role = 'assistant') FROM nodes WHERE tree IN ({marks}) GROUP BY tree", numbers
    ).fetchall()
    scores = db.execute(
        "SELECT scores.tree, turn, value FROM scores JOIN nodes ON nodes.tree = scores.tree AND nodes.id = node "
        f"WHERE judge = ? AND scores.tree IN ({marks})",
        (by, *numbers),
    ).fetchall()
    outcomes = db.execute(
        f"SELECT tree, {_OUTCOME} FROM verdicts WHERE judge = ? AND tree IN ({marks})", (by, *numbers)
    ).fetchall()
    values, words = _grouped(scores), _grouped(outcomes)
    return {
        tree: TreeFigures(
            turns, replies, tuple(values.get(tree, ())), tuple(_outcome(winner) for (winner,) in words.get(tree, ()))
        )
        for tree, turns, replies in sizes
    }


def _outcome(winner: str | None) -> str:
    return "missing" if winner is None else "tie" if winner == "tie" else "preferred"


def _grouped(rows: Sequence[Any]) -> dict[int, list[Any]]:
    groups: dict[int, list[Any]] = {}
    for tree, *rest in rows:
        groups.setdefault(tree, []).append(tuple(rest))
    return groups


def note_names(db: sqlite3.Connection) -> list[str]:
    """Names of all annotations in the run but the inducer's notes, in alphabetical order."""
    rows = db.execute("SELECT DISTINCT name FROM annotations WHERE name <> 'hint' ORDER BY name")
    return [decode_text(name) for (name,) in rows]


def candidate_names(db: sqlite3.Connection) -> list[str]:
    """Those that are measured in the trees of an evaluation, as planned."""
    rows = db.execute("SELECT candidate FROM trees WHERE candidate IS NOT NULL GROUP BY candidate ORDER BY min(number)")
    return [decode_text(name) for (name,) in rows]


class TurnScore(NamedTuple):
    """The mean score of one speaker's replies in one turn of one tree."""

    tree: str
    by: str
    hinted: bool
    turn: int
    value: float


def turn_scores(db: sqlite3.Connection, judge: str, status: str | None) -> list[TurnScore]:
    """Every speaker's scores by this judge, of trees with this status (None: any), in the order of planning."""
    rows = db.execute(
        "SELECT trees.id, by, hinted, turn, avg(value) FROM scores "
        "JOIN nodes ON nodes.tree = scores.tree AND nodes.id = node JOIN trees ON trees.number = scores.tree "
        "WHERE judge = :judge AND value IS NOT NULL AND (:status IS NULL OR status = :status) "
        "GROUP BY scores.tree, by, hinted, turn ORDER BY position, number, by, hinted, turn",
        {"judge": judge_number(db, judge), "status": status},
    )
    return [TurnScore(decode_text(tree), decode_text(by), bool(hint), turn, v) for tree, by, hint, turn, v in rows]


def last_turns(db: sqlite3.Connection, ended: str | None) -> dict[str, int]:
    """Tree -> its last turn, of the trees with an annotation `ended` by the user; of all trees for None."""
    last = "SELECT trees.id, (SELECT max(turn) FROM nodes WHERE nodes.tree = number) FROM trees"
    if ended is None:
        rows = db.execute(last)
    else:
        of = "number IN (SELECT tree FROM annotations WHERE name = ? AND by = 'user')"
        rows = db.execute(f"{last} WHERE {of}", (encode_text(ended),))
    return {decode_text(tree): turn for tree, turn in rows}


def case_means(db: sqlite3.Connection, judge: str | None) -> dict[str, dict[str, float]]:
    """Case -> candidate -> mean score, in the order of planning; a tree of no case is a case of its own, by its id."""
    rows = db.execute(
        f"SELECT ifnull(\"case\", id), ifnull(candidate, ''), mean FROM trees JOIN ({_MEANS}) ON tree = number "
        "WHERE mean IS NOT NULL ORDER BY position, number",
        {"judge": judge_number(db, judge)},
    )
    means: dict[str, dict[str, float]] = {}
    for case, candidate, mean in rows:
        means.setdefault(decode_text(case), {})[decode_text(candidate)] = mean
    return means


class HintWin(NamedTuple):
    """What a judge said of a reply with the inducer's notes beside one of the same speaker without."""

    persona: str
    turn: int
    won: float
    """1: the one with the notes is preferred; 0: the other; 0.5: a tie."""


def hint_wins(db: sqlite3.Connection, judge: str) -> list[HintWin]:
    """Of all such pairs in trees that are done, those that have a readable verdict."""
    rows = db.execute(
        "SELECT persona, one.turn, "
        "CASE winner WHEN one.id THEN one.hinted WHEN other.id THEN other.hinted WHEN 'tie' THEN 0.5 END "
        f"FROM (SELECT tree, a, b, {_OUTCOME} AS winner FROM verdicts WHERE judge = ?) AS said "
        "JOIN nodes AS one ON one.tree = said.tree AND one.id = a "
        "JOIN nodes AS other ON other.tree = said.tree AND other.id = b "
        "JOIN trees ON trees.number = said.tree "
        "WHERE winner IS NOT NULL AND one.by = other.by AND one.hinted <> other.hinted AND status = 'done'",
        (judge_number(db, judge),),
    )
    return [HintWin(decode_text(persona), turn, float(won)) for persona, turn, won in rows]


class CallPace(NamedTuple):
    """How fast replies came lately."""

    calls: int
    """The last calls on record, at most some hundreds."""
    first: float
    """When the first of them was sent, seconds since 1970."""
    last: float
    """When the last of their replies was there."""
    a_tree: float | None
    """Calls of a tree that is done, the mean over some; None before any is."""


def read_pace(db: sqlite3.Connection, most: int = 500, trees: int = 20) -> CallPace | None:
    """None as long as no call has a time."""
    count, first, last = db.execute(
        "SELECT count(*), min(began), max(began + took / 1000) FROM (SELECT began, took FROM calls "
        "WHERE began IS NOT NULL ORDER BY id DESC LIMIT ?)",
        (most,),
    ).fetchone()
    if not count:
        return None
    done = db.execute("SELECT id FROM trees WHERE status = 'done' ORDER BY number DESC LIMIT ?", (trees,)).fetchall()
    calls = [_calls_of(db, decode_text(tree)) for (tree,) in done]
    return CallPace(count, first / 1e3, last / 1e3, sum(calls) / len(calls) if calls else None)


def _calls_of(db: sqlite3.Connection, tree: str) -> int:
    first = tree_prefix(tree)
    row = db.execute("SELECT count(*) FROM calls WHERE key BETWEEN ? AND ?", (first, first + b"\xff" * 11)).fetchone()
    return int(row[0])


class RoleTime(NamedTuple):
    """What the calls of one role took, over all of a run."""

    role: str
    calls: int
    seconds: float | None
    """All together; None where no call has a time."""
    tokens: int
    """In and out."""
    bad: int
    """Replies that could not be used."""


def role_times(db: sqlite3.Connection) -> list[RoleTime]:
    """By role. Reads all calls."""
    rows = db.execute(
        "SELECT role, count(*), sum(took) / 1e6, sum(prompt_tokens + completion_tokens), count(error) "
        "FROM calls GROUP BY role ORDER BY role"
    )
    return [RoleTime(*row) for row in rows]
