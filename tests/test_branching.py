"""`simulate --from TREE:NODE`: stored conversations are branched at any message, in their file or in a fork of it."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from calls_seen import trees_of

from interalign import api
from interalign.config import SimulationSettings, identity_of
from interalign.people import load_personas
from interalign.store import Store
from interalign.tree import JudgedTree

TURNS = {"turns": 3, "branch": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation of two trees of three turns, and an import of two conversations with a world persona."""
    folder = tmp_path_factory.mktemp("branching")
    api.simulate(folder / "sim.db", trees=2, **TURNS)
    person = load_personas("world", split="train", n=3, seed=0)[2]
    (folder / "people.jsonl").write_text(person.model_dump_json() + "\n")
    say = [{"role": "user", "content": "What should I cook?"}, {"role": "assistant", "content": "Soup is good."}]
    rows: list[Any] = [
        {"messages": [{"role": "system", "content": "Be kind."}, *say], "persona": person.id, "tree": "kind"},
        {"messages": say, "tree": "plain"},
    ]
    (folder / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    api.import_conversations(folder / "f.jsonl", folder / "imp.db", personas=folder / "people.jsonl")
    return folder


@pytest.fixture
def sim(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made / "sim.db", tmp_path / "sim.db"))


@pytest.fixture
def imp(made: Path, tmp_path: Path) -> Path:
    shutil.copy(made / "people.jsonl", tmp_path)
    shutil.copy(made / "f.jsonl", tmp_path)
    return Path(shutil.copy(made / "imp.db", tmp_path / "imp.db"))


def by_id(run: Path) -> dict[str, JudgedTree]:
    return {judged.tree.id: judged for judged in trees_of(run)}


def words(judged: JudgedTree, *nodes: str) -> list[str]:
    return [judged.tree.node(node).text for node in nodes]


def test_a_branch_begins_with_the_conversation_down_to_a_reply_and_goes_on_to_the_last_turn(sim: Path) -> None:
    before = by_id(sim)
    reply = next(node.id for node in before["t00001"].tree.nodes if node.turn == 1 and node.role == "assistant")
    ended = api.simulate(sim, from_=f"t00001:{reply}", trees=2, **TURNS)
    assert (ended.done, ended.trees, ended.failed) == (4, 4, {})
    after = by_id(sim)
    assert list(after) == ["t00000", "t00001", f"t00001:{reply}@00000", f"t00001:{reply}@00001"]
    assert {name: after[name] for name in before} == before
    one, two = (after[f"t00001:{reply}@0000{number}"] for number in (0, 1))
    for branch in (one, two):
        assert branch.tree.persona == before["t00001"].tree.persona
        assert words(branch, "u", reply) == words(before["t00001"], "u", reply)
        assert [len(branch.tree.children(turn.id)) for turn in branch.tree.turns()] == [1, 2, 2]
        assert {verdict.a.count("/") for verdict in branch.verdicts} == {1, 2}
        origin = {"run": "sim", "tree": "t00001", "node": reply}
        assert [note.value for note in branch.annotations if note.name == "from"] == [origin]
    assert words(one, f"{reply}/1", f"{reply}/2") != words(two, f"{reply}/1", f"{reply}/2")


@pytest.mark.parametrize("root", [True, False])
def test_a_branch_at_a_users_message_has_it_answered_anew(root: bool, sim: Path) -> None:
    (first, *_) = by_id(sim).values()
    node = first.tree.turns()[0 if root else 1]
    api.simulate(sim, from_=f"t00000:{node.id}", trees=1, **TURNS)
    branch = by_id(sim)[f"t00000:{node.id}@00000"]
    assert branch.tree.node(node.id).text == node.text
    assert branch.tree.node(node.id).call == node.call
    replies = branch.tree.children(node.id)
    assert len(replies) == 2
    assert {reply.call for reply in replies}.isdisjoint({reply.call for reply in first.tree.children(node.id)})
    assert max(each.turn for each in branch.tree.nodes) == 3


