"""`interalign merge`: the shards of a run in one file, as if it had never been divided."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import interalign as ia
from interalign import api
from interalign.errors import ConfigError
from interalign.store import migrations
from interalign.store.tree_copy import COPIED, DERIVED, OF_THE_FILE, REFERRED

SIMULATION: dict[str, Any] = {"trees": 7, "turns": 2, "seed": 3}
EVALUATION: dict[str, Any] = {"candidate": ["a=world:average", "b=world:blind"], "limit": 5, "turns": 2}
PANEL: dict[str, Any] = {**SIMULATION, "judge": ["world:judge", "world:judge?noise=0.3"], "policy": "beam:2"}
AGENTS: dict[str, Any] = {**SIMULATION, "candidate": "cook=stateful_agents:searches"}
RUNS: dict[str, tuple[Callable[..., ia.RunSummary], dict[str, Any]]] = {
    "simulation": (ia.simulate, SIMULATION),
    "evaluation": (ia.evaluate, EVALUATION),
    "panel": (ia.simulate, PANEL),
    "agents with tools": (ia.simulate, AGENTS),
}


def shards(folder: Path, of: int, grow: Callable[..., Any] = ia.simulate, **settings: Any) -> list[Path]:
    """The shards of a run, each in a file of its own."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"s{number}.db" for number in range(1, of + 1)]
    for number, file in enumerate(files, start=1):
        grow(file, shard=f"{number}/{of}", **{**SIMULATION, **settings} if grow is ia.simulate else settings)
    return files


def exported(run: Path) -> dict[str, bytes]:
    """What `export` and `report` make of a run, the second in which it was begun aside."""
    made = {}
    for kind in ("sft", "dpo", "messages"):
        out = run.with_suffix(f".{kind}")
        ia.export(run, out, format=kind)
        made[kind] = out.read_bytes()
        out.unlink()
    with ia.open_run(run) as opened:
        assert opened.run is not None
        report = api.report_json(api.report(run)).replace(opened.run.created, "")
    return {**made, "report": report.encode()}


def dumped(run: Path) -> dict[str, list[Any]]:
    """Every row of every table but the records of migrations; times do not count."""
    found = {}
    with closing(sqlite3.connect(run)) as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] not in ("began", "took")]
            if not table.startswith("_"):
                chosen = ", ".join(f'"{column}"' for column in columns)
                found[table] = sorted(db.execute(f"SELECT {chosen} FROM {table}").fetchall(), key=repr)
    return found


def calls(run: Path) -> list[Any]:
    """Every call on record, without its times."""
    with ia.open_run(run) as opened:
        return [
            call._replace(began=None, seconds=None)
            for tree in opened.trees()
            for call in sorted(opened.calls_of(tree.id), key=lambda call: call.key)
        ]


@pytest.mark.parametrize("kind", RUNS)
def test_merged_shards_export_and_report_byte_for_byte_as_the_whole_run(kind: str, tmp_path: Path) -> None:
    grow, settings = RUNS[kind]
    whole, merged = tmp_path / "whole" / "run.db", tmp_path / "merged" / "run.db"
    for path in (whole, merged):
        path.parent.mkdir()
    grow(whole, **settings)
    found = api.merge(merged, shards(tmp_path, 3, grow, **settings))
    assert (found.is_whole, found.missing, found.shared.trees) == (True, {}, 0)
    assert exported(merged) == exported(whole)
    assert calls(merged) == calls(whole)
    with ia.open_run(merged) as one, ia.open_run(whole) as other:
        assert list(one.judged_trees()) == list(other.judged_trees())
        assert one.usage_by_model() == other.usage_by_model()
        assert list(one.personas().items()) == list(other.personas().items())
        assert (one.judges(), one.shortfalls(None)) == (other.judges(), other.shortfalls(None))
    again = grow(merged, **settings)
    assert (again.done, again.calls) == (again.trees, 0)


