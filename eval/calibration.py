"""How far one judge can be trusted: its answers beside the truth, people's labels, or another judge's."""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Final, NamedTuple

import numpy as np
from pydantic import JsonValue

from interalign.errors import ConfigError, did_you_mean
from interalign.eval.intervals import Floats, bootstrap_interval, resampled_sums
from interalign.judge_warnings import LEAST_CONSISTENT, MOST_FIRST
from interalign.models.names import is_model_name
from interalign.models.world import is_world_persona, true_score
from interalign.models.world.truth import TIE
from interalign.personas import Persona
from interalign.records import Label
from interalign.store import Store
from interalign.tree import JudgedTree, Presentation, Tree, Verdict

TRUTH: Final = "truth"
LABELS: Final = "labels"
MARGINS: Final = (0.0, 0.5, 1.5, 4.0)
"""Ends of the ranges of the true difference between two replies, in points, for which accuracy is told."""
LEAST_KAPPA: Final = 0.4
"""Chance-corrected agreement below which the verdict warns."""
MOST_MORE: Final = 0.1
"""How much more often than the reference a judge may choose the longer reply, or its own family's."""
TITLES: Final = {
    "first": "names the reply shown first",
    "swap_consistency": "same answer when the order is turned",
    "accuracy": "same answer as the reference",
    "kappa": "kappa of comparisons",
    "position_bias": "decided by place alone",
    "longer": "longer reply chosen, more often than by the reference",
    "self_preference": "own family chosen, more often than by the reference",
    "score_kappa": "weighted kappa of scores",
    "score_length_slope": "points more for twice as many words",
    **{
        f"accuracy_{low:g}_{high:g}": f"same answer, {low:g} to {high:g} points apart"
        for low, high in pairwise(MARGINS)
    },
}
"""What each figure is, in a few words."""
Profile = tuple[str, ...]
CHOICES: Final = ("A", "B", "tie")
SCORES: Final = (1, 2, 3, 4, 5)


class Figure(NamedTuple):
    """One figure with its 95 % interval; both None where nothing defines it."""

    value: float | None
    ci: tuple[float, float] | None
    n: int


class People(NamedTuple):
    """Those who labelled, beside each other."""

    labels: Mapping[str, int]
    """Name -> labels."""
    accuracy: Figure
    """Share of questions, of every two people with both an answer, to which they gave the same."""
    kappa: Figure
    """Cohen's kappa of the same, of scores weighted by squared distance."""


class Calibration(NamedTuple):
    """What calibration found of one judge."""

    judge: str
    against: str
    profiles: int
    """Personas' profiles, the units of all intervals."""
    figures: Mapping[str, Figure]
    missing: int
    """Answers that could not be read."""
    pairs: int
    """Comparisons won by the same reply in both orders: what an export can use."""
    base_rates: Mapping[str, Mapping[str, float]]
    """Share of each answer among those compared: name of the figure -> `judge A`, `reference A`, ... -> share."""
    verdict: tuple[str, ...]
    people: People | None = None
    """Of people's labels: who gave them and how far they agree, the most that a judge can be asked for."""


class _Answer(NamedTuple):
    """One answer of the judge to two replies in one order."""

    profile: Profile
    said: str
    reference: str | None
    """None: unknown."""
    weight: float
    """1 over the probability with which the question was drawn; 1 where all were."""
    margin: float | None
    """Difference of the true scores; None where they are not known."""
    longer: str | None
    """A or B, whichever has more words; None where both have as many."""
    own: str | None
    """A or B, whichever is by a model of the judge's family; None where neither or both are."""


class _Scored(NamedTuple):
    """One score of the judge."""

    profile: Profile
    said: int
    reference: int
    weight: float
    words: int


class _Seen(NamedTuple):
    """What is to be counted: each item with its profile."""

    answers: list[_Answer]
    swaps: list[tuple[Profile, bool]]
    """Profile, whether both orders named the same reply, of comparisons with both answers."""
    scores: list[_Scored]


