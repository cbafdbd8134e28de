"""A judge's figures corrected by people's labels: exact where they must be, and on average where labels are few."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interalign as ia
from interalign import api
from interalign.errors import MetricError
from interalign.eval.corrected import (
    LEAST_LABELS,
    LEAST_PROFILES,
    CorrectedFigure,
    as_json,
    corrected,
)
from interalign.eval.corrections import correction_lines
from interalign.eval.intervals import level_intervals
from interalign.eval.labelled_scores import LabelledScores
from interalign.eval.metrics import Scores, alignment_level, improvement_rate, mean_alignment_level

NAN = float("nan")
TOLD = "judge minus people: "
Cli = Callable[..., Any]


def candidate(
    scores: Any, labels: Any, chances: Any = 0.5, name: str = "a", owners: Sequence[str] | None = None
) -> LabelledScores:
    """A case a row, each its own profile unless `owners` says whose; one probability for all, or a table."""
    table = np.array(scores, dtype=float)
    cases = [f"c{row:03}" for row in range(len(table))]
    return LabelledScores(
        name=name,
        scores=table,
        labels=np.broadcast_to(np.array(labels, dtype=float), table.shape),
        probabilities=np.broadcast_to(np.array(chances, dtype=float), table.shape),
        cases=cases,
        profiles=owners or cases,
    )


def people(seed: int = 0, cases: int = 60, turns: int = 4) -> Scores:
    """What people say of every reply: users that differ, a level that rises by about 0.2 a turn."""
    rng = np.random.default_rng(seed)
    level = rng.normal(2.8, 0.5, (cases, 1)) + 0.2 * np.arange(turns)
    return np.clip(np.round(level + rng.normal(0, 0.7, (cases, turns))), 1, 5)


def some(labels: Scores, share: float, seed: int = 1) -> Scores:
    """A part of the labels, drawn by chance."""
    return np.where(np.random.default_rng(seed).random(labels.shape) < share, labels, NAN)


def given(figure: CorrectedFigure | None) -> CorrectedFigure:
    assert figure is not None
    return figure


def alike(one: CorrectedFigure | None, other: CorrectedFigure | None) -> bool:
    """But for rounding."""
    first, second = (np.array([given(each).value, *given(each).ci, given(each).judge_weight]) for each in (one, other))
    return np.allclose(first, second)


def width(figure: CorrectedFigure | None) -> float:
    low, high = given(figure).ci
    return high - low


def test_where_all_replies_are_labelled_the_figures_are_those_of_the_labels_whatever_the_judge_says() -> None:
    labels = people()
    [found] = corrected([candidate(np.full(labels.shape, 5.0), labels, NAN)]).candidates
    al = alignment_level(labels).al
    assert [given(each).value for each in found.al] == pytest.approx(al)
    assert given(found.al_mean).value == pytest.approx(mean_alignment_level(al))
    assert given(found.ir).value == pytest.approx(improvement_rate(al))
    assert given(found.error).value == pytest.approx(5 - labels.mean())
    assert (given(found.al_mean).judge_weight, given(found.al_mean).labels_to_halve) == (0.0, None)


def test_where_all_replies_are_labelled_the_interval_is_about_that_of_the_report() -> None:
    labels = people()
    one = candidate(labels, labels, NAN)
    [found] = corrected([one]).candidates
    raw = level_intervals(labels, one.profiles)
    assert given(found.al_mean).ci == pytest.approx(raw.al_mean, abs=0.02)
    assert given(found.ir).ci == pytest.approx(raw.ir, abs=0.01)


def test_a_judge_that_is_always_right_is_used_fully_and_labels_change_nothing() -> None:
    scores = people()
    [found] = corrected([candidate(scores, some(scores, 0.3), 0.3)]).candidates
    assert given(found.al_mean).judge_weight == pytest.approx(1, abs=0.1)
    assert given(found.al_mean).value == pytest.approx(scores.mean(), abs=0.03)
    assert given(found.error).value == pytest.approx(0, abs=1e-12)
    assert width(found.al_mean) < 1.1 * width(corrected([candidate(scores, scores)]).candidates[0].al_mean)


def test_a_judge_that_knows_nothing_is_not_used() -> None:
    labels = people(cases=400)
    noise = np.random.default_rng(7).integers(1, 6, labels.shape)
    [found] = corrected([candidate(noise, some(labels, 0.3), 0.3)]).candidates
    assert given(found.al_mean).judge_weight < 0.2
    [alone] = corrected([candidate(np.full(labels.shape, 3.0), some(labels, 0.3), 0.3)]).candidates
    assert width(found.al_mean) < 1.05 * width(alone.al_mean)


def test_labels_are_weighted_by_one_over_the_probability_with_which_they_were_drawn() -> None:
    drawn = [[5.0]] * 20 + [[1.0]] * 20 + [[NAN]] * 20  # every other reply of the second kind was labelled
    chances = [[1.0]] * 20 + [[0.5]] * 40
    [found] = corrected([candidate([[3.0]] * 60, drawn, chances)]).candidates
    assert given(found.al_mean).value == pytest.approx((20 * 5 + 40 * 1) / 60)
    assert given(found.al[0]).value == pytest.approx((20 * 5 + 40 * 1) / 60)


def test_only_the_proportions_of_the_probabilities_matter() -> None:
    scores, labels = people(cases=100), some(people(3, cases=100), 0.5)
    chances = np.random.default_rng(2).uniform(0.2, 1.0, scores.shape)
    [whole] = corrected([candidate(scores, labels, chances)]).candidates
    [half] = corrected([candidate(scores, labels, chances / 2)]).candidates
    for one, other in zip((whole.al_mean, whole.ir, *whole.al), (half.al_mean, half.ir, *half.al), strict=True):
        assert alike(one, other)


def given_rate(labels: Scores) -> float:
    rate = improvement_rate(alignment_level(labels).al)
    assert rate is not None
    return rate


def test_a_turn_without_labels_is_filled_in_by_the_line_and_its_own_level_is_not_corrected() -> None:
    truth = people(cases=200)
    labels = truth.copy()
    labels[:, 2] = NAN
    judge = np.clip(truth + 1 - 0.3 * np.arange(4), 1, 5)  # too kind at first, too strict at the end
    [found] = corrected([candidate(judge, labels, 0.75)]).candidates
    assert given(found.ir).value == pytest.approx(given_rate(truth), abs=0.02)
    assert given(found.al_mean).value == pytest.approx(truth.mean(), abs=0.04)
    assert found.al[2] is None
    assert found.notes == ("a: AL at turn 3 is not corrected: that takes 30 labels of 10 profiles at the turn",)


def test_the_interval_counts_profiles_not_replies() -> None:
    one = candidate(people(cases=20), people(cases=20), NAN)
    copies = candidate(*(np.repeat(one.scores, 5, axis=0),) * 2, NAN, owners=[f"c{row // 5:03}" for row in range(100)])
    [found], [copied] = corrected([one]).candidates, corrected([copies]).candidates
    assert given(copied.al_mean).ci == pytest.approx(given(found.al_mean).ci)
    assert given(copied.ir).ci == pytest.approx(given(found.ir).ci)


def test_the_order_of_cases_and_profiles_changes_nothing() -> None:
    one = candidate(people(), some(people(3), 0.5), owners=[f"p{row % 15}" for row in range(60)])
    order = np.random.default_rng(0).permutation(60)
    turned = LabelledScores(
        *("a", one.scores[order], one.labels[order], one.probabilities[order]),
        cases=[one.cases[row] for row in order],
        profiles=[one.profiles[row] for row in order],
    )
    [found], [other] = corrected([one]).candidates, corrected([turned]).candidates
    assert alike(found.al_mean, other.al_mean)
    assert alike(found.ir, other.ir)


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_with_as_many_labels_as_it_says_the_interval_is_half_as_wide(share: float) -> None:
    labels = np.random.default_rng(5).integers(1, 6, (8000, 1)).astype(float)
    constant = np.full(labels.shape, 3.0)
    [found] = corrected([candidate(constant, some(labels, share), share)]).candidates
    needed = given(found.al_mean).labels_to_halve
    assert needed is not None
    assert needed / found.n_labels == pytest.approx(4, rel=0.02)  # every reply is of a profile of its own
    more = needed / 8000
    [there] = corrected([candidate(constant, some(labels, more, seed=9), more)]).candidates
    assert width(there.al_mean) == pytest.approx(width(found.al_mean) / 2, rel=0.1)


def test_no_number_of_labels_halves_an_interval_that_comes_from_the_profiles() -> None:
    level = np.repeat(np.random.default_rng(1).integers(1, 6, (20, 1)), 50, axis=0).astype(float)
    owners = [f"p{row // 50}" for row in range(1000)]
    [found] = corrected([candidate(np.full(level.shape, 3.0), some(level, 0.5), owners=owners)]).candidates
    assert given(found.al_mean).labels_to_halve is None
    labels = people(turns=1)  # a third of them: four times as many are more than there are
    [found] = corrected([candidate(np.full(labels.shape, 3.0), few(labels, 30))]).candidates
    assert given(found.al_mean).labels_to_halve is None


def test_a_label_of_a_reply_without_a_score_is_not_used() -> None:
    scores, labels = people(), people(3)
    scores[0, 0] = NAN
    [found] = corrected([candidate(scores, labels)]).candidates
    assert found.n_labels == 60 * 4 - 1
    labels[0, 0] = NAN
    assert corrected([candidate(scores, labels)]).candidates[0] == found


def test_a_turn_that_nobody_reaches_is_left_out_and_a_gap_leaves_no_rate() -> None:
    labels = people()
    labels[:, 3] = NAN
    [found] = corrected([candidate(labels, labels, NAN)]).candidates
    three = labels[:, :3]
    assert given(found.ir).value == pytest.approx(given_rate(three))
    assert given(found.al_mean).value == pytest.approx(three.mean())
    assert (found.al[3], found.notes) == (None, ())
    labels = people()
    labels[:, 1] = NAN
    [found] = corrected([candidate(labels, labels, NAN)]).candidates
    assert found.ir is None
    assert given(found.al_mean).value == pytest.approx(labels[:, [0, 2, 3]].mean())


def test_one_turn_has_a_level_and_no_rate() -> None:
    labels = people(turns=1)
    [found] = corrected([candidate(labels, labels, NAN)]).candidates
    assert given(found.al_mean).value == pytest.approx(labels.mean())
    assert found.ir is None


def few(labels: Scores, n: int) -> Scores:
    """The first n labels: those of turn 1, then those of turn 2, ..."""
    kept = np.full(labels.shape, NAN)
    kept.T.flat[:n] = labels.T.flat[:n]
    return kept


@pytest.mark.parametrize("n", [0, 1, 29])
def test_with_too_few_labels_nothing_is_corrected_and_it_says_why(n: int) -> None:
    found = corrected([candidate(people(), few(people(3), n))])
    assert found.candidates == (
        (
            *("a", n, n, (None,) * 4, None, None, None),
            f"a is not corrected: {n} labels of its replies can be used, 30 are the least",
            (),
        ),
    )
    assert found.audit.p is None


def test_thirty_labels_of_ten_profiles_are_enough_but_not_for_a_turn() -> None:
    owners = [f"p{row % 10}" for row in range(60)]
    labels = np.full((60, 4), NAN)
    labels[:10, :3] = people(3)[:10, :3]
    [found] = corrected([candidate(people(), labels, owners=owners)]).candidates
    assert (found.n_labels, found.n_profiles, found.refused) == (LEAST_LABELS, LEAST_PROFILES, None)
    assert given(found.al_mean).ci[0] < given(found.al_mean).value < given(found.al_mean).ci[1]
    assert found.al == (None,) * 4


@pytest.mark.parametrize(("n", "is_corrected"), [(LEAST_LABELS - 1, False), (LEAST_LABELS, True)])
def test_a_turn_takes_thirty_labels_of_its_own(n: int, is_corrected: bool) -> None:
    [found] = corrected([candidate(people(), few(people(3), 60 + n))]).candidates
    assert [each is not None for each in found.al] == [True, is_corrected, False, False]


def test_labels_drawn_with_an_unknown_probability_are_not_used() -> None:
    said = (
        "a: 60 labels are not used, because nobody knows with which probability their replies were chosen; "
        "`interalign labels RUN.db plan` draws replies"
    )
    [found] = corrected([candidate(people(), few(people(3), 60), NAN)]).candidates
    assert (found.n_labels, found.al_mean, found.notes) == (0, None, (said,))
    chances = np.where(np.isfinite(few(people(), 60)), NAN, 0.5)
    [found] = corrected([candidate(people(), few(people(3), 180), chances)]).candidates
    assert (found.n_labels, found.refused, found.notes[0]) == (120, None, said)


def test_labels_of_too_few_profiles_are_refused_by_name() -> None:
    owners = [f"p{row % 9}" for row in range(60)]
    [found] = corrected([candidate(people(), people(), owners=owners)]).candidates
    assert found.refused == (
        "a is not corrected: its labels are of 9 profiles, 10 are the least; label replies to others"
    )


def test_the_report_says_which_labels_it_could_not_use_and_whom_it_could_not_compare() -> None:
    unplanned = candidate(people(), few(people(3), 60), NAN)
    [note, refused] = correction_lines(corrected([unplanned]))
    assert note.startswith("Labels: a: 60 labels are not used, because nobody knows")
    assert refused.startswith("Corrected by labels: a is not corrected: 0 labels of its replies can be used")
    one, other = (candidate(people(place), people(place), NAN, "ab"[place]) for place in range(2))
    apart = other._replace(cases=[*other.cases[:7], *(f"d{row}" for row in range(53))])
    lines = list(correction_lines(corrected([one, apart])))
    assert [line for line in lines if "compared" in line] == [
        "a and b are not compared by labels: on the cases of both, a is not corrected: 28 labels of its replies can be "
        "used, 30 are the least."
    ]


def test_two_candidates_are_compared_on_the_places_that_both_have_whatever_the_order_of_their_cases() -> None:
    a, b = people(1), people(2)
    a[5, 1] = NAN
    one, other = candidate(a, a, NAN, "a"), candidate(b, b, NAN, "b")
    back = np.arange(60)[::-1]
    turned = other._replace(
        scores=b[back],
        labels=b[back],
        probabilities=other.probabilities[back],
        cases=other.cases[::-1],
        profiles=other.profiles[::-1],
    )
    both = np.isfinite(a)
    expected = np.mean([a[:, k][both[:, k]].mean() - b[:, k][both[:, k]].mean() for k in range(4)])
    for second in (other, turned):
        [pair] = corrected([one, second]).comparisons
        assert (pair.a, pair.b, pair.n_labels) == ("a", "b", 2 * 239)
        assert given(pair.delta_al).value == pytest.approx(expected)
    [swapped] = corrected([other, one]).comparisons
    assert given(swapped.delta_al).value == pytest.approx(-expected)
    assert given(swapped.delta_al).ci == pytest.approx([-end for end in reversed(given(pair.delta_al).ci)])
    assert given(swapped.delta_ir).value == pytest.approx(-given(pair.delta_ir).value)


def test_what_users_have_in_common_does_not_widen_the_interval_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(3, 0.8, (60, 1))
    a, b = (np.clip(level + rng.normal(0, 0.1, (60, 4)), 1, 5) for _ in range(2))
    found = corrected([candidate(a, a, NAN, "a"), candidate(b, b, NAN, "b")])
    assert width(found.comparisons[0].delta_al) < 0.3 * width(found.candidates[0].al_mean)


def test_candidates_without_a_case_in_common_or_with_too_few_labels_there_are_not_compared() -> None:
    one, other = candidate(people(1), people(1), NAN, "a"), candidate(people(2), people(2), NAN, "b")
    assert corrected([one, other._replace(cases=[f"d{row}" for row in range(60)])]).comparisons == ()
    apart = other._replace(cases=[*other.cases[:7], *(f"d{row}" for row in range(53))])
    [pair] = corrected([one, apart]).comparisons
    assert pair[:5] == ("a", "b", 56, None, None)
    assert pair.refused == (
        "on the cases of both, a is not corrected: 28 labels of its replies can be used, 30 are the least"
    )
    [pair] = corrected([one, candidate(people(2), NAN, name="b")]).comparisons
    assert pair.refused == "b is not corrected: 0 labels of its replies can be used, 30 are the least"


def test_labels_of_one_candidate_are_not_used_for_another() -> None:
    one, other = candidate(people(1), some(people(4), 0.5)), candidate(people(2), some(people(5), 0.5), name="b")
    alone = corrected([one]).candidates[0]
    assert corrected([one, other]).candidates[0] == alone


@pytest.mark.parametrize(
    ("errors", "p", "words"),
    [
        ((0, 0), 1.0, "no difference between the judge's errors was found (p 1.00; " + TOLD + "a +0.00, b +0.00)"),
        ((1, 1), 1.0, "no difference between the judge's errors was found (p 1.00; " + TOLD + "a +1.00, b +1.00)"),
        ((0, 1), 0.0, "the judge's error differs between candidates (p 0; " + TOLD + "a +0.00, b +1.00)"),
        ((0, 0, -1), 0.0, "the judge's error differs between candidates (p 0; " + TOLD + "a +0.00, b +0.00, c -1.00)"),
    ],
)  # fmt: skip
def test_the_audit_says_whether_the_judge_errs_alike(errors: Sequence[int], p: float, words: str) -> None:
    truth = np.clip(people(), 2, 4)
    found = corrected(
        [candidate(truth + error, truth, name=name) for name, error in zip("abc", errors, strict=False)]
    ).audit
    assert found.p == pytest.approx(p, abs=1e-9)
    assert words in found.verdict


def test_the_audit_finds_the_candidate_that_a_noisy_judge_favours_and_accuses_no_other() -> None:
    rng = np.random.default_rng(4)
    truth = [people(seed) for seed in range(3)]
    said = [np.clip(each + rng.normal(0, 0.8, each.shape), 1, 5) for each in truth]
    said[2] = np.clip(said[2] + 0.7, 1, 5)
    all_three = [candidate(said[place], some(truth[place], 0.4), name="abc"[place]) for place in range(3)]
    assert given_p(all_three) < 0.001
    assert given_p(all_three[:2]) > 0.05
    found = corrected(all_three)
    assert "do not compare them by its scores, only by the corrected figures" in found.audit.verdict
    low, high = given(found.candidates[2].error).ci
    assert low < (said[2] - truth[2]).mean() < high


def given_p(candidates: Sequence[LabelledScores]) -> float:
    p = corrected(candidates).audit.p
    assert p is not None
    return p


def test_the_audit_needs_labels_of_two_candidates() -> None:
    one = candidate(people(), people())
    for others in ([], [candidate(people(), NAN, name="b")]):
        found = corrected([one, *others]).audit
        assert (found.p, found.detectable) == (None, None)
        assert found.verdict.startswith("whether the judge errs alike for all candidates is not known")


def test_no_candidates_are_no_error() -> None:
    assert corrected([])[:2] == ((), ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": np.full((60, 4), 6.0)}, "a: a label is 1 to 5 or missing (NaN), got 6"),
        ({"scores": np.full((60, 4), 0.0)}, "a: a score is 1 to 5 or missing (NaN), got 0"),
        ({"labels": np.full((60, 4), np.inf)}, "a: a label is 1 to 5 or missing (NaN), got inf"),
        ({"probabilities": np.zeros((60, 4))}, "a: a probability is above 0 and at most 1, got 0"),
        ({"probabilities": np.full((60, 4), 1.5)}, "a: a probability is above 0 and at most 1, got 1.5"),
        ({"labels": np.full((60, 3), NAN)}, "labels (60, 3)"),
        ({"profiles": ["p"] * 59}, "60 cases and 59 profiles"),
        ({"cases": ["c"] * 60}, "a: two cases have the same name"),
    ],
)
def test_tables_that_cannot_be_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(MetricError) as error:
        corrected([candidate(people(), people())._replace(**change)])
    assert words in str(error.value)


def test_the_json_has_every_figure_with_its_interval_or_null() -> None:
    labels = people()
    found = json.loads(
        json.dumps(as_json(corrected([candidate(labels, labels, NAN), candidate(labels, NAN, name="b")])))
    )
    assert set(found) == {"candidates", "comparisons", "audit"}
    [a, b] = found["candidates"]
    assert a["al_mean"]["value"] == pytest.approx(labels.mean())
    assert set(a["al_mean"]) == {"value", "ci", "judge_weight", "labels_to_halve"}
    assert len(a["al_mean"]["ci"]) == 2
    assert (b["al"], b["al_mean"], b["n_labels"]) == ([None] * 4, None, 0)
    assert found["comparisons"][0]["delta_al"] is None
    assert found["audit"]["p"] is None


def made(
    name: str = "m", *, bias: float = 0.0, noise: float = 0.4, chance: float = 0.2, seed: int = 0, profiles: int = 40
) -> tuple[np.ndarray[Any, Any], LabelledScores]:
    """The truth, and a judge's scores with labels of some replies; two cases a profile, five turns."""
    rng = np.random.default_rng(seed)
    names = [f"p{number // 2}" for number in range(2 * profiles)]
    effect = np.repeat(rng.normal(0, 0.4, profiles), 2)[:, None]
    truth = np.clip(2.6 + 0.1 * np.arange(5) + effect + rng.normal(0, 0.4, (2 * profiles, 5)), 1, 5)
    judge = np.clip(truth + bias + rng.normal(0, noise, truth.shape), 1, 5)
    labels = np.where(rng.random(truth.shape) < chance, truth, np.nan)
    cases = [f"c{number}" for number in range(2 * profiles)]
    return truth, LabelledScores(name, judge, labels, np.full(truth.shape, chance), cases, names)


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
    truth_b, b = made("b", bias=0.6, seed=2)
    found = corrected([a, b])
    assert found.audit.p is not None
    assert found.audit.p < 0.01
    assert "differs between candidates" in found.audit.verdict
    [gap] = found.comparisons
    assert gap.delta_al is not None
    assert gap.delta_al.ci[0] < truth_a.mean() - truth_b.mean() < gap.delta_al.ci[1]


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