def test_every_table_of_a_run_file_is_merged_or_said_not_to_be(tmp_path: Path) -> None:
    """A new table has to be given its place in store/tree_copy.py, or merge would lose what is in it."""
    with closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None)) as db:
        migrations.migrate(db)
        there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        columns = {table.name: {row[1] for row in db.execute(f"PRAGMA table_info({table.name})")} for table in COPIED}
        numbers = {
            (table.name, row[1])
            for table in COPIED
            for row in db.execute(f"PRAGMA table_info({table.name})")
            if row[2] == "INTEGER"
        }
    assert {table.name for table in COPIED} | {*REFERRED, *DERIVED, *OF_THE_FILE} == there - {"sqlite_sequence"}
    for table in COPIED:
        assert {*table.references, *table.key} <= columns[table.name]
    referring = {(table.name, column) for table in COPIED for column in table.references}
    plain = {"position", "place", "seed", "attempts", "turn", "hinted", "sample", "began", "took", "sends"}
    counts = {"prompt_tokens", "completion_tokens"}
    assert {(table, column) for table, column in numbers - referring if column not in plain | counts} == {
        ("scores", "value")
    }


def test_a_merge_made_twice_or_of_what_is_merged_already_changes_nothing(tmp_path: Path) -> None:
    files = shards(tmp_path, 3)
    out = tmp_path / "out.db"
    api.merge(out, files)
    before = dumped(out)
    for inputs in (files, files[::-1], [*files, files[0]], files[:1]):
        found = api.merge(out, inputs)
        assert found.is_whole
        assert dumped(out) == before
    copied = tmp_path / "copied.db"
    shutil.copy(out, copied)
    found = api.merge(tmp_path / "third.db", [copied, *files])
    assert (found.is_whole, found.shared.trees, found.shared.first[:2]) == (True, 7, ("t00000", "t00001"))
    assert exported(tmp_path / "third.db")["dpo"] == exported(out)["dpo"]


def test_what_came_later_is_added_to_what_is_merged(tmp_path: Path, cli) -> None:
    files = shards(tmp_path, 3)
    ended = cli("merge", "out.db", "s1.db", "s3.db")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        "5 of 7 trees done in out.db, out of 2 files",
        "missing: 2 trees (t00001, t00004) of shard 2/3; run it with --shard 2/3 and merge again, or run the same "
        "command on out.db without --shard",
    ]
    ended = cli("merge", "out.db", "s2.db")
    assert (ended.code, ended.err) == (0, "7 of 7 trees done in out.db, out of 1 file\n")
    api.merge(tmp_path / "once.db", files)
    assert exported(tmp_path / "out.db")["dpo"] == exported(tmp_path / "once.db")["dpo"]


def test_a_merged_file_goes_on_like_any_run_and_closes_its_gaps(tmp_path: Path) -> None:
    files = shards(tmp_path, 3)
    api.merge(tmp_path / "out.db", files[:2])
    summary = ia.simulate(tmp_path / "out.db", **SIMULATION)
    assert (summary.trees, summary.done) == (7, 7)
    api.merge(tmp_path / "once.db", files)
    assert exported(tmp_path / "out.db")["dpo"] == exported(tmp_path / "once.db")["dpo"]
    assert ia.simulate(tmp_path / "out.db", **{**SIMULATION, "trees": 9}).done == 9


def test_gaps_within_a_shard_and_trees_not_done_are_named(tmp_path: Path, cli) -> None:
    shards(tmp_path, 2)
    ia.simulate(tmp_path / "s1.db", shard="1/2", **{**SIMULATION, "trees": 10})
    with closing(sqlite3.connect(tmp_path / "s1.db")) as db, db:
        db.execute("UPDATE trees SET status = 'failed', reason = 'no reply', attempts = 1 WHERE id = 't00002'")
        db.execute("UPDATE trees SET status = 'planned' WHERE id = 't00004'")
    ended = cli("merge", "out.db", "s1.db", "s2.db")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "6 of 10 trees done in out.db, out of 2 files",
        "missing: 2 trees (t00007, t00009) of shard 2/2; run it with --shard 2/2 and merge again, or run the same "
        "command on out.db without --shard",
        "unfinished: 1 tree (t00004); run the shard again and merge, or the same command on out.db without --shard",
        "failed: 1 tree (t00002); run the shard again and merge, or the same command on out.db without --shard",
    ]
    with ia.open_run(tmp_path / "out.db") as run:
        record = run.tree_record("t00002")
        assert record is not None
        assert (record.status, record.reason, record.attempts) == ("failed", "no reply", 1)


