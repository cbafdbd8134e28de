"""Run files of earlier versions: read as they are, and brought up to date when a run goes on in them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import interalign as ia
from interalign import migrations

SETTINGS = {"turns": 2, "candidate": "world:average", "user": "world:user", "judge": "world:judge"}


def export(run: Path) -> bytes:
    out = run.with_suffix(".jsonl")
    ia.export(run, out, format="dpo")
    return out.read_bytes()


def in_version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run of two trees as version 1 wrote it: every text has a key of its own."""
    path = tmp_path / "old.db"
    ia.simulate(path, trees=2, **SETTINGS)
    with closing(sqlite3.connect(path)) as db, db:
        texts = db.execute("SELECT id, id, base, body FROM texts").fetchall()
        db.execute("DROP TABLE texts")
        db.execute("CREATE TABLE texts (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, base INTEGER, body NOT NULL)")
        db.executemany("INSERT INTO texts VALUES (?, ?, ?, ?)", texts)
        db.execute("DELETE FROM _sqlite_migrations WHERE name LIKE '002%'")
        db.execute("PRAGMA user_version = 1")
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
