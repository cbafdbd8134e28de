"""The picture of a tree: places, paths, what is left out."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from view_pages import tree_of, turn

from interalign.eval.view.layout import rows
from interalign.eval.view.links import ServedLinks
from interalign.eval.view.marks import Mark
from interalign.eval.view.picture import draw
from interalign.eval.view.tree_page import folded, path_through
from interalign.tree import Message, Node, Tree


def test_a_parent_stands_in_the_middle_of_its_answers_and_subtrees_move_together() -> None:
    assert rows([*turn(None), *turn("1"), *turn("2")]) == {
        "u": 1.5, "1": 0.5, "2": 2.5,
        "1/u": 0.5, "1/1": 0.0, "1/2": 1.0,
        "2/u": 2.5, "2/1": 2.0, "2/2": 3.0,
    }  # fmt: skip


def test_a_branch_that_ends_early_leaves_its_room_to_the_others() -> None:
    assert rows([*turn(None), *turn("1"), *turn("1/2")]) == {
        "u": 1.0, "1": 0.5, "2": 1.5,
        "1/u": 0.5, "1/1": 0.0, "1/2": 1.0,
        "1/2/u": 1.0, "1/2/1": 0.5, "1/2/2": 1.5,
    }  # fmt: skip


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    nodes = turn(None, draw(st.integers(1, 3)))
    tips = nodes[1:]
    for _ in range(draw(st.integers(0, 4))):
        taken = draw(st.lists(st.sampled_from(tips), unique_by=lambda node: node.id, max_size=4))
        grown = [turn(tip.id, draw(st.integers(1, 3))) for tip in taken]
        nodes += [node for group in grown for node in group]
        tips = [node for group in grown for node in group[1:]] or tips[:0]
        if not tips:
            break
    return tree_of(*nodes)


@given(trees())
def test_no_two_messages_of_a_column_come_closer_than_a_row_and_siblings_keep_their_order(tree: Tree) -> None:
    at = rows(tree.nodes)
    columns: dict[tuple[int, str], list[float]] = {}
    for node in tree.nodes:
        columns.setdefault((node.turn, node.role), []).append(at[node.id])
        children = [at[child.id] for child in tree.children(node.id)]
        assert children == sorted(children)
        if children:
            assert at[node.id] == pytest.approx((children[0] + children[-1]) / 2)
    for column in columns.values():
        heights = sorted(column)
        assert all(below - above >= 1 - 1e-9 for above, below in pairwise(heights))
    assert min(at.values()) == 0


def full_tree(turns: int) -> Tree:
    nodes: list[Node] = []
    tips: list[str | None] = [None]
    for _ in range(turns):
        grown = [turn(tip) for tip in tips]
        nodes += [node for group in grown for node in group]
        tips = [node.id for group in grown for node in group[1:]]
    return tree_of(*nodes)


def test_a_large_tree_is_drawn_along_the_path_and_says_how_much_is_behind_each_end() -> None:
    tree = full_tree(4)
    unjudged = {node.id: Mark("unjudged") for node in tree.nodes}
    small = draw(tree, path_through(tree, None), None, unjudged, ServedLinks(), whole=15)
    assert len(small.nodes) == 4 + 4 * 2  # four user messages, the replies to each
    assert small.hidden == 45 - 12
    assert sorted(node.hidden for node in small.nodes if node.hidden) == [2, 6, 14]
    whole = draw(tree, path_through(tree, None), None, unjudged, ServedLinks(), whole=16)
    assert (len(whole.nodes), whole.hidden) == (45, 0)


def test_the_path_goes_through_the_selected_message_and_on_to_the_end_of_the_longest_branch() -> None:
    tree = tree_of(*turn(None), *turn("2"), *turn("2/2"), *turn("1"))
    assert [node.id for node in path_through(tree, None)] == ["u", "2", "2/u", "2/2", "2/2/u", "2/2/1"]
    assert [node.id for node in path_through(tree, "1/2")] == ["u", "1", "1/u", "1/2"]
    assert [node.id for node in path_through(tree, "2/u")][-1] == "2/2/1"


def test_a_prompt_counts_the_messages_that_only_repeat_the_conversation() -> None:
    prompt = [
        Message(role="system", content="Play Ada."),
        Message(role="assistant", content="Hello"),
        Message(role="user", content="Hi"),
        Message(role="user", content="Go on."),
    ]
    assert [tuple(part) for part in folded(prompt, ["Hello", "Hi"])] == [
        ("system", "Play Ada.", 0),
        ("", "", 2),
        ("user", "Go on.", 0),
    ]
