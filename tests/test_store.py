"""The run file: what goes in comes out, nothing else is touched, two never write."""

import asyncio
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from until import rounds, until

from interalign.errors import ConfigError, LockedError
from interalign.personas import Persona
from interalign.records import TreeRecord, Usage
from interalign.store import Store
from interalign.store.group_commit import GroupCommitWriter
from interalign.tree import Annotation, Frozen, Node, Presentation, Score, Verdict

ANNA = Persona(id="anna", profile=("Anna keeps bees.",), personality="Short and dry.")
BEN = Persona(id="ben", profile=("Ben bakes bread.",), personality="Warm and chatty.")


class TurnOf(Frozen):
    nodes: tuple[Node, ...]
    verdicts: tuple[Verdict, ...]
    scores: tuple[Score, ...]
    annotations: tuple[Annotation, ...]


def user(node: str, text: str, parent: str | None = None, turn: int = 1) -> Node:
    return Node(id=node, parent=parent, turn=turn, role="user", text=text, by="user")


def reply(node: str, text: str, parent: str = "u", turn: int = 1, by: str = "plain", hinted: bool = False) -> Node:
    call = "0123456789abcdef" * 2
    return Node(id=node, parent=parent, turn=turn, role="assistant", text=text, by=by, hinted=hinted, call=call)


def verdict(judge: str, said: str = "first") -> Verdict:
    there, back = ("A", "B") if said == "first" else ("B", "A")
    return Verdict(
        judge=judge,
        a="1",
        b="2",
        orders=(
            Presentation(first="1", second="2", replies=("Hm.", f"Verdict: {there}"), value=there),
            Presentation(first="2", second="1", replies=(f"Verdict: {back}",), value=back),
        ),
    )


def first_turn(judge: str = "strict") -> TurnOf:
    return TurnOf(
        nodes=(user("u", "What shall I cook?"), reply("1", "Soup."), reply("2", "Honey cake?", hinted=True)),
        verdicts=(verdict(judge, "second"),),
        scores=(Score(judge=judge, node="2", replies=("Score: 4",), value=4),),
        annotations=(
            Annotation(node="u", name="hint", by="inducer", value="Keeps bees."),
            Annotation(node="u", name="mood", by="plugin", value={"calm": 0.5, "words": ["a", None]}),
        ),
    )


def plan(*trees: str) -> list[TreeRecord]:
    return [TreeRecord(id=tree, index=index, persona="anna", seed=7) for index, tree in enumerate(trees)]


def save(store: Store, tree: str, turn: TurnOf) -> None:
    asyncio.run(store.save_turn(tree, turn.nodes, turn.verdicts, turn.scores, turn.annotations))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create_or_open(tmp_path / "run.db") as opened:
        opened.begin_run("run", "simulation", {"seed": 0}, "0.1.0")
        opened.add_personas([ANNA, BEN])
        yield opened


# What goes in comes out ---------------------------------------------------------------------------


def test_a_tree_comes_back_with_all_that_was_said_about_it(store: Store) -> None:
    store.plan_trees(plan("t0"))
    turn = first_turn()
    save(store, "t0", turn)
    judged = store.judged_tree("t0")
    assert judged is not None
    assert (judged.tree.id, judged.tree.run, judged.tree.persona, judged.tree.seed) == ("t0", "run", "anna", 7)
    assert judged.tree.nodes == turn.nodes
    assert judged.verdicts == turn.verdicts
    assert judged.scores == turn.scores
    assert judged.annotations == turn.annotations


def test_a_tree_without_nodes_and_an_unknown_tree_are_none(store: Store) -> None:
    store.plan_trees(plan("t0"))
    assert store.judged_tree("t0") is None
    assert store.judged_tree("t1") is None
    assert store.judged_tree("\ud800") is None


