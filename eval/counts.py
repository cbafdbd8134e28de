"""What judged trees show about the judge and the user simulator: simple counts, each rate beside its n."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from interalign.agents.audit import ANSWERS, ENDS, REPEATS, audit_user_message
from interalign.eval.intervals import (
    RESAMPLES,
    Interval,
    ProfileSums,
    bootstrap_interval,
    profile_sums,
    resampled_curves,
)
from interalign.tree import Frozen, JudgedTree, Node, Presentation, Score, Verdict

HINT = "+hint"
"""Ends the `by` of a reply whose candidate was shown the inducer's notes."""


class PairFigures(Frozen):
    """How a judge compared pairs of replies, each pair asked in both orders."""

    n: int
    """Pairs."""
    missing: int
    """Pairs with an order that could not be read; they are in none of the rates below."""
    consistency: float | None
    """Share of the readable pairs whose two orders say the same; None without any."""
    tie_rate: float | None
    """Share of the readable pairs that come out as a tie: said so, or the orders disagree."""
    first_rate: float | None
    """Share of the answers A or B that name the reply shown first; 0.5 means no position bias."""
    first_n: int
    """How many answers named one of the two replies."""


class ScoreFigures(Frozen):
    """How a judge scored replies."""

    n: int
    """Readable scores."""
    counts: tuple[int, int, int, int, int]
    """How often it gave 1, 2, 3, 4, 5."""


class HintFigures(Frozen):
    """Hinted replies against unhinted ones of the same candidate at the same place, as the judge saw them."""

    n: int
    wins: int
    ties: int
    losses: int
    win_rate: float | None
    """(wins + ties / 2) / n: 0.5 means that the hint made no difference; None without any pair."""
    ci: Interval | None
    """95 % bootstrap interval over profiles."""
    by_turn: tuple[float | None, ...]
    by_turn_ci: tuple[Interval | None, ...]
    n_by_turn: tuple[int, ...]


class JudgeFigures(Frozen):
    """The judge's own record."""

    name: str | None
    """None if no judge was asked."""
    others: tuple[str, ...]
    """Further judges of the run, whose answers are not in this report."""
    asked: int
    """Questions put to it: one a score, two a comparison (one an order)."""
    missing: int
    """Questions whose every answer was unreadable."""
    re_asked: int
    """Questions that took more than one answer, readable in the end or not."""
    comparisons: PairFigures | None
    scores: ScoreFigures | None
    hint: HintFigures | None


class SimulatorFigures(Frozen):
    """What the user agent wrote."""

    user: str | None
    """Model name of the user agent, where the run says it."""
    conversations: int
    """Trees."""
    turns: int
    """User messages, one a turn (and one a branch that was continued)."""
    mean_words: float | None
    mean_characters: float | None
    repeated: float | None
    """Share of the user messages that were already said earlier on the same path (case and blanks ignored)."""
    ended: float | None
    """Share of those that say goodbye, by their words (agents/audit.py)."""
    as_assistant: float | None
    """Share of those that speak as the assistant, by their words."""


class _Outcome(NamedTuple):
    profile: str
    turn: int
    hinted_won: float
    """1, 0.5 for a tie, 0."""


def judge_names(trees: Sequence[JudgedTree]) -> tuple[str, ...]:
    """All judges of these trees, in the order first asked; the last is the newest."""
    return tuple(dict.fromkeys(name for judged in trees for name in judged.judges()))