def test_missing_conversations_of_an_evaluation_are_counted_by_shard(tmp_path: Path, cli) -> None:
    shards(tmp_path, 3, ia.evaluate, **EVALUATION)
    ended = cli("merge", "out.db", "s1.db", "s2.db")
    assert ended.code == 1
    assert ended.err.splitlines()[1].startswith("missing: 2 trees (number 5, number 6) of shard 3/3; ")


def test_an_unfinished_tree_gives_way_to_the_finished_one_wherever_it_is(tmp_path: Path) -> None:
    files = shards(tmp_path, 2)
    early = tmp_path / "early.db"
    shutil.copy(files[0], early)
    with closing(sqlite3.connect(early)) as db, db:
        db.execute("UPDATE trees SET status = 'planned' WHERE id = 't00002'")
        (number,) = db.execute("SELECT number FROM trees WHERE id = 't00002'").fetchone()
        for table in ("nodes", "verdicts"):
            db.execute(f"DELETE FROM {table} WHERE tree = ?", (number,))
        db.execute("DELETE FROM calls WHERE tree = 't00002' AND id % 2")
        db.execute("DELETE FROM usage")
        db.execute(
            "INSERT INTO usage SELECT role, seat, count(*), sum(prompt_tokens), sum(completion_tokens), count(error) "
            "FROM calls GROUP BY role, seat"
        )
    api.merge(tmp_path / "whole.db", files)
    for order in ([early, *files], [*files, early]):
        out = tmp_path / f"{order[0].stem}-first.db"
        assert api.merge(out, order).is_whole
        assert calls(out) == calls(tmp_path / "whole.db")
    extended = tmp_path / "extended.db"
    assert api.merge(extended, [early]).unfinished.first == ("t00002",)
    assert api.merge(extended, files).is_whole
    with ia.open_run(extended) as one, ia.open_run(tmp_path / "whole.db") as other:
        assert one.usage_by_model() == other.usage_by_model()
    assert calls(extended) == calls(tmp_path / "whole.db")


def test_later_verdicts_come_along_also_for_trees_that_are_there(tmp_path: Path) -> None:
    files = shards(tmp_path, 2)
    out = tmp_path / "out.db"
    api.merge(out, files)
    api.judge(files[1], judge="world:judge?noise=0.4")
    api.merge(out, files)
    with ia.open_run(out) as run, ia.open_run(files[1]) as shard:
        assert run.judges() == ["world:judge", "world:judge?noise=0.4"]
        mine = {tree.tree.id: tree for tree in run.judged_trees()}
        for tree in shard.judged_trees():
            assert mine[tree.tree.id].verdicts == tree.verdicts
        assert [len(tree.judges()) for tree in mine.values()] == [1, 2, 1, 2, 1, 2, 1]
    api.judge(out, judge="world:judge?noise=0.9")
    before = dumped(out)
    api.merge(out, files)
    assert dumped(out) == before


def test_annotations_of_a_user_are_merged(tmp_path: Path) -> None:
    settings = {**SIMULATION, "hooks": {"after_judge": ["hooks_noting:lengths"]}}
    files = shards(tmp_path, 2, **settings)
    ia.simulate(tmp_path / "whole.db", **settings)
    api.merge(tmp_path / "out.db", files)
    with ia.open_run(tmp_path / "out.db") as one, ia.open_run(tmp_path / "whole.db") as other:
        notes = [tree.annotations for tree in one.judged_trees()]
        assert notes == [tree.annotations for tree in other.judged_trees()]
        assert any(note.name == "words" for tree in notes for note in tree)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 4}, "seed 3 -> 4"),
        ({"turns": 3}, "turns 2 -> 3"),
        ({"candidate": "world:blind"}, "candidate average=world:average -> blind=world:blind"),
        ({"system": "Be brief."}, "system null -> "),
    ],
)
def test_a_file_of_another_run_is_refused_and_the_first_setting_that_differs_is_named(
    change: dict[str, Any], says: str, tmp_path: Path, cli
) -> None:
    shards(tmp_path, 2)
    ia.simulate(tmp_path / "other.db", shard="2/2", **{**SIMULATION, **change})
    for words in (("out.db", "s1.db", "other.db"), ("out.db", "s1.db", "s2.db", "other.db")):
        ended = cli("merge", *words)
        assert ended.code == 2
        assert ended.err.count("\n") == 1
        assert f"other.db is of another run than {tmp_path}/s1.db" in ended.err
        assert says in ended.err
        assert not (tmp_path / "out.db").exists()
    api.merge(tmp_path / "out.db", [tmp_path / "s1.db"])
    before = dumped(tmp_path / "out.db")
    ended = cli("merge", "out.db", "other.db")
    assert ended.code == 2
    assert dumped(tmp_path / "out.db") == before