def test_a_closed_run_reads_the_same_in_another_process(store: Store) -> None:
    store.plan_trees(plan("t0"))
    save(store, "t0", first_turn())
    here = store.judged_tree("t0")
    store.close()
    code = "import sys; from pathlib import Path; from interalign.store import Store\n"
    code += "print(Store.open(Path(sys.argv[1])).judged_tree('t0').model_dump_json())"
    there = subprocess.run([sys.executable, "-c", code, store.path], capture_output=True, text=True, check=True)
    assert here is not None
    assert there.stdout.strip() == here.model_dump_json()


def test_saving_a_turn_twice_changes_nothing(store: Store) -> None:
    store.plan_trees(plan("t0"))
    save(store, "t0", first_turn())
    once = dump(store.path)
    save(store, "t0", first_turn())
    assert dump(store.path) == once


def test_a_turn_is_saved_whole_or_not_at_all_and_spoils_no_other(store: Store) -> None:
    store.plan_trees(plan("good", "bad"))
    good = first_turn()
    other = good.model_copy(update={"nodes": (user("u", "Any news?"), reply("1", "No."), reply("2", "Yes."))})
    bad = other.model_copy(update={"annotations": (Annotation(node="\ud800", name="x", by="x", value=1),)})

    async def both() -> Sequence[object]:
        # Queued together, so they share a transaction until the fault of one shows.
        turns = (store.save_turn(tree, *parts(turn)) for tree, turn in (("bad", bad), ("good", good)))
        return await asyncio.gather(*turns, return_exceptions=True)

    outcome = asyncio.run(both())
    assert isinstance(outcome[0], UnicodeEncodeError)
    assert outcome[1] is None
    assert store.judged_tree("bad") is None
    judged = store.judged_tree("good")
    assert judged is not None
    assert judged.tree.nodes == good.nodes
    assert judged.verdicts == good.verdicts
    # Nothing of the failed attempt is remembered either: the same texts are stored again, and found.
    save(store, "bad", other)
    again = store.judged_tree("bad")
    assert again is not None
    assert again.tree.nodes == other.nodes


def parts(turn: TurnOf) -> tuple[Sequence[Node], Sequence[Verdict], Sequence[Score], Sequence[Annotation]]:
    return turn.nodes, turn.verdicts, turn.scores, turn.annotations


def test_a_turn_of_a_tree_that_was_never_planned_is_refused(store: Store) -> None:
    with pytest.raises(KeyError, match="'t9' was never planned"):
        save(store, "t9", first_turn())


def test_nodes_are_listed_alike_in_whatever_order_they_were_saved(store: Store) -> None:
    replies = [reply(str(number), f"Reply {number}.") for number in range(1, 12)]
    later = [user("10/u", "More?", "10", 2), reply("10/1", "Yes.", "10/u", 2), user("2/u", "Why?", "2", 2)]
    nodes = [user("u", "Hello?"), *replies, *later]
    orders = ((0, 1, 2), (2, 0, 1), (1, 2, 0))
    store.plan_trees(plan("0", "1", "2"))
    for tree, order in enumerate(orders):
        thirds = (nodes[:1], nodes[1:7], nodes[7:])
        for part in order:
            asyncio.run(store.save_turn(str(tree), thirds[part], (), (), ()))
    listed = [tuple(node.id for node in judged.tree.nodes) for judged in store.judged_trees(None)]
    expected = ("u", *(str(number) for number in range(1, 12)), "2/u", "10/u", "10/1")
    assert listed == [expected, expected, expected]


def test_trees_are_listed_by_index_and_picked_by_status(store: Store) -> None:
    store.plan_trees(reversed(plan("t0", "t1", "t2", "t3")))
    for tree in ("t3", "t1", "t0"):
        save(store, tree, first_turn())
    asyncio.run(store.finish_tree("t3"))
    asyncio.run(store.finish_tree("t1"))
    asyncio.run(store.finish_tree("t0", failed="no usable reply"))
    assert [tree.id for tree in store.trees()] == ["t0", "t1", "t2", "t3"]
    assert [judged.tree.id for judged in store.judged_trees()] == ["t1", "t3"]
    assert [judged.tree.id for judged in store.judged_trees("failed")] == ["t0"]
    assert [judged.tree.id for judged in store.judged_trees(None)] == ["t0", "t1", "t3"]


