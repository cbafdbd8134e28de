"""One candidate's scores by a judge, and by people where there are any: checked, and on the cases that two share."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from interalign.errors import MetricError
from interalign.eval.intervals import Floats
from interalign.eval.metrics import Scores


class LabelledScores(NamedTuple):
    """One candidate's scores, by the judge and by people where there are any; tables of shape (cases, turns)."""

    name: str
    scores: Scores
    """By the judge, 1 to 5; NaN where missing."""
    labels: Scores
    """By people, 1 to 5, the mean where several labelled a reply; NaN where nobody did."""
    probabilities: Floats
    """With which the reply was drawn for labelling; NaN where unknown: such a label is not used. Looked at only where
    there is a label, and not at all if every reply with a score has one."""
    cases: Sequence[str]
    """By which candidates are paired."""
    profiles: Sequence[str]
    """Of each case."""


def usable(one: LabelledScores) -> LabelledScores:
    """With labels and probabilities only where both can be used, and probabilities 1 where everything is labelled."""
    _refuse_bad(one)
    scored, labelled = np.isfinite(one.scores), np.isfinite(one.labels)
    chances = np.ones_like(one.scores) if (labelled | ~scored).all() else one.probabilities
    used = scored & labelled & np.isfinite(chances)
    return one._replace(labels=np.where(used, one.labels, np.nan), probabilities=np.where(used, chances, np.nan))


def _refuse_bad(one: LabelledScores) -> None:
    shape, cases = one.scores.shape, len(one.cases)
    if not shape == one.labels.shape == one.probabilities.shape or not shape[0] == cases == len(one.profiles):
        raise MetricError(
            f"{one.name}: scores of shape {shape}, labels {one.labels.shape}, probabilities {one.probabilities.shape}, "
            f"{cases} cases and {len(one.profiles)} profiles; pass a row a case of each"
        )
    if len(set(one.cases)) < cases:
        raise MetricError(f"{one.name}: two cases have the same name; give each its own")
    for what, table in (("score", one.scores), ("label", one.labels)):
        if (bad := table[(table < 1) | (table > 5)]).size:
            raise MetricError(f"{one.name}: a {what} is 1 to 5 or missing (NaN), got {bad[0]:g}")
    chances = one.probabilities
    if (bad := chances[(chances <= 0) | (chances > 1)]).size:
        raise MetricError(f"{one.name}: a probability is above 0 and at most 1, got {bad[0]:g}")


def n_labels(one: LabelledScores) -> int:
    """Labels that can be used."""
    return int(np.isfinite(one.labels).sum())


def labelled_profiles(*candidates: LabelledScores) -> int:
    """Profiles of which any reply, of any of the candidates, has a label that can be used."""
    return len({one.profiles[case] for one in candidates for case in np.nonzero(np.isfinite(one.labels))[0].tolist()})


def shared(a: LabelledScores, b: LabelledScores) -> tuple[LabelledScores, LabelledScores]:
    """Both on the cases that they share, with what is of a place where the other has no score left out."""
    order = {case: index for index, case in enumerate(b.cases)}
    cases = [case for case in a.cases if case in order]
    of_a = _rows(a, [index for index, case in enumerate(a.cases) if case in order])
    of_b = _rows(b, [order[case] for case in cases])._replace(profiles=of_a.profiles)
    either = np.isfinite(of_a.scores) & np.isfinite(of_b.scores)
    return _masked(of_a, either), _masked(of_b, either)


def _rows(one: LabelledScores, rows: Sequence[int]) -> LabelledScores:
    return one._replace(
        scores=one.scores[rows],
        labels=one.labels[rows],
        probabilities=one.probabilities[rows],
        cases=[one.cases[row] for row in rows],
        profiles=[one.profiles[row] for row in rows],
    )


def _masked(one: LabelledScores, where: npt.NDArray[np.bool_]) -> LabelledScores:
    return one._replace(
        scores=np.where(where, one.scores, np.nan),
        labels=np.where(where, one.labels, np.nan),
        probabilities=np.where(where, one.probabilities, np.nan),
    )
