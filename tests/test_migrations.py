"""Run files of earlier versions: read as they are, and brought up to date when a run goes on in them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

import interalign as ia
from interalign.store import migrations

SETTINGS = {"turns": 2, "candidate": "world:average", "user": "world:user", "judge": "world:judge"}


def export(run: Path) -> bytes:
    out = run.with_suffix(".jsonl")
    ia.export(run, out, format="dpo")
    return out.read_bytes()


def in_version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def without_version_6(db: sqlite3.Connection) -> None:
    """Take away what version 6 added."""
    db.execute("DROP TABLE shard")
    db.execute("DELETE FROM _sqlite_migrations WHERE name LIKE '006%'")
    db.execute("PRAGMA user_version = 5")


def without_version_5(db: sqlite3.Connection) -> None:
    """Let `by` say again which reply is hinted."""
    db.execute("UPDATE nodes SET by = by || '+hint' WHERE hinted")
    db.execute("ALTER TABLE nodes DROP COLUMN hinted")
    db.execute("DELETE FROM _sqlite_migrations WHERE name LIKE '005%'")
    db.execute("PRAGMA user_version = 4")


def without_version_4(db: sqlite3.Connection) -> None:
    """Take away what version 4 added."""
    db.execute("DROP TABLE agents")
    db.execute("DELETE FROM _sqlite_migrations WHERE name LIKE '004%'")
    db.execute("PRAGMA user_version = 3")


def without_version_3(db: sqlite3.Connection) -> None:
    """Take away what version 3 added."""
    for column in ("began", "took", "sends", "server"):
        db.execute(f"ALTER TABLE calls DROP COLUMN {column}")
    db.execute("DROP TABLE servers")
    db.execute("DROP TABLE failed_calls")
    db.execute("DELETE FROM _sqlite_migrations WHERE name LIKE '003%'")
    db.execute("PRAGMA user_version = 2")


def without_version_2(db: sqlite3.Connection) -> None:
    """Give every text a key of its own again."""
    texts = db.execute("SELECT id, id, base, body FROM texts").fetchall()
    db.execute("DROP TABLE texts")
    db.execute("CREATE TABLE texts (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, base INTEGER, body NOT NULL)")
    db.executemany("INSERT INTO texts VALUES (?, ?, ?, ?)", texts)
    db.execute("DELETE FROM _sqlite_migrations WHERE name LIKE '002%'")
    db.execute("PRAGMA user_version = 1")


@pytest.fixture(params=[1, 2, 3, 4, 5])
def old(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A run of two trees as an earlier version wrote it."""
    path = tmp_path / "old.db"
    ia.simulate(path, trees=2, **SETTINGS)
    with closing(sqlite3.connect(path)) as db, db:
        without_version_6(db)
        if request.param < 5:
            without_version_5(db)
        if request.param < 4:
            without_version_4(db)
        if request.param < 3:
            without_version_3(db)
        if request.param < 2:
            without_version_2(db)
    return path


def test_an_old_file_is_read_as_it_is(old: Path, tmp_path: Path) -> None:
    before = old.read_bytes()
    ia.simulate(tmp_path / "new.db", trees=2, **SETTINGS)
    assert export(old) == export(tmp_path / "new.db") != b""
    assert old.read_bytes() == before