def test_a_simulation_and_an_evaluation_are_not_merged(tmp_path: Path, cli) -> None:
    ia.simulate(tmp_path / "a.db", trees=1, turns=1)
    ia.evaluate(tmp_path / "b.db", candidate="world:blind", limit=1, turns=1)
    ended = cli("merge", "out.db", "a.db", "b.db")
    assert ended.code == 2
    assert "a.db holds a simulation and " in ended.err


def test_a_tree_that_is_finished_in_two_versions_is_refused_and_nothing_is_changed(tmp_path: Path, cli) -> None:
    files = shards(tmp_path, 2)
    out = tmp_path / "out.db"
    api.merge(out, files[:1])
    before = dumped(out)
    with closing(sqlite3.connect(files[0])) as db, db:
        db.execute("UPDATE texts SET body = body || ' Really.' WHERE id = (SELECT min(text) FROM nodes)")
    ended = cli("merge", "out.db", "s2.db", "s1.db")
    assert ended.code == 2
    assert "is not the same in " in ended.err
    assert "(its messages); leave one of the files out" in ended.err
    assert dumped(out) == before


@pytest.mark.parametrize("words", [("out.db",), ("out.db", "none.db"), ("out.db", "text.db"), ("text.db", "s1.db")])
def test_what_cannot_be_merged_is_refused_in_one_line(words: tuple[str, ...], tmp_path: Path, cli) -> None:
    ia.simulate(tmp_path / "s1.db", trees=1, turns=1)
    (tmp_path / "text.db").write_text("not a run\n" * 100)
    ended = cli("merge", *words)
    assert ended.code == 2
    assert not (tmp_path / "out.db").exists()
    assert (tmp_path / "text.db").read_text() == "not a run\n" * 100


def test_out_must_not_be_one_of_the_files_to_merge(tmp_path: Path, cli) -> None:
    shards(tmp_path, 2)
    (tmp_path / "link.db").symlink_to(tmp_path / "s1.db")
    for out in ("s1.db", "./s1.db", "link.db"):
        ended = cli("merge", out, "s1.db", "s2.db")
        assert (ended.code, ended.err.count("\n")) == (2, 1)
        assert "is read by this command and would be overwritten" in ended.err
    ended = cli("merge", "s2.db", "s1.db")
    assert ended.code == 2
    assert "s2.db is a shard of the run and would be changed" in ended.err


def test_a_pool_of_personas_is_not_merged(tmp_path: Path) -> None:
    api.personas_by_model(tmp_path / "people.jsonl", model="world:personas", n=2)
    with pytest.raises(ConfigError, match="merge needs conversations"):
        api.merge(tmp_path / "out.db", [tmp_path / "people.jsonl.db"])


def test_shards_of_an_earlier_version_are_merged(tmp_path: Path) -> None:
    then = Path(__file__).parent / "data" / "run_2390903"
    shutil.copy(then / "sim.db", tmp_path / "sim.db")
    assert api.merge(tmp_path / "out.db", [tmp_path / "sim.db"]).is_whole
    out = tmp_path / "sim.jsonl"
    ia.export(tmp_path / "out.db", out, format="dpo")
    assert out.read_text() == (then / "sim.dpo.jsonl").read_text()


def test_json_within_a_row_is_given_the_numbers_of_the_new_file(tmp_path: Path) -> None:
    files = shards(tmp_path, 2, judging="score")
    api.merge(tmp_path / "out.db", files[::-1])
    with closing(sqlite3.connect(tmp_path / "out.db")) as db:
        texts = {number for (number,) in db.execute("SELECT id FROM texts")}
        used = [json.loads(replies) for (replies,) in db.execute("SELECT replies FROM scores")]
    assert used
    assert {number for replies in used for number in replies} <= texts
