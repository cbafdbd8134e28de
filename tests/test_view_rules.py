"""The rules behind what the viewer shows: pace of a run, disclosed facts, word differences, curves. Numbers by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from view_pages import reply, user

from interalign.eval.disclosed import disclosed
from interalign.eval.view.curves import Line, draw_curves
from interalign.eval.view.difference import MOST, Piece, difference
from interalign.eval.view.progress import duration, growth
from interalign.store.tree_list import CallPace


@pytest.mark.parametrize(
    ("pace", "now", "calls", "ended", "planned", "said"),
    [
        # 120 calls in 60 s; a tree takes 30; of 5 trees to go 10 calls are made: 140 calls at 2 a second.
        (CallPace(120, 0, 60, 30.0), 61, 70, 2, 5, "120 replies a minute, the last 1 s ago; about 70 s to go"),
        (CallPace(120, 0, 60, 30.0), 60, 60, 2, 100, "120 replies a minute, the last 0 s ago; about 25 min to go"),
        (
            CallPace(10, 0, 60, None),
            60,
            10,
            0,
            5,
            "10 replies a minute, the last 0 s ago; no tree is done yet to tell by",
        ),
        (CallPace(120, 0, 60, 30.0), 60, 500, 2, 1, "120 replies a minute, the last 0 s ago; about 0 s to go"),
        (CallPace(120, 0, 60, 30.0), 3660, 70, 2, 5, "no reply for 60 min: the same command goes on"),
        (CallPace(120, 0, 60, 30.0), 60, 70, 2, 0, "None"),
        (None, 60, 0, 0, 5, "None"),
    ],
)
def test_what_is_to_go_is_reckoned_from_the_calls_of_trees_that_are_done(
    pace: CallPace | None, now: float, calls: int, ended: int, planned: int, said: str
) -> None:
    assert str(growth(pace, now=now, calls=calls, ended=ended, planned=planned)) == said


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1 h 30 min")]
)
def test_a_duration_is_said_in_its_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


PATH = (
    user(None, "I went sailing on Sunday."),
    reply(user(None), 1, "Do you keep bees, or drink tea?"),
    user("1", "Bees! I have kept them for years."),
)


@pytest.mark.parametrize(
    ("fact", "turn"),
    [
        ("I love to sail on Sundays.", 1),  # the words that begin alike: sail and sund
        ("I sailed.", 1),
        ("Sailing.", 1),
        ("I keep bees.", 2),
        ("I drink tea.", None),
        ("I have it.", None),
        ("", None),
    ],
)
def test_a_fact_is_disclosed_once_the_user_has_said_half_of_its_words(fact: str, turn: int | None) -> None:
    assert disclosed([fact], PATH)[0].turn == turn


def test_what_differs_is_told_word_by_word_and_the_rest_is_the_chosen_reply() -> None:
    assert difference("I like  green tea.", "I like black tea, too.") == (
        Piece("same", "I like"),
        Piece("rejected", " green tea."),
        Piece("chosen", " black tea, too."),
    )
    assert difference("", "Hm.") == (Piece("chosen", "Hm."),)
    assert difference("a b", "a b") == (Piece("same", "a b"),)
    assert difference("w " * (MOST + 1), "w") is None


@given(st.text("ab \n", max_size=30), st.text("ab \n", max_size=30))
def test_the_pieces_make_up_both_texts(rejected: str, chosen: str) -> None:
    pieces = difference(rejected, chosen) or ()
    assert "".join(piece.text for piece in pieces if piece.kind != "rejected") == chosen
    kept = "".join(piece.text for piece in pieces if piece.kind != "chosen")
    assert kept.split() == rejected.split()


def test_a_curve_has_a_gap_where_there_is_no_value_and_labels_keep_apart() -> None:
    lines = [
        Line("one", (1.0, None, 3.0), ((1.0, 2.0), None, (2.5, 3.5)), (4, 0, 4)),
        Line("two", (5.0, 3.0, 3.0), (None, None, None), (4, 4, 4)),
    ]
    chart = draw_curves(lines, "AL", (1, 3, 5), lambda name, turn: f"/{name}/{turn}")
    assert chart is not None
    one, two = chart.curves
    assert one.path.count("M") == 2
    assert one.band.count("Z") == 2
    assert (two.path.count("M"), two.band) == (1, "")
    assert [point.href for point in one.points] == ["/one/1", "/one/3"]
    assert one.points[0].title == "one, turn 1: 1.00, interval 1.00 to 2.00, n 4"
    assert [y for y, _ in chart.rows] == [210, 111, 12]  # 5 is at the top
    assert two.label - one.label == 15


def test_without_any_value_there_is_no_chart() -> None:
    assert draw_curves([Line("one", (None,), (None,), (0,))], "AL", (1, 5), lambda name, turn: "") is None