def test_a_tree_may_fail_twice_and_then_be_done(store: Store) -> None:
    store.plan_trees(plan("t0"))
    asyncio.run(store.finish_tree("t0", failed="refused \ud800"))
    asyncio.run(store.finish_tree("t0", failed="refused again"))
    failed = store.trees()[0]
    assert (failed.status, failed.reason, failed.attempts) == ("failed", "refused again", 2)
    asyncio.run(store.finish_tree("t0"))
    done = store.trees()[0]
    assert (done.status, done.reason, done.attempts) == ("done", None, 2)


def test_planning_again_keeps_what_stands_and_adds_what_is_new(store: Store) -> None:
    store.plan_trees(plan("t0"))
    asyncio.run(store.finish_tree("t0"))
    case = TreeRecord(id="blind/c1", index=5, persona="ben", seed=2**62, candidate="blind", case="c1")
    store.plan_trees([*plan("t0", "t1"), case])
    assert [(tree.id, tree.status) for tree in store.trees()] == [
        ("t0", "done"),
        ("t1", "planned"),
        ("blind/c1", "planned"),
    ]
    assert store.trees()[2] == case


def test_trees_are_walked_in_their_order_though_they_change_meanwhile(store: Store) -> None:
    store.plan_trees(plan(*(f"t{number}" for number in range(600))))
    asyncio.run(store.finish_tree("t3"))
    asyncio.run(store.finish_tree("t4", failed="too long"))
    walked = []
    for tree in store.walk_trees("planned", "failed"):
        walked.append(tree.id)
        if tree.index % 100 == 0:
            asyncio.run(store.finish_tree(tree.id, failed="again"))  # it stays behind
    assert walked == [f"t{number}" for number in range(600) if number != 3]
    assert [tree.id for tree in store.walk_trees("done")] == ["t3"]
    assert store.count_trees() == {"done": 1, "failed": 7, "planned": 592}


def test_one_persona_is_found_by_its_id(store: Store) -> None:
    assert store.persona("ben") == BEN
    with pytest.raises(KeyError):
        store.persona("nobody")


def test_personas_keep_their_order_and_the_newest_words(store: Store) -> None:
    changed = ANNA.model_copy(update={"profile": ("Likes \ud83d\ude00, not \U0001f600.",)})
    store.add_personas([changed, BEN])
    assert list(store.personas().items()) == [("anna", changed), ("ben", BEN)]


def test_a_name_that_sqlite_cannot_hold_is_refused_in_one_line(store: Store) -> None:
    with pytest.raises(ConfigError, match="cannot be stored"):
        store.plan_trees([TreeRecord(id="\ud800", index=0, persona="anna", seed=1)])
    with pytest.raises(ConfigError, match="cannot be stored"):
        store.plan_trees([TreeRecord(id="t0", index=0, persona="anna", seed=2**63)])
    assert store.trees() == []


# Judging again ------------------------------------------------------------------------------------


def test_judging_again_replaces_what_this_judge_said_and_keeps_the_others(store: Store) -> None:
    store.plan_trees(plan("t0"))
    save(store, "t0", first_turn("strict"))
    asyncio.run(store.save_judgement("t0", [verdict("mild", "first")], []))
    asyncio.run(store.save_judgement("t0", [verdict("strict", "first")], []))
    judged = store.judged_tree("t0")
    assert judged is not None
    assert [(said.judge, said.outcome) for said in judged.verdicts] == [("strict", "a"), ("mild", "a")]
    assert [score.value for score in judged.by_judge("strict").scores] == [4]