def test_a_run_goes_on_in_an_old_file_and_asks_nothing_twice(old: Path, tmp_path: Path) -> None:
    whole = ia.simulate(tmp_path / "new.db", trees=3, **SETTINGS)
    gone_on = ia.simulate(old, trees=3, **SETTINGS)
    assert (in_version(old), gone_on.done, gone_on.calls) == (migrations.VERSION, 3, whole.calls // 3)
    assert export(old) == export(tmp_path / "new.db")


@pytest.mark.parametrize("old", [1, 2], indirect=True)
def test_of_the_calls_of_an_old_file_nobody_knows_when_they_were_made(old: Path) -> None:
    def times() -> set[tuple[object, ...]]:
        with ia.open_run(old) as run:
            calls = run.calls_of("t00000")
            assert run.reply_of(calls[0].key) == calls[0].reply
        return {(call.began, call.seconds, call.reply.server, call.reply.sends) for call in calls}

    assert times() == {(None, None, "", 1)}
    ia.simulate(old, trees=3, **SETTINGS)
    assert times() == {(None, None, "", 1)}
    with ia.open_run(old) as run:
        assert all(call.began and call.seconds for call in run.calls_of("t00002"))


def test_a_fork_of_an_old_file_is_up_to_date(old: Path, tmp_path: Path) -> None:
    ia.simulate(old, fork=tmp_path / "fork.db", trees=2, **SETTINGS | {"judge": "world:judge?noise=1"})
    assert in_version(tmp_path / "fork.db") == migrations.VERSION
    assert in_version(old) < migrations.VERSION


def trees_in(run: Path) -> list[ia.JudgedTree]:
    with ia.open_run(run) as opened:
        return list(opened.judged_trees())


def test_of_an_earlier_file_it_is_known_which_replies_were_hinted(old: Path, tmp_path: Path) -> None:
    ia.simulate(tmp_path / "new.db", trees=2, **SETTINGS)
    seen = [(node.by, node.hinted) for node in trees_in(old)[0].tree.nodes if node.turn == 1]
    assert seen == [("user", False), ("average", True), ("average", False)]
    assert [each.tree.nodes for each in trees_in(old)] == [each.tree.nodes for each in trees_in(tmp_path / "new.db")]
    ia.simulate(old, trees=2, **SETTINGS)
    assert [each.tree.nodes for each in trees_in(old)] == [each.tree.nodes for each in trees_in(tmp_path / "new.db")]


def test_the_notes_of_tools_in_an_earlier_file_are_by_the_candidate(tmp_path: Path) -> None:
    settings = SETTINGS | {"candidate": "cook=stateful_agents:searches"}
    ia.simulate(tmp_path / "run.db", trees=1, **settings)
    trees = trees_in(tmp_path / "run.db")
    with closing(sqlite3.connect(tmp_path / "run.db")) as db, db:
        db.execute("UPDATE annotations SET by = by || '+hint' WHERE name = 'tool' AND node IN ('1', '1/1', '2/1')")
        without_version_6(db)
        without_version_5(db)
    assert trees_in(tmp_path / "run.db") == trees
    ia.simulate(tmp_path / "run.db", trees=1, **settings)
    assert trees_in(tmp_path / "run.db") == trees


def test_hooks_are_found_by_the_words_that_earlier_versions_asked_them_with(tmp_path: Path) -> None:
    """Their calls' keys are made from what they are shown, and that must stay as it was."""
    settings = SETTINGS | {"hooks": {"after_judge": ["hooks_noting:lengths"]}, "turns": 1}
    ia.simulate(tmp_path / "run.db", trees=1, **settings)
    with ia.open_run(tmp_path / "run.db") as run:
        (asked,) = [
            json.loads(call.messages[0].content) for call in run.calls_of("t00000") if call.place.role == "after_judge"
        ]
    assert [reply["by"] for reply in asked["replies"]] == ["average+hint", "average"]
    fields = {"id", "parent", "turn", "role", "text", "by", "call"}
    assert [set(node) for node in (asked["user"], *asked["replies"])] == [fields] * 3
    orders = asked["verdicts"][0]["orders"]
    assert [set(order) for order in orders] == [{"first", "second", "replies", "said"}] * 2


def everything_but_the_times(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        tables = db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY rowid").fetchall()
        steps = db.execute("SELECT id, migration_set, name FROM _sqlite_migrations ORDER BY id").fetchall()
        marks = [db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")]
    return [*tables, *steps, *marks]


def test_a_new_file_has_the_tables_and_records_that_sqlite_utils_would_make(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None)) as db:
        migrations.migrate(db)
    with closing(sqlite3.connect(tmp_path / "same.db", isolation_level=None)) as db:
        steps = Migrations("interalign")
        for number, step in enumerate(migrations.STEPS, start=1):
            steps(name=f"{number:03d}{step.__name__}")(step)
        steps.apply(Database(db))
        db.execute("PRAGMA application_id = 0x49414C4E")
        db.execute(f"PRAGMA user_version = {migrations.VERSION}")
    assert everything_but_the_times(tmp_path / "new.db") == everything_but_the_times(tmp_path / "same.db")
