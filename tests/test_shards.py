"""`--shard I/N`: each process grows its own trees of one run, in a file of its own that knows which they are."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import interalign as ia
from interalign.config import SimulationSettings, identity_of
from interalign.run.plan import SimulationPlan
from interalign.shard import Shard, places


def trees_in(run: Path) -> list[str]:
    with ia.open_run(run) as opened:
        return [tree.id for tree in opened.trees()]


@pytest.mark.parametrize(
    ("given", "shard"), [("1/1", (1, 1)), ("1/4", (1, 4)), ("4/4", (4, 4)), ("02/10", (2, 10)), ("64/64", (64, 64))]
)
def test_a_shard_is_read(given: str, shard: tuple[int, int]) -> None:
    read = Shard.parse(given)
    assert (read.number, read.of) == shard


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("0/4", "0/4: shards count from 1, so the shards of 4 are 1/4 to 4/4"),
        ("5/4", "5/4: shards count from 1, so the shards of 4 are 1/4 to 4/4"),
        ("1/0", "1/0: a run has 1 to 1,000,000 shards"),
        ("1/1000001", "1/1000001: a run has 1 to 1,000,000 shards"),
        *(
            (given, f"expected I/N, the I-th of N shards counted from 1, such as 2/4; got {given!r}")
            for given in ("", "2", "/4", "2/", "-1/4", "1/-4", "1.5/4", " 1/4", "1/4\n", "1/4/2", "a/b", "\uff11/4")
        ),
    ],
)
def test_what_is_no_shard_is_refused_in_one_line_and_leaves_no_file(given: str, says: str, cli, tmp_path: Path) -> None:
    for words in (("simulate", "run.db"), ("evaluate", "run.db", "--candidate", "world:average")):
        ended = cli(*words, f"--shard={given}")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.replace("\\n", "\n") == f"interalign: --shard: {says}\n".replace("\\n", "\n")
    assert list(tmp_path.iterdir()) == []


@given(st.integers(1, 9), st.integers(0, 60), st.integers(0, 60))
def test_every_tree_belongs_to_one_shard_and_more_trees_move_none(of: int, trees: int, more: int) -> None:
    before = [places(Shard(number, of), trees) for number in range(1, of + 1)]
    after = [places(Shard(number, of), trees + more) for number in range(1, of + 1)]
    assert sorted(place for shard in before for place in shard) == list(range(trees))
    assert all(list(few) == list(many)[: len(few)] for few, many in zip(before, after, strict=True))


def test_shards_grow_the_trees_of_the_whole_run_and_more_trees_extend_them(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "whole.db", trees=8, turns=2)
    with ia.open_run(tmp_path / "whole.db") as whole:
        grown = {tree.tree.id: tree for tree in whole.judged_trees()}
    for number, few, many in (
        (1, ["t00000", "t00003"], ["t00000", "t00003", "t00006"]),
        (2, ["t00001", "t00004"], ["t00001", "t00004", "t00007"]),
        (3, ["t00002"], ["t00002", "t00005"]),
    ):
        path = tmp_path / "parts" / f"whole{number}.db"
        path.parent.mkdir(exist_ok=True)
        first = ia.simulate(path, trees=5, turns=2, shard=f"{number}/3")
        assert (trees_in(path), first.done) == (few, len(few))
        again = ia.simulate(path, trees=8, turns=2, shard=f"{number}/3")
        assert (trees_in(path), again.done) == (many, len(many))
        with ia.open_run(path) as part:
            for tree in part.judged_trees():
                same = grown[tree.tree.id]
                assert tree.tree.nodes == same.tree.nodes
                assert (tree.verdicts, tree.annotations) == (same.verdicts, same.annotations)
            assert list(part.personas()) == [tree.persona for tree in part.trees()]


def test_a_shard_of_an_evaluation_has_every_nth_case_of_all_candidates(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"candidate": ["a=world:average", "b=world:blind"], "limit": 3, "turns": 2}
    ia.evaluate(tmp_path / "whole.db", **settings)
    ia.evaluate(tmp_path / "one.db", shard="1/2", **settings)
    ia.evaluate(tmp_path / "two.db", shard="2/2", **settings)
    whole = trees_in(tmp_path / "whole.db")
    assert (trees_in(tmp_path / "one.db"), trees_in(tmp_path / "two.db")) == (whole[:2] + whole[4:], whole[2:4])


def test_personas_that_are_met_several_times_are_kept_once_in_the_order_they_are_met() -> None:
    people = [ia.Persona(id=f"p{number}", profile=("I sail.",), personality="Brief.") for number in range(3)]
    plan = SimulationPlan(SimulationSettings(trees=9), people)
    for shard, met in (("1/2", ["p0", "p2", "p1"]), ("2/2", ["p1", "p0", "p2"]), ("1/3", ["p0"])):
        assert [persona.id for persona in plan.met(Shard.parse(shard))] == met


def test_a_shard_with_no_tree_is_done_at_once(tmp_path: Path) -> None:
    summary = ia.simulate(tmp_path / "run.db", trees=2, turns=1, shard="3/4")
    assert (summary.trees, summary.done, summary.calls) == (0, 0, 0)


def test_the_shard_is_no_part_of_what_the_run_is() -> None:
    assert identity_of(SimulationSettings(shard="2/4")) == identity_of(SimulationSettings())


@pytest.mark.parametrize(
    ("begun", "asked", "says"),
    [
        ("2/4", "3/4", "run.db holds shard 2/4 of its run; give --shard 3/4 a file of its own"),
        ("2/4", "2/5", "run.db holds shard 2/4 of its run; give --shard 2/5 a file of its own"),
        ("2/4", None, "run.db holds shard 2/4 of its run; go on with it by --shard 2/4, or merge the shards"),
        (None, "2/4", "run.db holds a whole run; give --shard 2/4 a file of its own"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_file_knows_its_shard_and_refuses_another(
    begun: str | None, asked: str | None, says: str, dry: tuple[str, ...], cli, tmp_path: Path
) -> None:
    ia.simulate(tmp_path / "run.db", trees=6, turns=1, shard=begun)
    before = trees_in(tmp_path / "run.db")
    ended = cli("simulate", "run.db", "--trees", "6", "--turns", "1", *(("--shard", asked) if asked else ()), *dry)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert says in ended.err
    assert trees_in(tmp_path / "run.db") == before


def test_fewer_trees_of_the_whole_run_are_refused_also_where_the_shard_has_as_many(cli) -> None:
    assert cli("simulate", "run.db", "--trees", "10", "--turns", "1", "--shard", "1/4").code == 0
    ended = cli("simulate", "run.db", "--trees", "9", "--turns", "1", "--shard", "1/4")
    assert ended.code == 2
    assert "was begun with 10 trees, and 9 are asked for now" in ended.err


def test_a_fork_of_a_shard_may_be_another_part(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "run.db", trees=4, turns=1, shard="1/2")
    forked = ia.simulate(tmp_path / "run.db", fork=tmp_path / "fork.db", trees=4, turns=1)
    assert (forked.done, trees_in(tmp_path / "fork.db")) == (4, ["t00000", "t00001", "t00002", "t00003"])


def test_a_dry_run_of_a_shard_counts_its_trees_only(cli) -> None:
    ended = cli("simulate", "run.db", "--trees", "10", "--turns", "1", "--shard", "1/4", "--dry-run")
    assert ended.out.startswith("Expected for 3 trees;")
    ended = cli("evaluate", "e.db", "--candidate", "world:blind", "--limit", "3", "--shard", "2/2", "--dry-run")
    assert ended.out.startswith("Expected for 1 trees;")