def test_the_newest_judge_is_the_one_first_asked_last(store: Store) -> None:
    assert store.newest_judge() is None
    store.plan_trees(plan("t0"))
    save(store, "t0", first_turn("strict"))
    asyncio.run(store.save_judgement("t0", [verdict("mild")], []))
    asyncio.run(store.save_judgement("t0", [verdict("strict")], []))
    assert store.judges() == ["strict", "mild"]
    assert store.newest_judge() == "mild"


# The run's identity -------------------------------------------------------------------------------


def test_a_run_begun_again_with_the_same_settings_is_the_same_run(tmp_path: Path) -> None:
    identity = {"seed": 3, "user": {"model": "world:user", "temperature": 1.0}, "tags": ["a", "b"]}
    with Store.create_or_open(tmp_path / "run.db") as store:
        assert store.run is None
        begun = store.begin_run("run", "simulation", identity, "0.1.0")
    with Store.create_or_open(tmp_path / "run.db") as store:
        reordered = dict(reversed(identity.items()))
        assert store.begin_run("other", "simulation", reordered, "0.2.0") == begun
    assert (begun.name, begun.kind, begun.identity, begun.version) == ("run", "simulation", identity, "0.1.0")
    assert begun.created.endswith("+00:00")


def test_changed_candidates_are_named_as_one_writes_them(tmp_path: Path) -> None:
    def seated(**models: str) -> dict[str, object]:
        return {"candidate": [{"name": name, "model": model} for name, model in models.items()]}

    with Store.create_or_open(tmp_path / "run.db") as store:
        store.begin_run("run", "simulation", seated(a="openai:a", b="openai:b"), "0.1.0")
        with pytest.raises(ConfigError, match=r"\(changed: candidate a=openai:a, b=openai:b -> a=openai:c\)"):
            store.begin_run("run", "simulation", seated(a="openai:c"), "0.1.0")


def test_changed_settings_are_refused_and_named_old_and_new(store: Store) -> None:
    with pytest.raises(ConfigError) as refusal:
        store.begin_run("run", "simulation", {"seed": 1, "user": {"model": "m" * 60}}, "0.1.0")
    assert str(refusal.value) == (
        f"{store.path} was started with other settings (changed: seed 0 -> 1, user.model null -> {'m' * 37}...); "
        "restore them, or start a copy with --fork OTHER.db"
    )
    assert store.begin_run("run", "simulation", {"seed": 0}, "0.1.0").identity == {"seed": 0}


def test_only_the_first_five_of_many_changes_are_named(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"seed 0 -> 9, s1 null -> 1, .*s4 null -> 4, and 3 more\)"):
        store.begin_run("run", "simulation", {"seed": 9} | {f"s{n}": n for n in range(1, 8)}, "0.1.0")


def test_an_evaluation_does_not_go_into_the_file_of_a_simulation(store: Store) -> None:
    with pytest.raises(ConfigError, match="holds a simulation; give the evaluation a file of its own"):
        store.begin_run("run", "evaluation", {"seed": 0}, "0.1.0")


def test_a_fork_keeps_personas_and_leaves_run_and_trees_behind(store: Store, tmp_path: Path) -> None:
    store.plan_trees(plan("t0"))
    save(store, "t0", first_turn())
    Store.fork(store.path, tmp_path / "fork.db")
    with Store.create_or_open(tmp_path / "fork.db") as fork:
        assert fork.run is None
        assert fork.trees() == []
        assert fork.judges() == []
        assert list(fork.personas()) == ["anna", "ben"]
        fork.begin_run("fork", "simulation", {"seed": 1}, "0.1.0")
        fork.plan_trees(plan("t0"))
        assert fork.judged_tree("t0") is None
    assert store.judged_tree("t0") is not None
    assert store.run is not None
    assert store.run.identity == {"seed": 0}


