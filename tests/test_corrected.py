"""Figures corrected by people's labels: prediction-powered inference over profiles."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interalign as ia
from interalign import api
from interalign.errors import MetricError
from interalign.eval.corrected import LEAST_LABELS, LabelledScores, corrected
from interalign.eval.metrics import alignment_level, slopes

Cli = Callable[..., Any]


def made(
    name: str = "m", *, bias: float = 0.0, noise: float = 0.4, chance: float = 0.2, seed: int = 0, profiles: int = 40
) -> tuple[np.ndarray[Any, Any], LabelledScores]:
    """The truth, and a judge's scores with labels of some replies; two cases a profile, five turns."""
    rng = np.random.default_rng(seed)
    names = [f"p{number // 2}" for number in range(2 * profiles)]
    effect = np.repeat(rng.normal(0, 0.4, profiles), 2)[:, None]
    truth = np.clip(2.6 + 0.1 * np.arange(5) + effect + rng.normal(0, 0.4, (2 * profiles, 5)), 1, 5)
    judge = truth + bias + rng.normal(0, noise, truth.shape)
    labels = np.where(rng.random(truth.shape) < chance, truth, np.nan)
    cases = [f"c{number}" for number in range(2 * profiles)]
    return truth, LabelledScores(name, judge, labels, np.full(truth.shape, chance), cases, names)


def test_a_biased_judge_is_corrected_and_its_error_told() -> None:
    truth, one = made(bias=0.7)
    [found] = corrected([one]).candidates
    assert found.al_mean is not None
    assert found.error is not None
    assert found.al_mean.ci[0] < truth.mean() < found.al_mean.ci[1]
    assert found.al_mean.value == pytest.approx(truth.mean(), abs=0.1)
    assert found.error.ci[0] < 0.7 < found.error.ci[1]
    assert one.scores.mean() > found.al_mean.ci[1]


def test_with_every_reply_labelled_the_figures_are_those_of_people() -> None:
    truth, one = made(bias=0.7, noise=0.9)
    [found] = corrected([one._replace(labels=truth)]).candidates
    assert found.al_mean is not None
    assert found.ir is not None
    curve = np.array(alignment_level(truth).al, float)
    assert found.al_mean.value == pytest.approx(curve.mean())
    assert found.ir.value == pytest.approx(float(slopes(curve[None])[0]))
    assert [figure and figure.value for figure in found.al] == pytest.approx(list(curve))


def test_a_judge_that_says_nothing_has_little_weight_and_a_perfect_one_much() -> None:
    truth, one = made(noise=0.0)
    rng = np.random.default_rng(1)
    [perfect], [useless] = (
        corrected([each]).candidates for each in (one, one._replace(scores=rng.uniform(1, 5, truth.shape)))
    )
    assert perfect.al_mean is not None
    assert useless.al_mean is not None
    assert perfect.al_mean.judge_weight > 0.6
    assert useless.al_mean.judge_weight < 0.3
    narrow, wide = (each.al_mean.ci[1] - each.al_mean.ci[0] for each in (perfect, useless))
    assert narrow < wide


def test_labels_drawn_with_unequal_chances_are_weighted() -> None:
    truth, one = made(bias=0.5, chance=1.0, profiles=200)
    high = truth > np.median(truth)
    chances = np.where(high, 0.5, 0.1)
    drawn = np.random.default_rng(2).random(truth.shape) < chances
    sampled = one._replace(labels=np.where(drawn, truth, np.nan), probabilities=chances)
    [weighted] = corrected([sampled]).candidates
    [flat] = corrected([sampled._replace(scores=np.full(truth.shape, 3.0))]).candidates
    for found in (weighted, flat):
        assert found.al_mean is not None
        assert found.al_mean.ci[0] < truth.mean() < found.al_mean.ci[1]
    assert np.nanmean(sampled.labels) > truth.mean() + 0.15  # what an unweighted mean would say


