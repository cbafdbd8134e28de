"""What a judge's verdicts make of the replies of a turn."""

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from view_pages import compared, fetched, listening, marks_of, reply, score, tree_of, turn, user

import interalign as ia
from interalign.eval.view.marks import Mark, marks
from interalign.preferences import pairs
from interalign.tree import JudgedTree, Score, Verdict


def kinds(replies: int, verdicts: Sequence[Verdict] = (), scores: Sequence[Score] = ()) -> list[str]:
    return [mark.kind for mark in marks_of(turn(None, replies), verdicts, scores).values()]


def test_a_reply_preferred_in_both_orders_is_chosen_and_the_other_rejected() -> None:
    assert kinds(2, [compared("1", "2", "A", "B")]) == ["chosen", "rejected"]
    assert kinds(2, [compared("1", "2", "B", "A")]) == ["rejected", "chosen"]


def test_orders_that_disagree_are_a_tie_and_one_unread_order_is_missing() -> None:
    assert kinds(2, [compared("1", "2", "A", "A")]) == ["tie", "tie"]
    assert kinds(2, [compared("1", "2", "A", None)]) == ["missing", "missing"]


def test_replies_nobody_judged_are_not_judged() -> None:
    assert marks_of(turn(None, 1), [], []) == {"1": Mark("unjudged")}
    assert Mark("unjudged").label == "not judged"


def test_the_highest_score_is_chosen_the_lowest_rejected_and_the_others_in_no_pair() -> None:
    found = marks_of(turn(None, 4), [], [score("1", 2), score("2", 5), score("3", 3), score("4", None)])
    assert found == {
        "1": Mark("rejected", score=2),
        "2": Mark("chosen", score=5),
        "3": Mark("unpaired", score=3),
        "4": Mark("missing"),
    }


def test_equal_scores_are_a_tie_and_a_single_score_stands_alone() -> None:
    assert kinds(2, scores=[score("1", 4), score("2", 4)]) == ["tie", "tie"]
    assert kinds(1, scores=[score("1", 4)]) == ["unpaired"]
    assert (Mark("unpaired", score=4).label, Mark("unpaired", score=4).figure) == ("", "4")


def test_of_three_compared_replies_the_one_between_shows_its_net_wins() -> None:
    said = [compared("1", "2", "A", "B"), compared("1", "3", "A", "B"), compared("2", "3", "A", "B")]
    found = marks_of(turn(None, 3), said, [])
    assert found == {"1": Mark("chosen", net=2), "2": Mark("unpaired", net=0), "3": Mark("rejected", net=-2)}
    assert [mark.figure for mark in found.values()] == ["", "0", ""]
    assert Mark("unpaired", net=-1).figure == "\u22121"


SAID = st.sampled_from(["A", "B", "tie", None])


@st.composite
def judged_turns(draw: st.DrawFn) -> JudgedTree:
    count = draw(st.integers(1, 4))
    texts = draw(st.lists(st.sampled_from(["x", "y", "z", " "]), min_size=count, max_size=count))
    asked = user(None)
    nodes = [reply(asked, number, text) for number, text in enumerate(texts, start=1)]
    both = [(a.id, b.id) for place, a in enumerate(nodes) for b in nodes[place + 1 :]]
    verdicts = [compared(a, b, draw(SAID), draw(SAID)) for a, b in both if draw(st.booleans())]
    values = st.one_of(st.none(), st.integers(1, 5))
    scores = [score(node.id, draw(values)) for node in nodes if draw(st.booleans())] if draw(st.booleans()) else []
    return JudgedTree(tree=tree_of(asked, *nodes), verdicts=tuple(verdicts), scores=tuple(scores))


@given(judged_turns())
def test_chosen_and_rejected_are_exactly_the_pair_that_export_writes(judged: JudgedTree) -> None:
    found = marks(judged.tree.root, judged.tree.children("u"), judged.verdicts, judged.scores)
    marked = [[node for node, mark in found.items() if mark.kind == kind] for kind in ("chosen", "rejected")]
    exported = pairs(judged, "best-worst")
    assert marked == [[pair.chosen.id for pair in exported], [pair.rejected.id for pair in exported]]


def test_every_mark_of_the_picture_has_the_size_of_its_dot(tmp_path: Path) -> None:
    """Without a size of its own a symbol fills the whole picture."""
    ia.simulate(tmp_path / "run.db", trees=1, turns=2)
    with listening(tmp_path / "run.db") as address:
        page = fetched(f"{address}/tree/t00000")
    dots = [link for link in page.every("a") if "dot" in link.attributes.get("class", "").split()]
    drawn = [mark.attributes for dot in dots for mark in dot.every("use")]
    assert len(drawn) > 6
    assert {(mark.get("width"), mark.get("height")) for mark in drawn} == {("24", "24")}
