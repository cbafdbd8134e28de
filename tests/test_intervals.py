"""Bootstrap over profiles and the paired test: what they must and must not do."""

import math

import numpy as np
import pytest

from interalign.errors import MetricError
from interalign.eval.intervals import (
    bootstrap_interval,
    holm,
    level_intervals,
    paired_difference,
    profile_sums,
    sign_flip_p,
)
from interalign.eval.metrics import Scores, score_matrix, slopes

TURNS = np.arange(1, 11)


def simulated_scores(rng: np.random.Generator, profiles: int, cases: int) -> Scores:
    """Scores 1..5 of shape (profiles * cases, 10): a level and a slope a profile, a level a case, noise a reply."""
    level, slope = rng.normal(3, 0.6, (profiles, 1, 1)), rng.normal(0.1, 0.05, (profiles, 1, 1))
    exact = level + slope * (TURNS - 5.5) + rng.normal(0, 0.4, (profiles, cases, 1))
    noisy = exact + rng.normal(0, 0.8, (profiles, cases, 10))
    return np.clip(np.round(noisy), 1, 5).reshape(profiles * cases, 10)


def test_nominal_95_percent_intervals_hold_the_truth_about_that_often_at_30_profiles() -> None:
    rng = np.random.default_rng(2024)
    population = simulated_scores(rng, profiles=50_000, cases=1).mean(axis=0)[None, :]
    true_mean, true_ir = population.mean(), slopes(population)[0]
    owners = [str(case // 5) for case in range(150)]
    held = {"al_mean": 0, "ir": 0}
    for _ in range(250):
        found = level_intervals(simulated_scores(rng, profiles=30, cases=5), owners, resamples=500)
        assert found.al_mean is not None
        assert found.ir is not None
        held["al_mean"] += found.al_mean[0] <= true_mean <= found.al_mean[1]
        held["ir"] += found.ir[0] <= true_ir <= found.ir[1]
    assert 0.88 <= held["al_mean"] / 250 <= 0.99
    assert 0.88 <= held["ir"] / 250 <= 0.99


def test_copies_of_a_case_within_its_profile_do_not_narrow_the_interval() -> None:
    scores = simulated_scores(np.random.default_rng(1), profiles=12, cases=1)
    once = level_intervals(scores, [str(profile) for profile in range(12)])
    five_times = level_intervals(np.repeat(scores, 5, axis=0), [str(case // 5) for case in range(60)])
    assert five_times == once


def test_the_same_cases_as_independent_profiles_would_give_a_narrower_interval() -> None:
    scores = np.repeat(simulated_scores(np.random.default_rng(1), profiles=12, cases=1), 5, axis=0)
    by_profile = level_intervals(scores, [str(case // 5) for case in range(60)]).al_mean
    by_case = level_intervals(scores, [str(case) for case in range(60)]).al_mean
    assert by_profile is not None
    assert by_case is not None
    assert by_case[1] - by_case[0] < 0.6 * (by_profile[1] - by_profile[0])


def test_one_profile_has_no_interval_however_many_cases() -> None:
    scores = score_matrix([[1, 2], [3, 4], [5, 5]], turns=2)
    assert level_intervals(scores, ["same"] * 3) == ((None, None), None, None)


def test_no_cases_have_no_interval() -> None:
    assert level_intervals(score_matrix([], turns=2), []) == ((None, None), None, None)


def test_the_interval_of_equal_scores_has_no_width() -> None:
    found = level_intervals(score_matrix([[2, 4]] * 6, turns=2), list("abcdef"))
    assert found == (((2.0, 2.0), (4.0, 4.0)), (3.0, 3.0), (2.0, 2.0))


def test_the_seed_decides_the_interval() -> None:
    scores = simulated_scores(np.random.default_rng(3), profiles=10, cases=2)
    owners = [str(case // 2) for case in range(20)]
    assert level_intervals(scores, owners, seed=7) == level_intervals(scores, owners, seed=7)
    assert level_intervals(scores, owners, seed=7) != level_intervals(scores, owners, seed=8)


def test_the_order_of_the_cases_does_not_matter() -> None:
    scores = simulated_scores(np.random.default_rng(3), profiles=10, cases=2)
    owners = [f"profile {case // 2}" for case in range(20)]
    assert level_intervals(scores[::-1], owners[::-1]) == level_intervals(scores, owners)


def test_a_turn_that_many_resamples_lack_has_no_interval_and_leaves_none_for_ir() -> None:
    # Only one profile of four has turn 2: 0.75 ** 4, about a third of the resamples, do without it.
    found = level_intervals(score_matrix([[1, 5], [2], [3], [4]], turns=2), list("abcd"))
    assert found.al[0] is not None
    assert found.al[1] is None
    assert found.ir is None
    assert found.al_mean is not None


def test_an_interval_widens_where_there_are_few_units() -> None:
    values = np.linspace(0, 1, 10_001)
    many, few = bootstrap_interval(values, units=100_000), bootstrap_interval(values, units=5)
    assert many == pytest.approx((0.025, 0.975), abs=1e-4)
    # sqrt(5 / 4) * t(0.025; 4 degrees) = 1.118 * -2.776 = -3.104 -> normal tail 0.00095.
    assert few == pytest.approx((0.00095, 0.99905), abs=2e-5)


def test_every_case_needs_a_profile() -> None:
    with pytest.raises(MetricError, match="2 cases but 1 profiles"):
        profile_sums(score_matrix([[1], [2]], turns=1), ["only one"])


def test_the_paired_difference_is_al_a_minus_al_b_on_the_same_cases() -> None:
    a = score_matrix([[3, 5], [2, 4], [4, 4]], turns=2)
    b = score_matrix([[1, 2], [2, 3], [3, 1]], turns=2)
    found = paired_difference(a, b, list("xyz"))
    # Turn 1: (2 + 0 + 1) / 3 = 1; turn 2: (3 + 1 + 3) / 3 = 7 / 3.
    assert found.delta_al == pytest.approx(5 / 3, abs=1e-12)
    assert found.delta_ir == pytest.approx(4 / 3, abs=1e-12)
    assert found.n == 3
    assert found.n_profiles == 3
    # All three profiles favour a: of the 8 sign patterns only all plus and all minus are as extreme.
    assert found.p == 0.25
    assert found.ci is not None
    assert found.ci[0] == 0.5  # the least one profile has, y
    assert found.ci[1] == 2.5  # the most, x


def test_swapping_the_candidates_turns_the_sign_and_keeps_p() -> None:
    rng = np.random.default_rng(5)
    a, b = simulated_scores(rng, 9, 1), simulated_scores(rng, 9, 1)
    owners = list("abcdefghi")
    one, other = paired_difference(a, b, owners), paired_difference(b, a, owners)
    assert one.delta_al is not None
    assert one.delta_al == -(other.delta_al or 0)
    assert one.p == other.p
    assert one.ci is not None
    assert other.ci is not None
    assert one.ci == pytest.approx((-other.ci[1], -other.ci[0]), abs=1e-9)


def test_a_place_that_one_candidate_lacks_is_left_out_for_both() -> None:
    # b broke off after turn 1 of case x. Its good turn 2 of a must not count against it.
    a = score_matrix([[2, 5], [3, 3]], turns=2)
    b = score_matrix([[1, None], [2, 2]], turns=2)
    found = paired_difference(a, b, ["x", "y"])
    assert found.delta_al == 1.0
    assert found.n == 2


def test_a_case_with_nothing_to_compare_is_not_in_n() -> None:
    a = score_matrix([[2, 5], [3, 3]], turns=2)
    b = score_matrix([[None, None], [2, 2]], turns=2)
    found = paired_difference(a, b, ["x", "y"])
    assert found.n == 1
    assert found.n_profiles == 1
    assert found.delta_al == 1.0
    assert found.ci is None
    assert found.p is None


def test_candidates_without_a_common_place_have_no_difference() -> None:
    found = paired_difference(score_matrix([[3]], turns=1), score_matrix([[None]], turns=1), ["x"])
    assert found == (None, None, None, None, None, 0, 0)


def test_equal_candidates_differ_by_nothing() -> None:
    scores = simulated_scores(np.random.default_rng(6), 8, 1)
    found = paired_difference(scores, scores, list("abcdefgh"))
    assert (found.delta_al, found.ci, found.p) == (0.0, (0.0, 0.0), 1.0)


def test_unpaired_shapes_are_refused() -> None:
    with pytest.raises(MetricError, match="pair them by case first"):
        paired_difference(score_matrix([[1]], turns=1), score_matrix([[1, 2]], turns=2), ["x"])


def test_the_sign_flip_test_counts_sign_patterns() -> None:
    # 1, 2, -1 sum to 2. The patterns of 1, 2, 1 sum to 4, 2, 2, 0, 0, -2, -2, -4: six of eight are at least as extreme.
    assert sign_flip_p(np.array([1.0, 2.0, -1.0])) == 0.75
    assert sign_flip_p(np.array([1.0, 1.0, 1.0, 1.0, 1.0])) == 2 / 32


def test_one_profile_cannot_be_tested() -> None:
    assert sign_flip_p(np.array([3.0])) is None
    assert sign_flip_p(np.array([])) is None


def test_a_drawn_p_value_is_close_to_the_exact_one_and_never_zero() -> None:
    # 20 equal differences: exactly 2 / 2 ** 20. The 10,000 draws cannot see that, but must not say 0.
    p = sign_flip_p(np.ones(20))
    assert p is not None
    assert 0 < p < 0.001


def test_the_test_rejects_a_true_null_hypothesis_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    p_values = [sign_flip_p(rng.normal(0, 1, 10)) for _ in range(400)]
    rejected = sum(p is not None and p <= 0.05 for p in p_values) / 400
    assert 0.02 <= rejected <= 0.08


def test_holm_adjusts_for_the_number_of_comparisons() -> None:
    # Sorted 0.01, 0.03, 0.04, times 3, 2, 1, and never below the one before.
    assert holm([0.01, 0.04, None, 0.03]) == (0.03, 0.06, None, 0.06)
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()


def test_no_figure_is_nan() -> None:
    found = paired_difference(score_matrix([[1, None]], turns=2), score_matrix([[2, None]], turns=2), ["x"])
    assert found.delta_al == -1.0
    assert found.delta_ir is None
    assert not any(isinstance(value, float) and math.isnan(value) for value in found)