def test_branches_are_resumed_and_extended_like_any_trees(sim: Path) -> None:
    api.simulate(sim, from_="t00000:1", trees=1, **TURNS)
    whole = by_id(sim)
    assert api.simulate(sim, from_="t00000:1", trees=1, **TURNS).calls == 0
    with closing(sqlite3.connect(sim)) as db:  # as if it had been killed in its last turn
        (number,) = db.execute("SELECT number FROM trees WHERE id = 't00000:1@00000'").fetchone()
        for table in ("nodes WHERE turn = 3 AND", "verdicts WHERE a LIKE '%/%/%' AND"):
            assert db.execute(f"DELETE FROM {table} tree = ?", (number,)).rowcount
        db.execute("UPDATE trees SET status = 'planned' WHERE number = ?", (number,))
        db.commit()
    again = api.simulate(sim, trees=2, **TURNS)  # the run's own command grows whatever is not done
    assert (again.calls, again.done) == (0, 3)
    assert by_id(sim) == whole
    more = api.simulate(sim, from_="t00000:1", trees=2, **TURNS)
    assert (more.done, more.trees) == (4, 4)
    assert {name: tree for name, tree in by_id(sim).items() if name in whole} == whole


def test_a_fork_has_the_branches_alone_and_may_have_other_settings(sim: Path, tmp_path: Path) -> None:
    before = by_id(sim)
    fork = tmp_path / "fork.db"
    api.simulate(sim, fork=fork, from_="t00000:1", trees=1, turns=2, branch=3, system="Be brief.")
    assert by_id(sim) == before
    (branch,) = trees_of(fork)
    assert (branch.tree.id, branch.tree.system) == ("t00000:1@00000", "Be brief.")
    assert [len(branch.tree.children(turn.id)) for turn in branch.tree.turns()] == [1, 3]
    more = api.simulate(fork, from_="t00000:1", trees=2, turns=2, branch=3, system="Be brief.")
    assert (more.done, more.trees) == (2, 2)
    assert by_id(fork)["t00000:1@00000"] == branch
    origins = [note.value for judged in trees_of(fork) for note in judged.annotations if note.name == "from"]
    assert origins == [{"run": "sim", "tree": "t00000", "node": "1"}] * 2


def test_an_imported_conversation_goes_on_in_its_own_file_under_its_system_message(imp: Path, tmp_path: Path) -> None:
    before = by_id(imp)
    api.simulate(imp, from_="kind:1", trees=1, turns=2)
    after = by_id(imp)
    assert {name: after[name] for name in before} == before
    branch = after["kind:1@00000"]
    assert branch.tree.system == "Be kind."
    assert words(branch, "u", "1") == ["What should I cook?", "Soup is good."]
    assert len(branch.tree.children("1/u")) == 2
    with Store.open(imp) as store:
        prompts = [call.messages[0] for call in store.calls_of("kind:1@00000") if call.place.role == "candidate"]
        assert [(message.role, message.content) for message in prompts] == [("system", "Be kind.")] * 2
        assert store.run is not None
        assert store.run.kind == "import"
    api.export(imp, tmp_path / "m.jsonl", format="messages")
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert {row["tree"]: row["messages"][0]["role"] for row in rows} == {
        "kind": "system", "plain": "user", "kind:1@00000": "system",
    }  # fmt: skip
    report = api.report(imp)
    assert (report.kind, report.turns, report.judge.name) == ("import", 2, "world:judge")


def test_settings_of_the_first_branches_hold_for_all_in_an_import(imp: Path, cli) -> None:
    assert cli("simulate", "imp.db", "--from", "kind:1", "--trees", "1", "--turns", "2").code == 0
    other = cli("simulate", "imp.db", "--from", "kind:1", "--trees", "1", "--turns", "3")
    assert other.code == 2
    assert "imp.db was started with other settings (changed: turns 2 -> 3)" in other.err
    again = cli("import", "f.jsonl", "imp.db", "--personas", "people.jsonl")
    assert (again.code, again.err) == (0, "imp.db holds this import already; nothing was changed\n")
    assert cli("simulate", "imp.db", "--from", "kind:1", "--trees", "2", "--turns", "2").code == 0
    assert len(by_id(imp)) == 4


