"""The tables of a run file, one small step after the other. A step is never edited once it was released."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x49414C4E
"""What `PRAGMA application_id` of every run file says (`IALN`); no other file is touched."""

Step = Callable[["Database | sqlite3.Connection"], None]


def _tables(db: "Database | sqlite3.Connection") -> None:
    """Version 1. Columns `text` and `reply` hold ids of `texts`; `tree` is a number of `trees`, in `calls` its id."""
    for statement in _VERSION_1.split(";;"):
        db.execute(statement)


_VERSION_1 = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL, kind TEXT NOT NULL, identity TEXT NOT NULL, created TEXT NOT NULL, version TEXT NOT NULL
);;
CREATE TABLE personas (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, persona TEXT NOT NULL);;
CREATE TABLE trees (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, position INTEGER NOT NULL,
    persona TEXT NOT NULL, seed INTEGER NOT NULL, candidate TEXT, "case" TEXT,
    status TEXT NOT NULL DEFAULT 'planned', reason TEXT, attempts INTEGER NOT NULL DEFAULT 0
);;
CREATE INDEX trees_by_position ON trees (position, number);;
CREATE TABLE texts (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, base INTEGER, body NOT NULL);;
CREATE TABLE nodes (
    tree INTEGER NOT NULL, id TEXT NOT NULL, parent TEXT, turn INTEGER NOT NULL, role TEXT NOT NULL,
    text INTEGER NOT NULL, by TEXT NOT NULL, call TEXT,
    PRIMARY KEY (tree, id)
) WITHOUT ROWID;;
CREATE TABLE judges (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);;
CREATE TABLE verdicts (
    tree INTEGER NOT NULL, judge INTEGER NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL, orders TEXT NOT NULL,
    PRIMARY KEY (tree, judge, a, b)
) WITHOUT ROWID;;
CREATE TABLE scores (
    tree INTEGER NOT NULL, judge INTEGER NOT NULL, node TEXT NOT NULL, replies TEXT NOT NULL, value INTEGER,
    PRIMARY KEY (tree, judge, node)
) WITHOUT ROWID;;
CREATE TABLE annotations (
    id INTEGER PRIMARY KEY, tree INTEGER NOT NULL, node TEXT NOT NULL, name TEXT NOT NULL, by TEXT NOT NULL,
    value NOT NULL,
    UNIQUE (tree, node, name, by)
);;
CREATE TABLE seats (
    id INTEGER PRIMARY KEY, asked TEXT NOT NULL, answered TEXT NOT NULL, parameters TEXT NOT NULL,
    UNIQUE (asked, answered, parameters)
);;
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE,
    tree TEXT NOT NULL, node TEXT NOT NULL, role TEXT NOT NULL, sample INTEGER NOT NULL,
    seat INTEGER NOT NULL, prompt TEXT NOT NULL, reply INTEGER NOT NULL, finish_reason TEXT,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, error TEXT
);;
CREATE TABLE usage (
    role TEXT NOT NULL, seat INTEGER NOT NULL,
    calls INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, bad INTEGER NOT NULL,
    PRIMARY KEY (role, seat)
) WITHOUT ROWID
"""


def _texts_without_keys(db: "Database | sqlite3.Connection") -> None:
    """Version 2. A text is found by who refers to it, so it needs no key of its own: less to write, less to keep."""
    for statement in _VERSION_2.split(";;"):
        db.execute(statement)


_VERSION_2 = """
CREATE TABLE kept (id INTEGER PRIMARY KEY, base INTEGER, body NOT NULL);;
INSERT INTO kept SELECT id, base, body FROM texts;;
DROP TABLE texts;;
ALTER TABLE kept RENAME TO texts
"""


def _times_of_calls(db: "Database | sqlite3.Connection") -> None:
    """Version 3. When each call began and how long it took, its requests and its server; what a failed tree asked
    last. NULL for the calls of earlier versions.
    """
    for statement in _VERSION_3.split(";;"):
        db.execute(statement)


_VERSION_3 = """
CREATE TABLE servers (id INTEGER PRIMARY KEY, address TEXT NOT NULL UNIQUE);;
ALTER TABLE calls ADD COLUMN began INTEGER;;
ALTER TABLE calls ADD COLUMN took INTEGER;;
ALTER TABLE calls ADD COLUMN sends INTEGER;;
ALTER TABLE calls ADD COLUMN server INTEGER;;
CREATE TABLE failed_calls (
    tree TEXT PRIMARY KEY, node TEXT NOT NULL, role TEXT NOT NULL, sample INTEGER NOT NULL,
    asked TEXT NOT NULL, parameters TEXT NOT NULL, prompt TEXT NOT NULL, error TEXT,
    began INTEGER, took INTEGER, sends INTEGER, server INTEGER
) WITHOUT ROWID
"""
"""`began`: ms since 1970; `took`: microseconds; `server`: a number of `servers`, NULL for none."""


def _agents(db: "Database | sqlite3.Connection") -> None:
    """Version 4. What agents remember after a call, and the tools that they used for it."""
    db.execute(_VERSION_4)


_VERSION_4 = "CREATE TABLE agents (key BLOB PRIMARY KEY, path BLOB NOT NULL, state BLOB, tools TEXT)"
"""`key`: of the call; `path`: of what was said before it, 16 bytes."""


def _hinted(db: "Database | sqlite3.Connection") -> None:
    """Version 5. Whether a reply was hinted is a column; before, nodes and notes of tools were by `NAME+hint`."""
    for statement in _VERSION_5.split(";;"):
        db.execute(statement)


