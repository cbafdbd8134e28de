"""Which questions to put to people: drawn with known probabilities, more where the judge is unsure."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final, NamedTuple

from interalign.errors import ConfigError
from interalign.panel import PANEL
from interalign.records import LabelQuestion
from interalign.seeds import addressed_rng
from interalign.store import Store
from interalign.tree import JudgedTree, Node

UNSURE: Final = 3.0
"""How much likelier a question is drawn about which the judge's two orders, or two judges, disagree."""


class _Possible(NamedTuple):
    """A question that can be asked."""

    question: LabelQuestion
    stratum: tuple[str, ...]
    """Profile and candidates: the sample is spread over these."""
    weight: float


def plan_questions(store: Store, n: int, seed: int = 0) -> list[LabelQuestion]:
    """`n` questions (all there are, if fewer), in random order, each with the probability with which it was drawn.

    Pairs of siblings where the run was judged by comparing, else single replies that were scored. Systematic sampling
    with probabilities proportional to size (Madow 1949): questions lie in the order of profile and candidate, so every
    stratum gets its share, and a question about which the judge's orders or several judges disagree counts UNSURE
    times. A question whose share would be above 1 is taken for certain. Estimates that weight by 1 / probability are
    unbiased. The same file, n and seed give the same plan.

    Raises ConfigError for n below 1 or a file without an answer of any judge.
    """
    if n < 1:
        raise ConfigError(f"--n {n}: plan at least one question")
    possible = sorted(_possible(store), key=lambda one: (one.stratum, addressed_rng(seed, one.question.id).random()))
    if not possible:
        raise ConfigError(f"{store.path}: no reply was judged yet, so there is nothing to label; judge the run first")
    drawn = list(_drawn(possible, n, addressed_rng("labels", seed).random()))
    return sorted(drawn, key=lambda question: addressed_rng("order", seed, question.id).random())


def _possible(store: Store) -> Iterator[_Possible]:
    personas = store.personas()
    for judged in store.judged_trees():
        persona = personas.get(judged.tree.persona)
        profile = "\n".join(persona.profile) if persona else judged.tree.id
        for question, nodes, unsure in (*_pairs(judged), *_scores(judged)):
            stratum = (profile, *sorted({node.by for node in nodes}))
            yield _Possible(question, stratum, UNSURE if unsure else 1.0)


Asked = tuple[LabelQuestion, Sequence[Node], bool]
"""A question, the replies it is about, and whether it is unsure."""


def _pairs(judged: JudgedTree) -> Iterator[Asked]:
    outcomes: dict[tuple[str, str], list[str]] = {}
    for verdict in judged.verdicts:
        if verdict.judge != PANEL and verdict.outcome != "missing":
            disagree = len({order.winner for order in verdict.orders}) > 1
            outcomes.setdefault((verdict.a, verdict.b), []).append("disagree" if disagree else verdict.outcome)
    for (a, b), found in outcomes.items():
        nodes = [judged.tree.node(a), judged.tree.node(b)]
        yield LabelQuestion(tree=judged.tree.id, a=a, b=b), nodes, "disagree" in found or len(set(found)) > 1


def _scores(judged: JudgedTree) -> Iterator[Asked]:
    values: dict[str, list[float]] = {}
    for score in judged.scores:
        if score.judge != PANEL and score.value is not None:
            values.setdefault(score.node, []).append(float(score.value))
    for node, found in values.items():
        unsure = any(abs(one - other) > 1 for one, other in combinations(found, 2))
        yield LabelQuestion(tree=judged.tree.id, a=node, b=None), [judged.tree.node(node)], unsure


def _drawn(possible: Sequence[_Possible], n: int, start: float) -> Iterator[LabelQuestion]:
    """Every question over which a point of the grid `start`, `start` + 1, ... falls, sizes laid end to end."""
    probabilities = _probabilities([one.weight for one in possible], n)
    passed, point = 0.0, start
    for one, probability in zip(possible, probabilities, strict=True):
        passed += probability
        if probability == 1 or passed > point:
            yield one.question.model_copy(update={"probability": probability})
            point += 1


def _probabilities(weights: Sequence[float], n: int) -> list[float]:
    """Proportional to the weights, `n` in all; those that would pass 1 are 1, and the others share what is left."""
    certain: set[int] = set()
    while True:
        left = sum(weight for place, weight in enumerate(weights) if place not in certain)
        share = (n - len(certain)) / left if left else 0.0
        more = {place for place, weight in enumerate(weights) if place not in certain and weight * share >= 1}
        if not more:
            return [1.0 if place in certain else weight * share for place, weight in enumerate(weights)]
        certain |= more
        if len(certain) == len(weights):
            return [1.0] * len(weights)