def test_a_fork_overwrites_nothing_and_needs_a_source(store: Store, tmp_path: Path) -> None:
    (tmp_path / "there.db").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        Store.fork(store.path, tmp_path / "there.db")
    assert (tmp_path / "there.db").read_text() == "mine"
    with pytest.raises(ConfigError, match="does not exist"):
        Store.fork(tmp_path / "gone.db", tmp_path / "fork.db")
    assert not (tmp_path / "fork.db").exists()


# What is refused ----------------------------------------------------------------------------------


def a_text_file(path: Path) -> None:
    path.write_text("name,score\n" * 100)


def another_sqlite_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE runs (id INTEGER)")


def another_program_at_work(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE runs (id INTEGER)")


def a_run(path: Path) -> None:
    with Store.create_or_open(path) as store:
        store.begin_run("run", "simulation", {"seed": 0}, "0.1.0")
        store.plan_trees(plan(*(f"t{number}" for number in range(2000))))


def a_cut_off_run(path: Path) -> None:
    a_run(path)
    os.truncate(path, path.stat().st_size // 2)


def a_run_with_garbage_in_it(path: Path) -> None:
    a_run(path)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xa5" * 8192)


def a_run_of_a_newer_version(path: Path) -> None:
    a_run(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def a_folder(path: Path) -> None:
    path.mkdir()


REFUSED: tuple[tuple[Callable[[Path], None], str], ...] = (
    (a_text_file, "not a run file"),
    (another_sqlite_file, "another program's file"),
    (another_program_at_work, "another program's file"),
    (a_cut_off_run, "is damaged"),
    (a_run_with_garbage_in_it, "is damaged"),
    (a_run_of_a_newer_version, "newer interalign .*file version 99.* upgrade"),
    (a_folder, "is a folder"),
)


@pytest.mark.parametrize("opening", [Store.create_or_open, Store.open], ids=["for writing", "for reading"])
@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_what_is_no_run_file_is_refused_and_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], None], message: str, opening: Callable[[Path], Store]
) -> None:
    path = tmp_path / "run.db"
    make(path)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=message) as refusal:
        opening(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


@pytest.mark.parametrize("place", ["missing/run.db", "file/run.db"])
def test_a_path_without_a_folder_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ConfigError, match=r"the folder .* does not exist; create it first"):
        Store.create_or_open(tmp_path / place)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_reading_a_run_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        Store.open(tmp_path / "run.db")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_becomes_a_run(tmp_path: Path) -> None:
    (tmp_path / "run.db").touch()
    with Store.create_or_open(tmp_path / "run.db") as store:
        store.begin_run("run", "simulation", {}, "0.1.0")
    with Store.open(tmp_path / "run.db") as store:
        assert store.run is not None


def test_a_store_opened_for_reading_does_not_write(store: Store) -> None:
    with Store.open(store.path) as reader, pytest.raises(ConfigError, match="opened for reading only"):
        reader.plan_trees(plan("t0"))


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody can write, not even root, holding `run.db`: a real read-only mount."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder))
    try:
        a_run(folder / "run.db")
        mount("-o", "remount,ro", str(folder))
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def mount(*words: str) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    if subprocess.run(["mount", *words], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")


def test_a_read_only_folder_is_refused_for_writing_and_good_for_reading(read_only: Path) -> None:
    with pytest.raises(ConfigError, match="read-only"):
        Store.create_or_open(read_only / "run.db")
    with pytest.raises(ConfigError, match="read-only"):
        Store.create_or_open(read_only / "new.db")
    with Store.open(read_only / "run.db") as store:
        assert len(store.trees()) == 2000
    assert [path.name for path in read_only.iterdir()] == ["run.db"]


# Several processes --------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from interalign.store import Store
with Store.create_or_open(Path(sys.argv[1])) as store:
    store.begin_run("run", "simulation", {"seed": 0}, "0.1.0")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has `run.db` open for writing until its standard input ends."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_has_the_file(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    with pytest.raises(LockedError, match=rf"run\.db is being written by process {holder.pid};") as refusal:
        Store.create_or_open(tmp_path / "run.db")
    assert refusal.value.exit_code == 3
    holder.communicate()
    with Store.create_or_open(tmp_path / "run.db") as store:
        assert store.run is not None
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]