def test_a_judge_that_favours_a_candidate_is_caught_and_the_difference_put_right() -> None:
    truth_a, a = made("a", seed=1)
    truth_b, b = made("b", bias=0.6, seed=1)
    found = corrected([a, b])
    assert found.audit.p is not None
    assert found.audit.p < 0.01
    assert "differs between candidates" in found.audit.verdict
    [gap] = found.comparisons
    assert gap.delta_al is not None
    assert gap.delta_al.ci[0] < truth_a.mean() - truth_b.mean() < gap.delta_al.ci[1]


def test_an_error_alike_for_all_is_no_alarm() -> None:
    found = corrected([made("a", bias=0.5, seed=3)[1], made("b", bias=0.5, seed=4)[1]])
    assert found.audit.p is not None
    assert found.audit.p > 0.05
    assert "would have been found with 80%" in found.audit.verdict


def test_too_few_labels_are_refused_in_words() -> None:
    _, one = made()
    labels = one.labels.copy()
    labels[np.isfinite(labels).cumsum().reshape(labels.shape) > LEAST_LABELS - 1] = np.nan
    [found] = corrected([one._replace(labels=labels)]).candidates
    assert (found.al_mean, found.ir) == (None, None)
    assert f"{LEAST_LABELS - 1} of its replies were labelled, {LEAST_LABELS} are the least" in str(found.refused)
    few = [int(name[1:]) < 9 for name in one.profiles]
    everything = np.where(np.array(few)[:, None], 3.0, np.nan) * np.ones_like(one.labels)
    [narrow] = corrected([one._replace(labels=everything)]).candidates
    assert "9 profiles, 10 are the least" in str(narrow.refused)


def test_more_labels_narrow_the_interval_as_was_said() -> None:
    truth, few = made(noise=1.0, chance=0.1, profiles=400)
    [found] = corrected([few]).candidates
    assert found.ir is not None
    needed = found.ir.labels_to_halve
    assert needed is not None
    chance = needed / truth.size
    _, more = made(noise=1.0, chance=chance, profiles=400)
    [then] = corrected([more]).candidates
    assert then.ir is not None
    width, half = (figure.ci[1] - figure.ci[0] for figure in (found.ir, then.ir))
    assert half / width == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"labels": np.full((80, 5), 6.0)}, "a label is 1 to 5"),
        ({"probabilities": np.zeros((80, 5))}, "a probability is above 0"),
        ({"labels": np.full((80, 4), 3.0)}, "pass a row a case"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(MetricError, match=says):
        corrected([made()[1]._replace(**changed)])


def test_the_report_of_an_evaluation_has_raw_and_corrected_figures(tmp_path: Path, cli: Cli) -> None:
    from interalign.models.world import true_score

    run = tmp_path / "run.db"
    ia.evaluate(run, limit=60, turns=3, candidate=["world:oracle"], judge="world:judge?noise=0.5")
    assert json.loads(cli("report", run, "--json").out)["corrected"] is None
    rows = []
    with ia.open_run(run) as store:
        for question in api.plan_labels(run, n=100):
            judged = store.judged_tree(question.tree)
            assert judged is not None
            persona = store.persona(judged.tree.persona)
            truth = true_score(persona, judged.tree.transcript(question.a)[:-1], judged.tree.node(question.a).text)
            rows.append({"question": question.id, "who": "ann", "answer": str(int(truth + 0.5))})
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    api.import_labels(run, tmp_path / "labels.jsonl")
    [one] = json.loads(cli("report", run, "--json").out)["corrected"]["candidates"]
    assert (one["n_labels"], one["n_profiles"], one["refused"]) == (100, 12, None)
    assert one["al_mean"]["ci"][0] < one["al_mean"]["value"] < one["al_mean"]["ci"][1]
    said = " ".join(cli("report", run).out.split())
    assert "Corrected by 100 labels of 12 profiles: oracle mean AL" in said