def with_holes(rng: np.random.Generator, name: str, cases: int, turns: int) -> LabelledScores:
    """Labels and a judge half a point off, with scores, labels, probabilities and whole turns missing."""
    labels = rng.integers(1, 6, (cases, turns)).astype(float)
    scores = np.clip(labels + rng.integers(-1, 2, labels.shape) / 2, 1, 5)
    scores[rng.random(labels.shape) < rng.choice([0.0, 0.1, 0.8])] = NAN
    scores[:, rng.random(turns) < 0.2] = NAN
    scores[1:, -1:] = NAN if rng.random() < 0.3 else scores[1:, -1:]
    labels[rng.random(labels.shape) > rng.choice([0.2, 0.6, 1.0])] = NAN
    chances = rng.choice([0.1, 0.5, 1.0, NAN], labels.shape, p=[0.3, 0.3, 0.3, 0.1])
    return candidate(scores, labels, chances, name, [f"p{row % 20}" for row in range(cases)])


def test_whatever_is_missing_a_figure_is_whole_or_null() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        cases, turns = int(rng.integers(0, 100)), int(rng.integers(0, 5))
        found = corrected([with_holes(rng, name, cases, turns) for name in "abc"])
        json.dumps(as_json(found), allow_nan=False)
        for one in found.candidates:
            for figure in (*one.al, one.al_mean, one.ir, one.error):
                assert figure is None or figure.ci[0] <= figure.value <= figure.ci[1]
                assert figure is None or 0 <= figure.judge_weight <= 1