def calibrate(store: Store, against: str, judge: str | None = None) -> Calibration:
    """Compare `judge` (the newest by default) with `truth`, `labels` or another judge of the same run file.

    Raises ConfigError if either is not in the file, or if truth is asked for personas that are not the world's.
    """
    name = _judge(store, judge or store.newest_judge())
    if against not in (TRUTH, LABELS) and _judge(store, against) == name:
        raise ConfigError(f"{name} cannot be calibrated against itself; name another judge with --judge or --against")
    labels = store.labels() if against == LABELS else []
    if against == LABELS and not labels:
        raise ConfigError(
            f"{store.path} has no labels of people; `interalign labels {store.path} plan` and `ask` do it"
        )
    chances = {question.key: question.probability or 1.0 for question in store.label_questions()}
    reference = _References(against, labels, chances if against == LABELS else {})
    found = _calibration(name, reference, list(store.judged_trees()), store.personas(), _families(store))
    return found._replace(people=_people(labels)) if labels else found


class _References(NamedTuple):
    """What the judge is compared with."""

    against: str
    labels: Sequence[Label]
    chances: Mapping[tuple[str, str, str | None], float]
    """Question -> with which probability it was drawn; empty where all were."""

    def weight(self, tree: str, a: str, b: str | None) -> float:
        return 1 / self.chances.get((tree, a, b), 1.0)


def _families(store: Store) -> dict[str, str]:
    """Candidate's name -> family of its model."""
    run = store.run
    return {} if run is None else {each["name"]: family(each["model"]) for each in run.begun_with.candidate}


def family(spec: str) -> str:
    """The first word of a model's name, such as `gpt` or `qwen`; empty for the embedded world and for plug-ins."""
    provider, _, name = spec.partition(":")
    word = re.match(r"[a-z]+", name.partition("?")[0].rstrip("/").rpartition("/")[2].lower())
    return "" if provider == "world" or not is_model_name(spec) or word is None else word[0]


def _judge(store: Store, name: str | None) -> str:
    if name is None:
        raise ConfigError("nothing in this run file was judged; `interalign judge RUN.db --judge M` does it")
    known = store.judges()
    if name not in known:
        raise ConfigError(f"no judge {name} in this run file{did_you_mean(name, known)}; it has {', '.join(known)}")
    return name


def _calibration(
    name: str,
    references: _References,
    trees: Sequence[JudgedTree],
    personas: Mapping[str, Persona],
    families: Mapping[str, str],
) -> Calibration:
    against = references.against
    if against == TRUTH:
        _refuse_unknown_truth(list(personas.values()))
        if unknown := next((tree.tree.id for tree in trees if tree.tree.persona not in personas), None):
            raise ConfigError(f"the truth is not known for tree {unknown}, whose persona is not; name a judge")
    seen, missing, won = _Seen([], [], []), 0, 0
    labels: dict[str, list[Label]] = {}
    for label in references.labels:
        labels.setdefault(label.tree, []).append(label)
    own_family = family(name)
    for tree in trees:
        persona, own = personas.get(tree.tree.persona), tree.by_judge(name)
        profile = persona.profile if persona else (tree.tree.id,)
        answered = _reference(tree, against, persona, labels.get(tree.tree.id, []))
        scored = _score_references(tree, against, persona, labels.get(tree.tree.id, []))
        mine = {node.id for node in tree.tree.nodes if own_family and families.get(node.by) == own_family}
        for verdict in own.verdicts:
            missing += sum(order.said is None for order in verdict.orders)
            won += verdict.outcome in ("a", "b")
            weight = references.weight(tree.tree.id, verdict.a, verdict.b)
            margin = _margin(tree, persona, verdict) if against == TRUTH and persona else None
            _add_verdict(seen, profile, verdict, answered, weight, margin, tree.tree, mine)
        for score in own.scores:
            missing += score.value is None
            reference = scored(score.node)
            if score.value is not None and reference is not None:
                weight = references.weight(tree.tree.id, score.node, None)
                words = len(tree.tree.node(score.node).text.split())
                seen.scores.append(_Scored(profile, _whole(score.value), reference, weight, words))
    figures = dict(_figures(seen))
    profiles = len({each[0] for each in (*seen.answers, *seen.swaps, *seen.scores)})
    words_ = tuple(_words(figures, against, missing, won, len(seen.swaps)))
    return Calibration(name, against, profiles, figures, missing, won, _base_rates(seen), words_)


def _margin(tree: JudgedTree, persona: Persona, verdict: Verdict) -> float:
    return abs(_true(tree, persona, verdict.a) - _true(tree, persona, verdict.b))


def _refuse_unknown_truth(personas: Sequence[Persona]) -> None:
    for persona in personas:
        if not is_world_persona(persona):
            raise ConfigError(
                f"the truth is not known for persona {persona.id}, which is not the world's; name a judge"
            )


Reference = Callable[[Presentation], str | None]


