"""`interalign power`: how many cases show a difference, against simulation and against a textbook value."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import interalign as ia
from interalign.eval.power import power_figures
from interalign.eval.results import CandidateScores

Cli = Callable[..., Any]


def scores(name: str, values: Any) -> CandidateScores:
    """A candidate with these scores, one profile a row and two turns a case."""
    rows = {f"c{number}": (float(value), float(value)) for number, value in enumerate(values)}
    return CandidateScores(name=name, scores=rows, profile_of={case: case for case in rows})


def pair(sd: float, units: int, gap: float = 0.0) -> list[CandidateScores]:
    """Two candidates whose differences have this mean and standard deviation."""
    drawn = np.random.default_rng(0).normal(size=units)
    drawn = (drawn - drawn.mean()) / drawn.std(ddof=1) * sd + gap
    return [scores("a", 3 + drawn), scores("b", np.full(units, 3.0))]


def test_a_known_sample_size_of_the_paired_t_test() -> None:
    [found] = power_figures(pair(sd=1.0, units=20), 0.5)
    assert found.profiles == 34  # d = 0.5, level 0.05 two-sided, power 0.8: in every table
    assert found.profiles_ci[0] < 34 < found.profiles_ci[1]
    assert found.cases == 34


def test_the_power_is_that_of_simulated_evaluations() -> None:
    [found] = power_figures(pair(sd=0.8, units=25), 0.4)
    drawn = np.random.default_rng(1).normal(0.4, 0.8, size=(4000, 25))
    shown = np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05)
    assert found.power == pytest.approx(shown, abs=0.03)
    [there] = power_figures(pair(sd=0.8, units=25), found.detectable)
    assert there.power == pytest.approx(0.8, abs=1e-6)


def test_one_candidate_stands_for_two_that_are_not_related() -> None:
    [alone] = power_figures(pair(sd=1.0, units=20)[:1], 0.5)
    assert alone.sd == pytest.approx(math.sqrt(2))
    assert (alone.b, alone.observed) == (None, None)


def test_differences_that_never_vary_need_two_profiles() -> None:
    [found] = power_figures([scores("a", [4, 4, 4]), scores("b", [3, 3, 3])], 0.5)
    assert (found.profiles, found.power) == (2, 1.0)


@pytest.mark.parametrize(
    ("options", "says"), [(("0",), "above 0"), (("nan",), "above 0"), (("1", "--power", "1"), "0.8")]
)
def test_a_difference_that_cannot_be_one_is_refused(tmp_path: Path, cli: Cli, options: Any, says: str) -> None:
    ia.evaluate(tmp_path / "e.db", limit=1, turns=1, candidate=["world:blind"])
    done = cli("power", tmp_path / "e.db", "--delta", *options)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert says in done.err


def test_the_command_names_every_pair_of_an_evaluation(tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "e.db"
    ia.evaluate(run, limit=20, turns=2, candidate=["world:blind", "world:oracle", "world:average"])
    found = json.loads(cli("power", run, "--delta", 0.2, "--json").out)
    assert [(one["a"], one["b"]) for one in found] == [("blind", "oracle"), ("blind", "average"), ("oracle", "average")]
    assert all(one["n_profiles"] == 4 and one["n_cases"] == 20 for one in found)
    assert "blind against oracle: 20 cases of 4 profiles here, difference -" in cli("power", run, "--delta", 0.2).out


def test_a_simulation_or_a_single_profile_has_nothing_to_say(tmp_path: Path, cli: Cli) -> None:
    ia.simulate(tmp_path / "s.db", trees=1, turns=1)
    assert cli("power", tmp_path / "s.db", "--delta", 0.2).code == 2
    ia.evaluate(tmp_path / "e.db", limit=1, turns=1, candidate=["world:blind"])
    assert cli("power", tmp_path / "e.db", "--delta", 0.2).code == 2  # one profile
