"""What AL and IR look like in the world: the skills that the scripted candidates have show in the levels."""

from functools import cache

import numpy as np
import pytest
from world_talk import levels


@cache
def scores(candidate: str, user: str = "user", hints: bool = False) -> np.ndarray:
    return levels(candidate, user=user, hints=hints)


def rise(cases: np.ndarray) -> np.ndarray:
    """Each case's slope over the turns."""
    turns = np.arange(1, 11) - 5.5
    return cases @ turns / (turns @ turns)


def above(values: np.ndarray, bound: float) -> bool:
    """Whether the mean is above the bound by more than four standard errors: no luck of the seed."""
    return bool(values.mean() - 4 * values.std(ddof=1) / len(values) ** 0.5 > bound)


def test_the_oracle_rises_over_ten_turns() -> None:
    assert above(rise(scores("oracle")), 0.15)
    assert scores("oracle")[:, -1].mean() > 4.8


def test_the_attentive_one_rises_but_less_than_the_oracle() -> None:
    assert above(rise(scores("attentive")), 0.05)
    assert above(rise(scores("oracle")) - rise(scores("attentive")), 0.02)


def test_the_blind_one_stays_flat() -> None:
    assert abs(rise(scores("blind")).mean()) < 0.02


def test_mean_levels_order_the_candidates_by_their_skill() -> None:
    means = [scores(name).mean() for name in ("blind", "average", "attentive", "oracle")]
    assert means == sorted(means)
    assert min(np.diff(means)) > 0.3


@pytest.mark.parametrize("candidate", ["average", "attentive"])
def test_hinted_replies_beat_unhinted_ones(candidate: str) -> None:
    gain = scores(candidate, hints=True).mean(axis=1) - scores(candidate).mean(axis=1)
    assert above(gain, 0.2)


def test_the_blind_one_does_not_read_hints_either() -> None:
    assert np.array_equal(scores("blind", hints=True), scores("blind"))


def test_a_user_who_never_answers_lowers_the_levels_of_a_candidate_that_asks() -> None:
    loss = scores("oracle").mean(axis=1) - scores("oracle", user="user?answers=0").mean(axis=1)
    assert above(loss, 0.1)