def _reference(tree: JudgedTree, against: str, persona: Persona | None, labels: Sequence[Label]) -> Reference:
    if against == TRUTH:
        assert persona is not None
        return lambda order: _true_choice(tree, persona, order)
    if against == LABELS:
        chosen = _majorities(labels)
        return lambda order: _as_choice(chosen.get(frozenset((order.first, order.second))), order)
    said = {(o.first, o.second): o.said for v in tree.by_judge(against).verdicts for o in v.orders}
    return lambda order: said.get((order.first, order.second))


def _majorities(labels: Sequence[Label]) -> dict[frozenset[str], str]:
    """Pair of replies -> the id that most people chose; `tie` where no answer has more than half."""
    votes: dict[frozenset[str], Counter[str]] = {}
    for label in labels:
        if label.b is not None:
            answer = {"a": label.a, "b": label.b}.get(label.answer, "tie")
            votes.setdefault(frozenset((label.a, label.b)), Counter())[answer] += 1
    found = {}
    for pair, counts in votes.items():
        answer, most = counts.most_common(1)[0]
        found[pair] = answer if most * 2 > counts.total() else "tie"
    return found


def _as_choice(chosen: str | None, order: Presentation) -> str | None:
    return {order.first: "A", order.second: "B"}.get(chosen, chosen) if chosen is not None else None


def _true_choice(tree: JudgedTree, persona: Persona, order: Presentation) -> str:
    first, second = (_true(tree, persona, node) for node in (order.first, order.second))
    return "tie" if abs(first - second) < TIE else "A" if first > second else "B"


def _true(tree: JudgedTree, persona: Persona, node: str) -> float:
    return true_score(persona, tree.tree.transcript(node)[:-1], tree.tree.node(node).text)


def _score_references(
    tree: JudgedTree, against: str, persona: Persona | None, labels: Sequence[Label]
) -> Callable[[str], int | None]:
    """From a reply to the score that the judge's is compared with; of several people's, their mean rounded."""
    if against == TRUTH:
        assert persona is not None
        return lambda node: _whole(_true(tree, persona, node))
    values: dict[str, list[float]] = {}
    if against == LABELS:
        for label in labels:
            if label.b is None:
                values.setdefault(label.a, []).append(float(label.answer))
    else:
        for score in tree.by_judge(against).scores:
            if score.value is not None:
                values[score.node] = [float(score.value)]
    return lambda node: _whole(float(np.mean(values[node]))) if node in values else None


def _whole(value: float) -> int:
    """The mean score of a panel, rounded half up; any other score as it is."""
    return int(value + 0.5)


def _add_verdict(
    seen: _Seen,
    profile: Profile,
    verdict: Verdict,
    answered: Reference,
    weight: float,
    margin: float | None,
    tree: Tree,
    mine: Collection[str],
) -> None:
    for order in verdict.orders:
        if order.said is not None:
            lengths = [len(tree.node(node).text.split()) for node in (order.first, order.second)]
            longer = None if lengths[0] == lengths[1] else "A" if lengths[0] > lengths[1] else "B"
            both = [order.first in mine, order.second in mine]
            own = None if both[0] == both[1] else "A" if both[0] else "B"
            seen.answers.append(_Answer(profile, order.said, answered(order), weight, margin, longer, own))
    if all(order.said is not None for order in verdict.orders):
        forth, back = (order.winner for order in verdict.orders)
        seen.swaps.append((profile, forth == back))


def _figures(seen: _Seen) -> Iterator[tuple[str, Figure]]:
    decided = [(each.profile, each.said == "A") for each in seen.answers if each.said != "tie"]
    compared = [each for each in seen.answers if each.reference is not None]
    yield "first", _share(decided)
    yield "swap_consistency", _share(seen.swaps)
    yield "accuracy", _accuracy(compared)
    if any(each.margin is not None for each in compared):
        for low, high in pairwise(MARGINS):
            within = [each for each in compared if each.margin is not None and low <= each.margin < high]
            yield f"accuracy_{low:g}_{high:g}", _accuracy(within)
    triples = [(each.profile, each.said, each.reference, each.weight) for each in compared]
    yield "kappa", _agreement(triples, CHOICES, quadratic=False)
    yield "position_bias", _position_bias([(p, said, str(truth)) for p, said, truth, _ in triples])
    yield "longer", _more_than_reference(compared, "longer")
    yield "self_preference", _more_than_reference(compared, "own")
    scored = [(each.profile, each.said, each.reference, each.weight) for each in seen.scores]
    yield "score_kappa", _agreement(scored, SCORES, quadratic=True)
    yield "score_length_slope", _length_slope(seen.scores)