def judge_figures(
    trees: Sequence[JudgedTree],
    judge: str | None,
    profile_of: Mapping[str, str],
    *,
    turns: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> JudgeFigures:
    """The record of one judge; `profile_of` maps tree ids to profiles, `turns` is K. A None judge gives zero counts."""
    own = [judged.by_judge(judge) for judged in trees] if judge is not None else []
    verdicts = [verdict for judged in own for verdict in judged.verdicts]
    scores = [score for judged in own for score in judged.scores]
    orders = [order for verdict in verdicts for order in verdict.orders]
    answers = [*(order.replies for order in orders), *(score.replies for score in scores)]
    values = [*(order.said for order in orders), *(score.value for score in scores)]
    return JudgeFigures(
        name=judge,
        others=tuple(name for name in judge_names(trees) if name != judge),
        asked=len(answers),
        missing=sum(value is None for value in values),
        re_asked=sum(len(replies) > 1 for replies in answers),
        comparisons=_pair_figures(verdicts) if verdicts else None,
        scores=_score_figures(scores) if scores else None,
        hint=_hint_figures(own, profile_of, turns, resamples, seed),
    )


def simulator_figures(trees: Sequence[JudgedTree], user: str | None) -> SimulatorFigures:
    """Counts over every user message of the trees; the means are None if there is no message."""
    texts = [node.text for judged in trees for node in judged.tree.nodes if node.role == "user"]
    marks = [mark for judged in trees for mark in _marks(judged)]
    return SimulatorFigures(
        user=user,
        conversations=len(trees),
        turns=len(texts),
        mean_words=_share(sum(len(text.split()) for text in texts), len(texts)),
        mean_characters=_share(sum(map(len, texts)), len(texts)),
        repeated=_share(marks.count(REPEATS), len(texts)),
        ended=_share(marks.count(ENDS), len(texts)),
        as_assistant=_share(marks.count(ANSWERS), len(texts)),
    )


def _marks(judged: JudgedTree) -> Iterator[str]:
    """Everything that is wrong with the user messages of a tree."""
    for node in judged.tree.nodes:
        if node.role == "user":
            earlier = [said.text for said in judged.tree.path(node.id)[:-1] if said.role == "user"]
            yield from audit_user_message(node.text, earlier)


def _pair_figures(verdicts: Sequence[Verdict]) -> PairFigures:
    readable = [verdict for verdict in verdicts if verdict.outcome != "missing"]
    named = [order for verdict in verdicts for order in verdict.orders if order.winner is not None]
    return PairFigures(
        n=len(verdicts),
        missing=len(verdicts) - len(readable),
        consistency=_share(sum(_agree(*verdict.orders) for verdict in readable), len(readable)),
        tie_rate=_share(sum(verdict.outcome == "tie" for verdict in readable), len(readable)),
        first_rate=_share(sum(order.said == "A" for order in named), len(named)),
        first_n=len(named),
    )


def _agree(one: Presentation, other: Presentation) -> bool:
    return one.winner == other.winner


def _score_figures(scores: Sequence[Score]) -> ScoreFigures:
    values = [score.value for score in scores if score.value is not None]
    one, two, three, four, five = (values.count(value) for value in range(1, 6))
    return ScoreFigures(n=len(values), counts=(one, two, three, four, five))


def _hint_figures(
    trees: Sequence[JudgedTree], profile_of: Mapping[str, str], turns: int, resamples: int, seed: int
) -> HintFigures | None:
    outcomes = [outcome for judged in trees for outcome in _outcomes(judged, profile_of[judged.tree.id])]
    if not outcomes:
        return None
    matrix = np.full((len(outcomes), turns), np.nan)
    for row, outcome in enumerate(outcomes):
        matrix[row, outcome.turn - 1] = outcome.hinted_won
    sums = profile_sums(matrix, [outcome.profile for outcome in outcomes])
    units = len(sums.sums)
    curves = resampled_curves(sums, resamples=resamples, seed=seed)
    counts = sums.counts.sum(axis=0)
    won = [outcome.hinted_won for outcome in outcomes]
    # The overall rate weighs every pair the same, so its interval adds up all turns before it resamples.
    overall = ProfileSums(sums.sums.sum(axis=1, keepdims=True), sums.counts.sum(axis=1, keepdims=True))
    return HintFigures(
        n=len(won),
        wins=won.count(1.0),
        ties=won.count(0.5),
        losses=won.count(0.0),
        win_rate=_share(sum(won), len(won)),
        ci=bootstrap_interval(resampled_curves(overall, resamples=resamples, seed=seed)[:, 0], units),
        by_turn=tuple(_share(float(total), int(n)) for total, n in zip(sums.sums.sum(axis=0), counts, strict=True)),
        by_turn_ci=tuple(bootstrap_interval(curves[:, k], units) for k in range(turns)),
        n_by_turn=tuple(int(n) for n in counts),
    )


def _outcomes(judged: JudgedTree, profile: str) -> Iterator[_Outcome]:
    """One outcome a pair of a hinted and an unhinted reply; from scores where the judge compared nothing."""
    tree = judged.tree
    for verdict in judged.verdicts:
        a, b = tree.node(verdict.a), tree.node(verdict.b)
        if verdict.outcome == "missing" or not _differ_by_hint(a, b):
            continue
        winner = {"a": a, "b": b}.get(verdict.outcome)
        yield _Outcome(profile, a.turn, 0.5 if winner is None else float(winner.by.endswith(HINT)))
    if not judged.verdicts:
        yield from _scored_outcomes(judged, profile)


def _scored_outcomes(judged: JudgedTree, profile: str) -> Iterator[_Outcome]:
    value = {score.node: score.value for score in judged.scores if score.value is not None}
    for turn in judged.tree.turns():
        replies = [node for node in judged.tree.children(turn.id) if node.id in value]
        for hinted, plain in product(replies, replies):
            if hinted.by.endswith(HINT) and _differ_by_hint(hinted, plain):
                gap = value[hinted.id] - value[plain.id]
                yield _Outcome(profile, turn.turn, 0.5 if gap == 0 else float(gap > 0))


def _differ_by_hint(one: Node, other: Node) -> bool:
    """The same candidate, once with the hint and once without."""
    return one.by != other.by and one.by.removesuffix(HINT) == other.by.removesuffix(HINT)


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