def test_the_lock_of_a_killed_process_is_free_and_its_run_whole(
    holder: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run.db.lock").exists()
    with Store.open(tmp_path / "run.db") as reader:
        assert reader.run is not None
    with Store.create_or_open(tmp_path / "run.db") as store:
        assert store.run is not None
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]


def test_a_store_knows_whether_it_made_its_file(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    for expected in (True, False):
        with Store.create_or_open(path) as store:
            assert store.is_new is expected


def test_a_run_that_is_taken_away_while_it_is_being_read_is_said_not_to_be_there(tmp_path: Path) -> None:
    # A simulation that never began removes its file; `view`, `report` and a merge may look at it at that moment.
    path = tmp_path / "run.db"

    said: set[str] = set()

    def look() -> None:
        try:
            Store.open(path).close()
        except ConfigError as error:
            said.add(str(error))

    def look_until(done: threading.Event) -> None:
        while not done.is_set():
            look()

    for _ in range(60):
        done = threading.Event()
        with Store.create_or_open(path) as store, ThreadPoolExecutor(2) as pool:
            looking = [pool.submit(look_until, done) for _ in range(2)]
            look()
            store.discard()
            done.set()
            for each in looking:
                each.result()
    assert said <= {f"{path} does not exist; `interalign simulate {path}` starts a run there"}


WRITER_THAT_LOOKS = """
import sys
from pathlib import Path
from interalign.store import Store
from interalign.records import TreeRecord
path = Path(sys.argv[1])
with Store.create_or_open(path) as store:
    store.begin_run("run", "simulation", {"seed": 0}, "0.1.0")
    Store.open(path).close()
    for number, line in enumerate(sys.stdin):
        store.plan_trees([TreeRecord(id=f"t{number}", index=number, persona="anna", seed=0)])
        print("planned", flush=True)
"""


def test_nothing_is_lost_when_the_file_was_looked_at_from_within_and_from_outside(tmp_path: Path) -> None:
    # The trap: closing any descriptor of a file drops this process's POSIX locks on it, SQLite's included. Another
    # program then takes itself for the last one, removes the log, and what is written after that is lost.
    path = tmp_path / "run.db"
    command = [sys.executable, "-c", WRITER_THAT_LOOKS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            process.stdin.write("next\n")
            process.stdin.flush()
            assert process.stdout.readline() == "planned\n"
            with closing(sqlite3.connect(path)) as db:
                db.execute("SELECT count(*) FROM trees").fetchone()
        process.kill()
    with Store.open(path) as store:
        assert [tree.id for tree in store.trees()] == ["t0", "t1", "t2"]


def test_the_same_process_is_refused_a_second_time_too(store: Store) -> None:
    with pytest.raises(LockedError, match=f"process {os.getpid()}"):
        Store.create_or_open(store.path)


def test_two_names_of_one_file_are_one_lock(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(store.path)
    with pytest.raises(LockedError):
        Store.create_or_open(tmp_path / "link.db")


def test_a_reader_follows_a_run_while_it_is_written(store: Store) -> None:
    store.plan_trees(plan("t0", "t1", "t2"))
    with Store.open(store.path) as reader:
        save(store, "t0", first_turn())
        walk = reader.judged_trees(None)
        assert next(walk).tree.id == "t0"
        save(store, "t1", first_turn())
        asyncio.run(store.finish_tree("t1"))
        assert next(walk).tree.id == "t1"
        assert [tree.status for tree in reader.trees()] == ["planned", "done", "planned"]


def test_a_turn_saved_while_its_tree_is_read_is_seen_whole_or_not_at_all(store: Store) -> None:
    store.plan_trees(plan("t0"))
    seen: set[int] = set()

    def watch() -> None:
        with Store.open(store.path) as reader:
            while 80 not in seen:
                judged = reader.judged_tree("t0")
                if judged is not None:
                    assert len(judged.verdicts) == len(judged.tree.turns())
                    seen.add(len(judged.verdicts))

    def verdict_on(a: str, b: str) -> Verdict:
        orders = tuple(Presentation(first=x, second=y, replies=(), value="tie") for x, y in ((a, b), (b, a)))
        return Verdict(judge="strict", a=a, b=b, orders=orders)

    async def talk() -> None:
        parent = None
        for turn in range(1, 81):
            asked = user(f"{turn}.u", "Go on.", parent, turn)
            a, b = (reply(f"{turn}.{n}", f"Reply {n}.", asked.id, turn) for n in (1, 2))
            await store.save_turn("t0", [asked, a, b], [verdict_on(a.id, b.id)], (), ())
            parent = a.id

    with ThreadPoolExecutor() as pool:
        watching = pool.submit(watch)
        asyncio.run(talk())
        watching.result(timeout=60)


def test_a_reader_stays_valid_when_the_writer_ends(store: Store) -> None:
    store.plan_trees(plan("t0"))
    with Store.open(store.path) as reader:
        save(store, "t0", first_turn())
        store.close()
        assert reader.judged_tree("t0") is not None
    with Store.create_or_open(store.path) as again:
        assert again.judged_tree("t0") is not None


def test_readers_in_several_threads_share_one_store(store: Store) -> None:
    store.plan_trees(plan("t0"))
    save(store, "t0", first_turn())
    seen: list[int] = []

    def look() -> None:
        for _ in range(20):
            judged = store.judged_tree("t0")
            assert judged is not None
            seen.append(len(judged.tree.nodes))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [3] * 80


def test_a_closed_run_is_one_plain_file_that_says_what_it_is(store: Store, tmp_path: Path) -> None:
    store.close()
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]
    with closing(sqlite3.connect(store.path)) as db:
        assert db.execute("PRAGMA application_id").fetchone() == (0x49414C4E,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with Store.open(store.path) as reader:
        assert reader.size_bytes() == store.path.stat().st_size
        assert reader.usage() == {}
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]


def test_every_commit_is_made_to_reach_the_disk(store: Store) -> None:
    pragmas = {name: store._writes.writer.run(lambda db, n=name: db.execute(f"PRAGMA {n}").fetchone()) for name in SAFE}
    assert pragmas == SAFE


SAFE = {"journal_mode": ("wal",), "synchronous": (2,)}


# The writer ---------------------------------------------------------------------------------------


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[GroupCommitWriter]:
    path = tmp_path / "plain.db"
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE numbers (number INTEGER UNIQUE)")
    made = GroupCommitWriter(connection, path, lambda: None, lambda: None)
    yield made
    made.close()


def insert(writer: GroupCommitWriter, number: int) -> "asyncio.Future[object]":
    return writer.submit(lambda db: db.execute("INSERT INTO numbers VALUES (?)", (number,)))


def count(writer: GroupCommitWriter) -> int:
    return int(writer.run(lambda db: db.execute("SELECT count(*) FROM numbers").fetchone())[0])


def test_what_is_queued_during_a_commit_shares_the_next_one(writer: GroupCommitWriter) -> None:
    go = threading.Event()

    async def forty_at_once() -> None:
        writer._committer.submit(go.wait, 10)  # the disk is slow
        first = insert(writer, 0)
        await until(lambda: writer._committing)
        others = [insert(writer, number) for number in range(1, 41)]
        await rounds()
        assert not any(waiting.done() for waiting in (first, *others))
        go.set()
        await asyncio.gather(first, *others)

    asyncio.run(forty_at_once())
    assert writer.commits == 2
    assert count(writer) == 41


def test_the_loop_goes_on_while_the_disk_is_slow(writer: GroupCommitWriter) -> None:
    go = threading.Event()

    async def wait_for_the_disk() -> None:
        writer._committer.submit(go.wait, 10)
        written = insert(writer, 1)
        await until(lambda: writer._committing)  # would never come back if the loop waited for the disk
        go.set()
        await written

    asyncio.run(wait_for_the_disk())
    assert writer.commits == 1


def test_other_threads_write_while_the_loop_does(writer: GroupCommitWriter) -> None:
    async def from_both_sides() -> None:
        def from_a_thread(start: int) -> None:
            for number in range(start, start + 50):
                writer.run(lambda db, n=number: db.execute("INSERT INTO numbers VALUES (?)", (n,)))

        threads = [asyncio.create_task(asyncio.to_thread(from_a_thread, 1000 * place)) for place in (1, 2)]
        for number in range(50):
            await insert(writer, number)
        await asyncio.gather(*threads)

    asyncio.run(from_both_sides())
    assert count(writer) == 150


def test_work_that_a_closed_loop_left_behind_is_written_with_the_next(writer: GroupCommitWriter) -> None:
    async def leave(number: int) -> None:
        insert(writer, number)

    async def stay(number: int) -> None:
        await insert(writer, number)

    asyncio.run(leave(1))
    asyncio.run(stay(2))
    assert count(writer) == 2


def test_an_interrupt_in_the_middle_of_a_transaction_loses_nothing(writer: GroupCommitWriter) -> None:
    interrupted = []

    def interrupt(db: sqlite3.Connection) -> None:
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt

    async def write() -> None:
        insert(writer, 1)
        writer.submit(interrupt)
        await insert(writer, 2)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(write())
    assert count(writer) == 2
    assert writer.commits == 1


def test_closing_commits_what_is_queued(writer: GroupCommitWriter, tmp_path: Path) -> None:
    async def queue_and_leave() -> None:
        for number in range(10):
            insert(writer, number)

    asyncio.run(queue_and_leave())
    writer.close()
    with closing(sqlite3.connect(tmp_path / "plain.db")) as db:
        assert db.execute("SELECT count(*) FROM numbers").fetchone() == (10,)


# Any text -----------------------------------------------------------------------------------------

anything = st.text(st.characters(), max_size=30) | st.sampled_from(
    [
        "\ud800",
        "\udfff\x00",
        "\ud83d\ude00",
        "\U0001f600",
        "\x00",
        "{{ x }}",
        "'; DROP TABLE nodes;--",
        "\u202e\x1b[31m",
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.create_or_open(tmp_path_factory.mktemp("any") / "run.db") as opened:
        yield opened


tree_numbers = itertools.count()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(anything, min_size=12, max_size=12), value=json_values)
def test_any_text_comes_back_as_it_was(shared: Store, texts: list[str], value: object) -> None:
    tree = f"t{next(tree_numbers)}"
    shared.plan_trees(plan(tree))
    said = [text or "-" for text in texts]
    turn = TurnOf(
        nodes=(user("u", said[0]), reply("1", said[1], by=texts[2]), reply("2", said[3] * 300)),
        verdicts=(
            Verdict(
                judge=texts[4],
                a="1",
                b="2",
                orders=(
                    Presentation(first="1", second="2", replies=(texts[5], texts[6]), value="A"),
                    Presentation(first="2", second="1", replies=(), value=None),
                ),
            ),
        ),
        scores=(Score(judge=texts[4], node="1", replies=(texts[7],), value=None),),
        annotations=(
            Annotation(node="u", name=texts[8], by=texts[9], value=value),
            Annotation(node="1", name=texts[10], by="x", value=texts[11]),
        ),
    )
    save(shared, tree, turn)
    judged = shared.judged_tree(tree)
    assert judged is not None
    assert (
        TurnOf(nodes=judged.tree.nodes, verdicts=judged.verdicts, scores=judged.scores, annotations=judged.annotations)
        == turn
    )


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def test_usage_starts_at_nothing(store: Store) -> None:
    assert store.usage() == dict[str, Usage]()
