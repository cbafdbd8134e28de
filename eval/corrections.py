"""From a run file with people's labels to its corrected figures (`eval/corrected.py`)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from interalign.eval.corrected import Corrected, CorrectedFigure, corrected
from interalign.eval.labelled_scores import LabelledScores
from interalign.eval.results import CandidateScores, ScoredCase
from interalign.records import Label, LabelQuestion


def corrections(
    cases: Sequence[ScoredCase],
    scores: Sequence[CandidateScores],
    labels: Sequence[Label],
    questions: Sequence[LabelQuestion],
) -> Corrected | None:
    """The figures of an evaluation corrected by the labels of single replies; None where there is no such label.

    Several people's labels of a reply count as their mean. A label of a question that no plan drew has an unknown
    probability: it is not used, unless every reply is labelled.
    """
    given: dict[tuple[str, str], list[float]] = defaultdict(list)
    for label in labels:
        if label.b is None:
            given[label.tree, label.a].append(float(label.answer))
    if not given:
        return None
    chances = {(one.tree, one.a): one.probability for one in questions if one.b is None}
    return corrected([_labelled(one, cases, given, chances) for one in scores if one.scores])


def _labelled(
    one: CandidateScores,
    cases: Sequence[ScoredCase],
    given: dict[tuple[str, str], list[float]],
    chances: dict[tuple[str, str], float | None],
) -> LabelledScores:
    place = {case: row for row, case in enumerate(one.scores)}
    scores = np.array([[np.nan if each is None else each for each in row] for row in one.scores.values()], float)
    labels, probabilities = np.full(scores.shape, np.nan), np.full(scores.shape, np.nan)
    for case in cases:
        if case.candidate == one.name and case.judged is not None:
            for node in case.judged.tree.nodes:
                key = (case.judged.tree.id, node.id)
                if node.role == "assistant" and key in given:
                    labels[place[case.case], node.turn - 1] = np.mean(given[key])
                    probabilities[place[case.case], node.turn - 1] = chances.get(key) or np.nan
    profiles = [one.profile_of[case] for case in one.scores]
    return LabelledScores(one.name, scores, labels, probabilities, list(one.scores), profiles)


def correction_lines(found: Corrected) -> Iterator[str]:
    """What a console shows of them."""
    refused = {one.name for one in found.candidates if one.refused is not None}
    for one in found.candidates:
        for note in one.notes:
            yield f"Labels: {note}."
        if one.refused is not None:
            yield f"Corrected by labels: {one.refused}."
            continue
        halve = one.al_mean.labels_to_halve if one.al_mean else None
        more = f"; {halve:,} labels would halve the interval" if halve else ""
        yield (
            f"Corrected by {one.n_labels:,} labels of {one.n_profiles:,} profiles: {one.name} mean AL "
            f"{_shown(one.al_mean)}, IR {_shown(one.ir, 3)}; the judge is {_shown(one.error)} above people{more}."
        )
    for pair in found.comparisons:
        if pair.refused is None:
            yield f"Corrected: {pair.a} minus {pair.b}, mean AL {_shown(pair.delta_al)}, IR {_shown(pair.delta_ir, 3)}."
        elif not refused & {pair.a, pair.b}:
            yield f"{pair.a} and {pair.b} are not compared by labels: {pair.refused}."
    if any(one.refused is None for one in found.candidates):
        yield f"Labels: {found.audit.verdict}."


def _shown(figure: CorrectedFigure | None, digits: int = 2) -> str:
    if figure is None:
        return "not defined"
    low, high = figure.ci
    return f"{figure.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