def test_personas_that_are_given_play_the_user_of_a_conversation_without_one(imp: Path, cli) -> None:
    refused = cli("simulate", "imp.db", "--from", "plain:1", "--trees", "2", "--turns", "2")
    assert (refused.code, refused.err) == (
        2,
        "interalign: --from plain:1: the persona of this conversation is not known; give --personas\n",
    )
    assert (
        cli("simulate", "imp.db", "--from", "plain:1", "--trees", "2", "--turns", "2", "--personas", "world").code == 0
    )
    met = [by_id(imp)[f"plain:1@0000{number}"].tree.persona for number in (0, 1)]
    assert met == ["train-0000", "train-0001"]


@pytest.mark.parametrize(
    ("spec", "words", "reason"),
    [
        ("t00000", (), "--from t00000: expected TREE:NODE, such as t00000:1/2"),
        (":1", (), "--from :1: expected TREE:NODE"),
        ("t00000:", (), "--from t00000:: expected TREE:NODE"),
        ("t0000:1", (), "--from t0000:1: sim.db has no message of a tree 't0000'; did you mean t0000"),
        ("t00000:9", (), "--from t00000:9: the tree t00000 has no message '9'"),
        ("t00000:1", ("--turns", "1"), "--from t00000:1: the conversation has 1 turns by then, and --turns 1 counts"),
        ("t00000:1", ("--shard", "1/2"), "--from branches within one run file; leave --shard out"),
        (
            "t00000:1",
            ("--branch", "3"),
            "sim.db was started with other settings (changed: branch 2 -> 3); restore them",
        ),
        ("t00000:1", ("--fork", "sim.db"), "sim.db"),
    ],
)
def test_what_cannot_be_branched_is_refused_in_one_line(
    spec: str, words: tuple[str, ...], reason: str, sim: Path, cli
) -> None:
    before = by_id(sim)
    ended = cli("simulate", "sim.db", "--from", spec, "--turns", "3", *words)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert reason in ended.err
    assert by_id(sim) == before


def test_an_evaluation_is_branched_in_a_fork_alone(cli, tmp_path: Path) -> None:
    cli("evaluate", "eval.db", "--candidate", "world:blind", "--limit", "1", "--turns", "1")
    (case,) = trees_of(tmp_path / "eval.db")
    words = ("simulate", "eval.db", "--from", f"{case.tree.id}:1", "--turns", "2", "--trees", "1")
    assert "eval.db holds an evaluation; branch it in a copy with --fork OTHER.db" in cli(*words).err
    assert cli(*words, "--fork", "fork.db").code == 0
    (branch,) = trees_of(tmp_path / "fork.db")
    assert branch.tree.persona == case.tree.persona
    assert "fresh.db does not exist" in cli("simulate", "fresh.db", "--from", "t00000:1").err
    assert not (tmp_path / "fresh.db").exists()


@pytest.mark.parametrize("first", [True, False])
def test_a_dry_run_counts_the_calls_that_the_branches_then_make(first: bool, sim: Path, imp: Path, cli) -> None:
    run, spec = ("sim.db", "t00000:1") if first else ("imp.db", "kind:u")
    words = ("simulate", run, "--from", spec, "--turns", "3", "--trees", "2")
    said = cli(*words, "--dry-run").out
    total = next(line.split()[1] for line in said.splitlines() if line.startswith("total"))
    assert f"{total} calls made" in cli(*words).err
    assert "Expected for 0 trees" in cli(*words, "--dry-run").out


def test_a_settings_file_says_from_and_no_identity_knows_it(sim: Path, cli, tmp_path: Path) -> None:
    (tmp_path / "sim.yaml").write_text("from: t00000:1\nturns: 3\ntrees: 1\n")
    assert cli("simulate", "sim.db", "--config", "sim.yaml").code == 0
    assert "t00000:1@00000" in by_id(sim)
    assert identity_of(SimulationSettings(from_="t00000:1")) == identity_of(SimulationSettings())