def _accuracy(items: Sequence[_Answer]) -> Figure:
    rows = [(each.profile, each.weight * np.array([each.said == each.reference, 1.0])) for each in items]
    return _figure(rows, 2, lambda sums: _divide(sums[:, 0], sums[:, 1]), len(items))


def _share(items: Sequence[tuple[Profile, bool]]) -> Figure:
    rows = [(profile, np.array([hit, 1.0])) for profile, hit in items]
    return _figure(rows, 2, lambda sums: _divide(sums[:, 0], sums[:, 1]), len(items))


def _more_than_reference(items: Sequence[_Answer], what: str) -> Figure:
    """How much more often the judge chooses the reply that is `longer` (or by its `own` family) than the reference.

    Difference of two shares, each of the answers that are no tie: 0 is no preference of its own, 1 the most.
    """
    rows = []
    for each in items:
        marked = getattr(each, what)
        if marked is not None:
            of_judge = [each.said == marked, each.said != "tie"]
            of_reference = [each.reference == marked, each.reference != "tie"]
            rows.append((each.profile, each.weight * np.array([*of_judge, *of_reference], float)))

    def difference(sums: Floats) -> Floats:
        return _divide(sums[:, 0], sums[:, 1]) - _divide(sums[:, 2], sums[:, 3])

    return _figure(rows, 4, difference, len(rows))


def _length_slope(items: Sequence[_Scored]) -> Figure:
    """By how many points more than the reference the judge scores a reply of twice as many words (least squares)."""
    rows = []
    for each in items:
        x, y = math.log2(max(each.words, 1)), float(each.said - each.reference)
        rows.append((each.profile, each.weight * np.array([1.0, x, y, x * x, x * y])))

    def slope(sums: Floats) -> Floats:
        n, x, y, xx, xy = sums.T
        return _divide(n * xy - x * y, np.where(n * xx - x * x > 1e-9, n * xx - x * x, 0))

    return _figure(rows, 5, slope, len(rows))


def _position_bias(items: Sequence[tuple[Profile, str, str]]) -> Figure:
    """The share of comparisons decided by place alone, for the reply shown first.

    Noise (a fair coin) says A where B is true as often as B where A is true; what is left of the first is bias.
    """
    known = [(profile, said, truth) for profile, said, truth in items if truth != "tie"]
    rows = [
        (
            profile,
            np.array([truth == "B" and said == "A", truth == "B", truth == "A" and said == "B", truth == "A"], float),
        )
        for profile, said, truth in known
    ]

    def bias(sums: Floats) -> Floats:
        first, second = _divide(sums[:, 0], sums[:, 1]), _divide(sums[:, 2], sums[:, 3])
        return _divide(first - second, 1 - 2 * second)

    return _figure(rows, 4, bias, len(known))


def _agreement(
    items: Sequence[tuple[Profile, Hashable, Hashable, float]], values: Sequence[Hashable], quadratic: bool
) -> Figure:
    """Cohen's kappa, weighted by the squared distance of the values if `quadratic`."""
    size = len(values)
    place = {value: index for index, value in enumerate(values)}
    grid = np.arange(size)
    cost = ((grid[:, None] - grid) ** 2 if quadratic else grid[:, None] != grid).astype(float)
    unit = np.eye(size * size)
    rows = [(profile, weight * unit[place[said] * size + place[truth]]) for profile, said, truth, weight in items]

    def kappa(sums: Floats) -> Floats:
        tables = sums.reshape(-1, size, size)
        chance = tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None, :]
        expected = _divide((chance * cost).sum(axis=(1, 2)), tables.sum(axis=(1, 2)))
        return 1 - _divide((tables * cost).sum(axis=(1, 2)), expected)

    return _figure(rows, size * size, kappa, len(items))


def _figure(rows: Sequence[tuple[Profile, Floats]], width: int, figure: Callable[[Floats], Floats], n: int) -> Figure:
    """A figure of summed rows, with the bootstrap interval over whole profiles."""
    sums: dict[Profile, Floats] = {}
    for profile, row in rows:
        sums[profile] = sums.get(profile, np.zeros(width)) + row
    if not sums:
        return Figure(None, None, 0)
    units = np.stack([sums[profile] for profile in sorted(sums)])
    value = figure(units.sum(axis=0)[None, :])[0]
    interval = bootstrap_interval(figure(resampled_sums(units)), len(units))
    return Figure(float(value) if np.isfinite(value) else None, interval, n)


