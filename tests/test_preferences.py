import pytest
from judged_trees import half_missing, one_turn, prefers, said, score, ties, two_judged_turns

from interalign.preferences import PairMode, chosen_replies, pairs
from interalign.tree import JudgedTree

MODES: tuple[PairMode, ...] = ("best-worst", "all")


def found(judged: JudgedTree, mode: PairMode) -> list[tuple[str, str, float]]:
    """Chosen id, rejected id and margin of every pair."""
    return [(pair.chosen.id, pair.rejected.id, pair.margin) for pair in pairs(judged, mode)]


@pytest.mark.parametrize("mode", MODES)
def test_one_comparison_gives_the_pair_the_judge_chose_with_margin_one(mode):
    judged = said(one_turn("Pasta.", "Rice."), prefers("2", "1"))

    assert found(judged, mode) == [("2", "1", 1.0)]
    assert [pair.prompt.id for pair in pairs(judged, mode)] == ["u"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("saying", [ties("1", "2"), half_missing("1", "2")], ids=["tie", "one order missing"])
def test_a_tie_and_a_missing_verdict_give_no_pair(mode, saying):
    judged = said(one_turn("Pasta.", "Rice."), saying)

    assert found(judged, mode) == []
    assert chosen_replies(judged) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_turn_nobody_judged_gives_no_pair(mode):
    assert found(said(one_turn("Pasta.", "Rice.")), mode) == []


@pytest.mark.parametrize("mode", MODES)
def test_replies_of_the_same_text_give_no_pair(mode):
    judged = said(one_turn("Rice.", "Rice. "), prefers("1", "2"))

    assert found(judged, mode) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_blank_reply_is_neither_chosen_nor_rejected(mode):
    assert found(said(one_turn("Rice.", "  "), prefers("1", "2")), mode) == []
    assert found(said(one_turn("Rice.", " ", "Pasta."), score("1", 2), score("2", 1), score("3", 4)), mode) == [
        ("3", "1", 2.0)
    ]


def test_best_against_worst_by_score_keeps_the_difference_as_margin():
    judged = said(one_turn("a", "b", "c", "d"), score("1", 3), score("2", 5), score("3", 1), score("4", 3))

    assert found(judged, "best-worst") == [("2", "3", 4.0)]


def test_all_pairs_by_score_are_those_whose_scores_differ_in_stored_order():
    judged = said(one_turn("a", "b", "c"), score("1", 3), score("2", 5), score("3", 3))

    assert found(judged, "all") == [("2", "1", 2.0), ("2", "3", 2.0)]


def test_of_equal_scores_the_earlier_sibling_stands_for_the_place():
    judged = said(one_turn("a", "b", "c", "d"), score("1", 4), score("2", 4), score("3", 2), score("4", 2))

    assert found(judged, "best-worst") == [("1", "3", 2.0)]


@pytest.mark.parametrize("mode", MODES)
def test_equal_scores_give_no_pair(mode):
    assert found(said(one_turn("a", "b"), score("1", 3), score("2", 3)), mode) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_missing_score_is_missing_and_not_the_middle_of_the_scale(mode):
    judged = said(one_turn("a", "b", "c"), score("1", 2), score("2", None), score("3", 1))

    assert found(judged, mode) == [("1", "3", 1.0)]


@pytest.mark.parametrize("mode", MODES)
def test_a_single_score_says_nothing_about_the_sibling_without_one(mode):
    judged = said(one_turn("a", "b"), score("1", 5), score("2", None))

    assert found(judged, mode) == []


def test_a_round_robin_gives_the_clear_winner_against_the_clear_loser_with_the_full_margin():
    judged = said(one_turn("a", "b", "c"), prefers("1", "2"), prefers("1", "3"), prefers("2", "3"))

    assert found(judged, "best-worst") == [("1", "3", 1.0)]


def test_ties_in_a_round_robin_make_the_margin_smaller():
    # Net wins: 1 has +1, 2 has 0, 3 has -1; two of the largest possible difference of four.
    judged = said(one_turn("a", "b", "c"), ties("1", "2"), prefers("1", "3"), ties("2", "3"))

    assert found(judged, "best-worst") == [("1", "3", 0.5)]


def test_a_circle_of_verdicts_gives_no_best_worst_pair():
    sayings = (prefers("1", "2"), prefers("2", "3"), prefers("3", "1"))
    assert found(said(one_turn("a", "b", "c"), *sayings), "best-worst") == []


def test_where_two_share_the_last_place_the_earlier_of_them_is_rejected():
    sayings = (prefers("1", "2"), prefers("1", "3"), ties("2", "3"))
    assert found(said(one_turn("a", "b", "c"), *sayings), "best-worst") == [("1", "2", 0.75)]


def test_where_two_share_the_first_place_the_earlier_of_them_is_chosen():
    sayings = (prefers("1", "3"), prefers("2", "3"), ties("1", "2"))
    assert found(said(one_turn("a", "b", "c"), *sayings), "best-worst") == [("1", "3", 0.75)]


def test_the_chosen_reply_beat_the_rejected_one_itself():
    # Net wins: 1 and 2 have +1, 3 and 4 have -1. But 4 beat 1, so the pair is 1 and 3, by 2 of 6 possible.
    sayings = (
        prefers("4", "1"), prefers("1", "2"), prefers("1", "3"),
        prefers("2", "3"), prefers("2", "4"), prefers("3", "4"),
    )  # fmt: skip
    assert found(said(one_turn("a", "b", "c", "d"), *sayings), "best-worst") == [("1", "3", pytest.approx(2 / 6))]


def test_all_takes_every_comparison_that_was_won_even_from_a_circle():
    judged = said(one_turn("a", "b", "c"), prefers("3", "1"), prefers("2", "3"), prefers("1", "2"))

    assert found(judged, "all") == [("1", "2", 1.0), ("3", "1", 1.0), ("2", "3", 1.0)]


def test_a_missing_comparison_counts_neither_as_a_win_nor_as_a_loss():
    judged = said(one_turn("a", "b", "c"), prefers("1", "2"), half_missing("1", "3"), half_missing("2", "3"))

    assert found(judged, "best-worst") == [("1", "2", 1.0)]


def test_pairs_do_not_depend_on_the_order_the_verdicts_were_stored_in():
    sayings = (prefers("1", "2"), prefers("1", "3"), prefers("2", "3"))
    judged = [said(one_turn("a", "b", "c"), *order) for order in (sayings, sayings[::-1])]

    assert found(judged[0], "all") == found(judged[1], "all") == [("1", "2", 1.0), ("1", "3", 1.0), ("2", "3", 1.0)]


def test_every_turn_gives_its_own_pair_and_the_best_reply_of_each_is_what_sft_learns():
    judged = two_judged_turns()

    assert [(pair.prompt.id, pair.chosen.id, pair.rejected.id) for pair in pairs(judged, "best-worst")] == [
        ("u", "1", "2"),
        ("2u", "2/1", "2/2"),
    ]
    # `2` was taken, `1` was chosen: that the conversation went on with a reply says nothing about it.
    assert [node.id for node in chosen_replies(judged)] == ["1", "2/1"]