_VERSION_5 = """
ALTER TABLE nodes ADD COLUMN hinted INTEGER NOT NULL DEFAULT 0;;
UPDATE nodes SET hinted = 1, by = substr(by, 1, length(by) - 5) WHERE by LIKE '%+hint';;
UPDATE OR IGNORE annotations SET by = substr(by, 1, length(by) - 5) WHERE name = 'tool' AND by LIKE '%+hint'
"""
"""No candidate's name holds a `+`."""


def _shard(db: "Database | sqlite3.Connection") -> None:
    """Version 6. Which part of a run the file holds; no row in the file of a run that was never sharded."""
    db.execute(_VERSION_6)


_VERSION_6 = """
CREATE TABLE shard (
    id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER, of INTEGER, trees INTEGER NOT NULL
)"""
"""`number` of `of`; both NULL after a merge. `trees`: those of the whole run."""


def _labels(db: "Database | sqlite3.Connection") -> None:
    """Version 7. People's labels, which questions were planned to be put to them, and by what instructions."""
    for statement in _VERSION_7.split(";;"):
        db.execute(statement)


_VERSION_7 = """
CREATE TABLE label_questions (
    tree INTEGER NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL, place INTEGER NOT NULL, probability REAL NOT NULL,
    PRIMARY KEY (tree, a, b)
) WITHOUT ROWID;;
CREATE TABLE instructions (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);;
CREATE TABLE labels (
    tree INTEGER NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL, who TEXT NOT NULL, answer TEXT NOT NULL,
    first TEXT NOT NULL, at TEXT NOT NULL, instructions INTEGER,
    PRIMARY KEY (tree, a, b, who)
) WITHOUT ROWID
"""
"""`a`, `b`: ids of two replies, the second empty where one reply is scored; `answer`: `a`, `b`, `tie` or 1 to 5."""

STEPS: tuple[Step, ...] = (_tables, _texts_without_keys, _times_of_calls, _agents, _hinted, _shard, _labels)
VERSION = len(STEPS)
"""What `PRAGMA user_version` of an up-to-date run file says."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a new or older run file to VERSION, all steps with their records in one transaction."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
        return
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        _create(connection)
    else:
        _bring_up_to_date(connection)


def _create(connection: sqlite3.Connection) -> None:
    """All tables of a new file, with the records that sqlite-utils would keep of the steps."""
    # Not by sqlite-utils: it imports pandas where that is installed, 0.25 CPU s and 65 MB at every new run.
    connection.execute("BEGIN")
    for statement in _RECORDS.split(";;"):
        connection.execute(statement)
    for name, step in _named_steps():
        step(connection)
        record = ("interalign", name, str(datetime.now(UTC)))
        connection.execute("INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, ?)", record)
    _stamp(connection)
    connection.execute("COMMIT")


_RECORDS = """
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);;
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name")"""


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """The steps that a file of an earlier version has no record of."""
    from sqlite_utils import Database, Migrations

    steps = Migrations("interalign")
    for name, step in _named_steps():
        steps(name=name)(step)
    database = Database(connection, execute_plugins=False)
    with database.atomic():
        steps.apply(database)
        _stamp(connection)


def _named_steps() -> list[tuple[str, Step]]:
    return [(f"{number:03d}{step.__name__}", step) for number, step in enumerate(STEPS, start=1)]


def _stamp(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def read_as_newest(connection: sqlite3.Connection) -> None:
    """Let a connection that cannot write read a file of an earlier version as if it were up to date."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version >= VERSION:
        return
    connection.execute("PRAGMA temp_store = MEMORY")
    for statement in _AS_VERSION_3.split(";;") if version < 3 else ():
        connection.execute(statement)
    if version < 4:
        connection.execute("CREATE TEMP TABLE agents (key BLOB, path BLOB, state BLOB, tools TEXT)")
    for statement in _AS_VERSION_5.split(";;") if version < 5 else ():
        connection.execute(statement)
    if version < 6:
        connection.execute("CREATE TEMP TABLE shard (id INTEGER, number INTEGER, of INTEGER, trees INTEGER)")
    for statement in _VERSION_7.replace("CREATE TABLE", "CREATE TEMP TABLE").split(";;"):
        connection.execute(statement)


_AS_VERSION_5 = """
CREATE TEMP VIEW nodes AS
SELECT tree, id, parent, turn, role, text, by LIKE '%+hint' AS hinted,
CASE WHEN by LIKE '%+hint' THEN substr(by, 1, length(by) - 5) ELSE by END AS by, call FROM main.nodes;;
CREATE TEMP VIEW annotations AS
SELECT id, tree, node, name,
CASE WHEN name = 'tool' AND by LIKE '%+hint' THEN substr(by, 1, length(by) - 5) ELSE by END AS by, value
FROM main.annotations
"""

_AS_VERSION_3 = """
CREATE TEMP VIEW calls AS
SELECT *, NULL AS began, NULL AS took, NULL AS sends, NULL AS server FROM main.calls;;
CREATE TEMP TABLE servers (id INTEGER PRIMARY KEY, address TEXT);;
CREATE TEMP TABLE failed_calls (
    tree TEXT, node TEXT, role TEXT, sample INTEGER, asked TEXT, parameters TEXT, prompt TEXT, error TEXT,
    began INTEGER, took INTEGER, sends INTEGER, server INTEGER
)
"""
