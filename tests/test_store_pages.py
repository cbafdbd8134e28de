"""Looking up some of many planned trees without reading them all."""

from pathlib import Path

import pytest

from interalign.records import TreeRecord
from interalign.store import Store


@pytest.fixture
def store(tmp_path: Path):
    with Store.create_or_open(tmp_path / "run.db") as made:
        made.plan_trees(
            TreeRecord(
                id=f"{candidate}/{case}",
                index=2 * case + place,
                persona="ada",
                seed=0,
                candidate=candidate,
                case=f"case {case}",
                status="failed" if case == 1 else "done",
            )
            for place, candidate in enumerate(("b", "a"))  # planned in another order than they are listed
            for case in range(3)
        )
        yield made


def ids(trees: list[TreeRecord]) -> list[str]:
    return [tree.id for tree in trees]


def test_a_page_of_the_trees_is_that_part_of_all_of_them(store: Store) -> None:
    assert ids(store.trees()) == ["b/0", "a/0", "b/1", "a/1", "b/2", "a/2"]
    assert ids(store.trees(first=1, most=3)) == ["a/0", "b/1", "a/1"]
    assert ids(store.trees("done", first=1, most=2)) == ["a/0", "b/2"]
    assert ids(store.trees("failed", first=1)) == ["a/1"]
    assert store.trees("planned") == store.trees(first=6) == []


def test_a_tree_is_found_by_its_id_with_those_beside_it_and_those_of_its_case(store: Store) -> None:
    found = store.tree_record("b/1")
    assert found is not None
    assert (found.case, found.status) == ("case 1", "failed")
    assert store.tree_record("b/9") is None
    assert store.tree_record("\ud800") is None
    assert [beside and beside.id for beside in store.beside("b/1")] == ["a/0", "a/1"]
    assert [beside and beside.id for beside in store.beside("b/0")] == [None, "a/0"]
    assert [beside and beside.id for beside in store.beside("a/2")] == ["b/2", None]
    assert ids(store.trees_of_case("case 2")) == ["b/2", "a/2"]
