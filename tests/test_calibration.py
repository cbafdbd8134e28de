"""Calibration finds in a judge what was planted in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import interalign as ia
from interalign import api

Cli = Callable[..., Any]


def judged(folder: Path, judge: str, trees: int = 3, **settings: Any) -> Path:
    run = folder / "run.db"
    ia.simulate(run, trees=trees, turns=2, branch=3, judge=judge, **settings)
    return run


@pytest.mark.parametrize("planted", [0.0, 0.2, 0.5])
def test_a_planted_position_bias_is_estimated(tmp_path: Path, planted: float) -> None:
    run = judged(tmp_path, f"world:judge?noise=0.1&position_bias={planted}", trees=250)
    bias = api.calibrate(run, against="truth").figures["position_bias"]
    assert bias.n >= 2000
    assert bias.value == pytest.approx(planted, abs=0.03)
    assert bias.ci is not None


def test_a_judge_that_always_answers_a_gives_no_pairs_and_is_told_why(tmp_path: Path) -> None:
    found = api.calibrate(judged(tmp_path, "world:judge?position_bias=1"), against="truth")
    assert (found.figures["first"].value, found.figures["swap_consistency"].value, found.pairs) == (1.0, 0.0, 0)
    assert "prefers the first answer 100% of the time" in found.verdict
    assert any("gives 0 preference pairs" in sentence for sentence in found.verdict)


@pytest.mark.parametrize(("judging", "figure"), [("compare", "kappa"), ("score", "score_kappa")])
def test_a_judge_without_faults_agrees_with_the_truth(tmp_path: Path, judging: Any, figure: str) -> None:
    found = api.calibrate(judged(tmp_path, "world:judge", judging=judging), against="truth")
    assert found.figures[figure].value == 1.0
    assert found.verdict == ()


def test_another_judge_of_the_file_is_a_reference(tmp_path: Path, cli: Cli) -> None:
    run = judged(tmp_path, "world:judge")
    assert cli("judge", run, "--judge", "world:judge?position_bias=1").code == 0
    done = cli("calibrate", run, "--against", "world:judge", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert (found["judge"], found["against"]) == ("world:judge?position_bias=1", "world:judge")
    assert 0.3 < found["figures"]["accuracy"]["value"] < 0.7


@pytest.mark.parametrize("options", [("nobody",), ("labels",), ("world:judge",), ("truth", "--judge", "nobody")])
def test_a_reference_that_is_not_there_is_refused_in_one_line(tmp_path: Path, cli: Cli, options: Any) -> None:
    done = cli("calibrate", judged(tmp_path, "world:judge", trees=1), "--against", *options)
    assert done.code == 2
    assert done.err.count("\n") == 1


def test_the_truth_of_other_personas_is_refused(tmp_path: Path) -> None:
    judge, says = "scripted_roles:OnlyScores", "scripted_roles:moody"
    roles: dict[str, Any] = {"user": "test_calibration:asks", "candidate": says, "inducer": "none"}
    run = judged(tmp_path, judge, trees=1, personas="people", judging="score", **roles)
    with pytest.raises(ia.ConfigError, match="truth is not known"):
        api.calibrate(run, against="truth")


async def asks(ask: Any) -> ia.Said:
    """A user agent that plays anybody."""
    return ia.Said(text=f"What shall I cook, {ask.at.seed}?")


class Second:
    """A judge that always prefers the reply shown second."""

    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        """B, whatever it says."""
        return ia.ChoiceOpinion(value="B", replies=("Verdict: B",))


class Silent:
    """A judge of whom no answer can be read."""

    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        """Nothing."""
        return ia.ChoiceOpinion(value=None, replies=("Hm.",))


def test_a_judge_that_prefers_the_second_reply_is_told_as_well(tmp_path: Path) -> None:
    found = api.calibrate(judged(tmp_path, "test_calibration:Second"), against="truth")
    assert found.figures["first"].value == 0.0
    assert "prefers the second answer 100% of the time" in found.verdict
    assert found.pairs == 0


def test_where_nothing_was_compared_that_is_the_verdict(tmp_path: Path, cli: Cli) -> None:
    ended = cli("calibrate", judged(tmp_path, "test_calibration:Silent", trees=1), "--against", "truth")
    assert ended.code == 0, ended.err
    assert "nothing was compared" in ended.out
    assert "no warning" not in ended.out
