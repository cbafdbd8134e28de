"""The ALOE metrics: every expected value is worked out by hand or comes from an independent library."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress

from interalign.errors import MetricError
from interalign.eval.metrics import (
    alignment_level,
    improvement_rate,
    mean_alignment_level,
    normalised_improvement_rate,
    normalised_levels,
    normalised_r_squared,
    r_squared,
    score_matrix,
    slopes,
)

levels = st.floats(min_value=1, max_value=5, allow_nan=False)
curves = st.lists(levels, min_size=2, max_size=20).filter(lambda al: max(al) - min(al) > 1e-3)
ten_turns = st.lists(levels, min_size=10, max_size=10).filter(lambda al: max(al) - min(al) > 1e-3)


def test_al_is_the_mean_score_of_a_turn_over_the_cases() -> None:
    scores = score_matrix([[1, 2, 4], [3, 2, 5], [2, 5, 3]], turns=3)
    assert alignment_level(scores) == ((2.0, 3.0, 4.0), (3, 3, 3))


def test_a_missing_score_lowers_n_and_is_no_number() -> None:
    scores = score_matrix([[1, None, 4], [3, 2, None], [5, 5, None]], turns=3)
    assert alignment_level(scores) == ((3.0, 3.5, 4.0), (3, 2, 1))


def test_a_short_conversation_is_missing_at_the_turns_it_lacks() -> None:
    scores = score_matrix([[1, 2, 3], [5], []], turns=3)
    assert alignment_level(scores) == ((3.0, 2.0, 3.0), (2, 1, 1))


def test_a_turn_without_any_score_has_no_level_and_leaves_no_trend() -> None:
    al, n = alignment_level(score_matrix([[2, None, 4], [4, None, 5]], turns=3))
    assert al == (3.0, None, 4.5)
    assert n == (2, 0, 2)
    assert mean_alignment_level(al) == 3.75
    assert improvement_rate(al) is None
    assert r_squared(al) is None
    assert normalised_levels(al) == (0.0, None, 1.0)
    assert normalised_improvement_rate(al) is None
    assert normalised_r_squared(al) is None


def test_without_cases_nothing_is_defined() -> None:
    al, n = alignment_level(score_matrix([], turns=2))
    assert al == (None, None)
    assert n == (0, 0)
    assert mean_alignment_level(al) is None
    assert improvement_rate(al) is None
    assert normalised_levels(al) == (None, None)


def test_without_turns_nothing_is_defined() -> None:
    assert mean_alignment_level(()) is None
    assert improvement_rate(()) is None
    assert r_squared(()) is None
    assert normalised_levels(()) == ()


def test_one_turn_has_a_level_but_no_slope() -> None:
    assert mean_alignment_level((4.0,)) == 4.0
    assert improvement_rate((4.0,)) is None
    assert r_squared((4.0,)) is None
    assert normalised_levels((4.0,)) == (None,)


@pytest.mark.parametrize("score", [0, 6, 0.5, 5.5, -1])
def test_a_score_outside_one_to_five_is_refused(score: float) -> None:
    with pytest.raises(MetricError, match="a score is 1 to 5 or missing"):
        score_matrix([[3, score]], turns=2)


def test_more_scores_than_turns_are_refused() -> None:
    with pytest.raises(MetricError, match="case 2 has 3 scores, but there are 2 turns"):
        score_matrix([[1, 2], [1, 2, 3]], turns=2)


def test_mean_al_weighs_every_turn_the_same_whatever_its_n() -> None:
    # Over all scores the mean would be 11 / 4 = 2.75.
    al, _ = alignment_level(score_matrix([[1, 5], [2, None], [3, None]], turns=2))
    assert mean_alignment_level(al) == 3.5


def test_ir_is_the_slope_and_r2_the_fit_of_the_least_squares_line() -> None:
    # Turns about their mean: -1.5 -0.5 0.5 1.5; AL about its mean: -1 0 0 1. Slope 3 / 5; R2 0.36 * 5 / 2.
    assert improvement_rate((2.0, 3.0, 3.0, 4.0)) == pytest.approx(0.6, abs=1e-12)
    assert r_squared((2.0, 3.0, 3.0, 4.0)) == pytest.approx(0.9, abs=1e-12)


def test_a_falling_curve_has_a_negative_ir() -> None:
    assert improvement_rate((5.0, 3.0, 1.0)) == -2.0
    assert r_squared((5.0, 3.0, 1.0)) == 1.0


def test_a_flat_curve_does_not_improve_and_has_no_normalised_form() -> None:
    flat = (3.3,) * 10
    assert improvement_rate(flat) == 0.0
    assert r_squared(flat) is None
    assert normalised_levels(flat) == (None,) * 10
    assert normalised_improvement_rate(flat) is None
    assert normalised_r_squared(flat) is None


def test_a_curve_that_is_flat_but_for_rounding_is_flat() -> None:
    assert normalised_levels((0.1 + 0.2 + 2.7, 3.0, 3.0)) == (None, None, None)


def test_normalised_levels_run_from_zero_to_one() -> None:
    assert normalised_levels((2.0, 3.0, 4.0, 2.5)) == (0.0, 0.5, 1.0, 0.25)


def test_a_perfect_line_over_ten_turns_has_n_ir_one_ninth() -> None:
    line = [2.0 + 0.25 * k for k in range(10)]
    assert normalised_improvement_rate(line) == pytest.approx(1 / 9, abs=1e-12)
    assert normalised_r_squared(line) == pytest.approx(1.0, abs=1e-12)


def test_the_steepest_curve_over_ten_turns_has_n_ir_five_thirty_thirds() -> None:
    assert normalised_improvement_rate([1.0] * 5 + [5.0] * 5) == pytest.approx(5 / 33, abs=1e-12)  # 0.1515


def test_n_ir_rewards_a_model_that_starts_badly() -> None:
    # Why AL and IR always stand beside it: the better model of the two has the lower N-IR.
    poor, good = (1.0, 1.2, 1.4), (4.6, 5.0, 4.8)
    poor_rate, good_rate = normalised_improvement_rate(poor), normalised_improvement_rate(good)
    assert poor_rate is not None
    assert good_rate is not None
    assert poor_rate == pytest.approx(0.5)
    assert good_rate == pytest.approx(0.25)


@settings(deadline=None)
@given(ten_turns)
def test_n_ir_over_ten_turns_never_exceeds_its_bound(al: list[float]) -> None:
    rate = normalised_improvement_rate(al)
    assert rate is not None
    assert abs(rate) <= 5 / 33 + 1e-9


@settings(deadline=None)
@given(curves)
def test_ir_and_r2_agree_with_scipy(al: list[float]) -> None:
    expected = linregress(np.arange(1, len(al) + 1), al)
    assert improvement_rate(al) == pytest.approx(expected.slope, abs=1e-9)
    assert r_squared(al) == pytest.approx(expected.rvalue**2, abs=1e-6)


@settings(deadline=None)
@given(curves)
def test_stretching_a_curve_does_not_change_its_r2(al: list[float]) -> None:
    assert normalised_r_squared(al) == pytest.approx(r_squared(al), abs=1e-6)


@settings(deadline=None)
@given(curves)
def test_r2_is_a_share(al: list[float]) -> None:
    share = r_squared(al)
    assert share is not None
    assert 0 <= share <= 1


def test_slopes_of_many_curves_are_the_slopes_of_each() -> None:
    found = slopes(np.array([[1.0, 2.0, 3.0], [3.0, 3.0, 3.0], [5.0, math.nan, 1.0]]))
    assert found[:2].tolist() == [1.0, 0.0]
    assert math.isnan(found[2])