def _divide(above: Floats, below: Floats) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)
    return ratio


def _base_rates(seen: _Seen) -> dict[str, dict[str, float]]:
    compared = [(each.said, each.reference) for each in seen.answers if each.reference is not None]
    return {
        "kappa": _rates(compared, CHOICES),
        "score_kappa": _rates([(each.said, each.reference) for each in seen.scores], SCORES),
    }


def _rates(items: Sequence[tuple[Hashable, Hashable]], values: Sequence[Hashable]) -> dict[str, float]:
    return {
        f"{who} {value}": sum(item[index] == value for item in items) / len(items)
        for index, who in enumerate(("judge", "reference"))
        for value in values
        if items
    }


def _words(figures: Mapping[str, Figure], against: str, missing: int, won: int, compared: int) -> Iterator[str]:
    first, swap = figures["first"].value, figures["swap_consistency"].value
    if not any(figure.n for figure in figures.values()):
        yield "nothing was compared: no finished tree of the run has an answer of this judge that could be read"
    if first is not None and first > MOST_FIRST:
        yield f"prefers the first answer {first:.0%} of the time"
    if first is not None and first < 1 - MOST_FIRST:
        yield f"prefers the second answer {1 - first:.0%} of the time"
    if swap is not None and swap < LEAST_CONSISTENT:
        yield f"keeps to its answer in {swap:.0%} of comparisons when the order is turned round"
    longer, own = figures["longer"], figures["self_preference"]
    for figure, what in ((longer, "the longer reply"), (own, "replies of its own family")):
        if figure.value is not None and figure.ci is not None and figure.value > MOST_MORE and figure.ci[0] > 0:
            yield f"chooses {what} {100 * figure.value:.0f} points more often than {against}"
    for name, what in (("kappa", "comparisons"), ("score_kappa", "scores")):
        value = figures[name].value
        if value is not None and value < LEAST_KAPPA:
            yield f"agrees little with {against} on {what} (kappa {value:.2f})"
    if compared and not won:
        yield f"gives 0 preference pairs: none of {compared:,} comparisons was won by the same reply in both orders"
    if missing:
        yield f"gave {missing:,} answers that could not be read"


def as_json(found: Calibration) -> dict[str, JsonValue]:
    """What `interalign calibrate --json` prints."""
    figures: dict[str, JsonValue] = {name: _figure_json(one) for name, one in found.figures.items()}
    rates: dict[str, JsonValue] = {name: dict(of) for name, of in found.base_rates.items()}
    facts: dict[str, JsonValue] = {"judge": found.judge, "against": found.against, "n_profiles": found.profiles}
    counts: dict[str, JsonValue] = {"missing": found.missing, "pairs": found.pairs}
    people: JsonValue = None
    if found.people is not None:
        accuracy, kappa = _figure_json(found.people.accuracy), _figure_json(found.people.kappa)
        people = {"labels": dict(found.people.labels), "accuracy": accuracy, "kappa": kappa}
    verdict: list[JsonValue] = list(found.verdict)
    facts |= {"people": people}
    return {"schema": 1, **facts, "figures": figures, **counts, "base_rates": rates, "verdict": verdict}


def _figure_json(one: Figure) -> JsonValue:
    return {"value": one.value, "ci": list(one.ci) if one.ci else None, "n": one.n}


def _people(labels: Sequence[Label]) -> People:
    """How far every two people agree on the questions that both answered."""
    by_question: dict[tuple[str, str, str | None], dict[str, str]] = {}
    for label in labels:
        by_question.setdefault(label.key, {})[label.who] = label.answer
    same: list[tuple[Profile, bool]] = []
    choices: list[tuple[Profile, Hashable, Hashable, float]] = []
    scores: list[tuple[Profile, Hashable, Hashable, float]] = []
    for (tree, _, b), answers in by_question.items():
        for one, other in combinations(answers.values(), 2):
            same.append(((tree,), one == other))
            if b is None:
                scores.append(((tree,), int(one), int(other), 1.0))
            else:
                choices.append(((tree,), one, other, 1.0))
    of_scores = _agreement(scores, SCORES, quadratic=True)
    kappa = of_scores if len(scores) > len(choices) else _agreement(choices, ("a", "b", "tie"), quadratic=False)
    return People(dict(Counter(label.who for label in labels)), _share(same), kappa)
