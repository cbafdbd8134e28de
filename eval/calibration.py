"""How far one judge can be trusted: its answers beside the truth, or beside those of another judge."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from pydantic import JsonValue

from interalign.errors import ConfigError, did_you_mean
from interalign.eval.intervals import RESAMPLES, Floats, bootstrap_interval
from interalign.models.world import is_world_persona, true_score
from interalign.models.world.truth import TIE
from interalign.personas import Persona
from interalign.store import Store
from interalign.tree import JudgedTree, Presentation, Verdict

TRUTH: Final = "truth"
MOST_FIRST: Final = 0.6
"""Share of decided answers for the reply shown first above which the verdict warns."""
LEAST_KAPPA: Final = 0.4
"""Chance-corrected agreement below which the verdict warns."""
LEAST_CONSISTENT: Final = 0.7
"""Share of comparisons that do not change with the order below which the verdict warns."""
Profile = tuple[str, ...]
CHOICES: Final = ("A", "B", "tie")
SCORES: Final = (1, 2, 3, 4, 5)


class Figure(NamedTuple):
    """One figure with its 95 % interval; both None where nothing defines it."""

    value: float | None
    ci: tuple[float, float] | None
    n: int


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


class _Seen(NamedTuple):
    """What is to be counted: each item with its profile."""

    answers: list[tuple[Profile, str, str | None]]
    """Profile, the judge's answer, the reference's answer to the same two replies in the same order (None: unknown)."""
    swaps: list[tuple[Profile, bool]]
    """Profile, whether both orders named the same reply, of comparisons with both answers."""
    scores: list[tuple[Profile, int, int]]
    """Profile, the judge's score, the reference's."""


def calibrate(store: Store, against: str, judge: str | None = None) -> Calibration:
    """Compare `judge` (the newest by default) with `truth` or with another judge of the same run file.

    Raises ConfigError if either is not in the file, if truth is asked for personas that are not the world's, or for
    `labels`, which a run file does not hold.
    """
    name = _judge(store, judge or store.newest_judge())
    if against == "labels":
        raise ConfigError("a run file holds no labels of people yet; use --against truth or another judge of the file")
    if against != TRUTH and _judge(store, against) == name:
        raise ConfigError(f"{name} cannot be calibrated against itself; name another judge with --judge or --against")
    return _calibration(name, against, list(store.judged_trees()), store.personas())


def _judge(store: Store, name: str | None) -> str:
    if name is None:
        raise ConfigError("nothing in this run file was judged; `interalign judge RUN.db --judge M` does it")
    known = store.judges()
    if name not in known:
        raise ConfigError(f"no judge {name} in this run file{did_you_mean(name, known)}; it has {', '.join(known)}")
    return name


def _calibration(name: str, against: str, trees: Sequence[JudgedTree], personas: Mapping[str, Persona]) -> Calibration:
    if against == TRUTH:
        _refuse_unknown_truth(list(personas.values()))
    seen, missing, won = _Seen([], [], []), 0, 0
    for tree in trees:
        persona, own = personas[tree.tree.persona], tree.by_judge(name)
        answered = _reference(tree, against, persona)
        for verdict in own.verdicts:
            missing += sum(order.said is None for order in verdict.orders)
            won += verdict.outcome in ("a", "b")
            _add_verdict(seen, persona.profile, verdict, answered)
        for score in own.scores:
            missing += score.value is None
            reference = _score_reference(tree, against, persona, score.node)
            if score.value is not None and reference is not None:
                seen.scores.append((persona.profile, _whole(score.value), reference))
    figures = dict(_figures(seen))
    profiles = len({persona for persona, *_ in (*seen.answers, *seen.swaps, *seen.scores)})
    words = tuple(_words(figures, against, missing, won, len(seen.swaps)))
    return Calibration(name, against, profiles, figures, missing, won, _base_rates(seen), words)


def _refuse_unknown_truth(personas: Sequence[Persona]) -> None:
    for persona in personas:
        if not is_world_persona(persona):
            raise ConfigError(
                f"the truth is not known for persona {persona.id}, which is not the world's; name a judge"
            )


Reference = Callable[[Presentation], str | None]


def _reference(tree: JudgedTree, against: str, persona: Persona) -> Reference:
    if against == TRUTH:
        return lambda order: _true_choice(tree, persona, order)
    said = {(o.first, o.second): o.said for v in tree.by_judge(against).verdicts for o in v.orders}
    return lambda order: said.get((order.first, order.second))


def _true_choice(tree: JudgedTree, persona: Persona, order: Presentation) -> str:
    first, second = (_true(tree, persona, node) for node in (order.first, order.second))
    return "tie" if abs(first - second) < TIE else "A" if first > second else "B"


def _true(tree: JudgedTree, persona: Persona, node: str) -> float:
    return true_score(persona, tree.tree.transcript(node)[:-1], tree.tree.node(node).text)


def _score_reference(tree: JudgedTree, against: str, persona: Persona, node: str) -> int | None:
    if against == TRUTH:
        return _whole(_true(tree, persona, node))
    values = {score.node: score.value for score in tree.by_judge(against).scores}
    value = values.get(node)
    return None if value is None else _whole(value)


def _whole(value: float) -> int:
    """The mean score of a panel, rounded half up; any other score as it is."""
    return int(value + 0.5)


def _add_verdict(seen: _Seen, profile: Profile, verdict: Verdict, answered: Reference) -> None:
    for order in verdict.orders:
        if order.said is not None:
            seen.answers.append((profile, order.said, answered(order)))
    if all(order.said is not None for order in verdict.orders):
        forth, back = (order.winner for order in verdict.orders)
        seen.swaps.append((profile, forth == back))


def _figures(seen: _Seen) -> Iterator[tuple[str, Figure]]:
    decided = [(profile, said == "A") for profile, said, _ in seen.answers if said != "tie"]
    compared = [(profile, said, truth) for profile, said, truth in seen.answers if truth is not None]
    yield "first", _share(decided)
    yield "swap_consistency", _share(seen.swaps)
    yield "accuracy", _share([(profile, said == truth) for profile, said, truth in compared])
    yield "kappa", _agreement(compared, CHOICES, quadratic=False)
    yield "position_bias", _position_bias(compared)
    yield "score_kappa", _agreement(seen.scores, SCORES, quadratic=True)


def _share(items: Sequence[tuple[Profile, bool]]) -> Figure:
    rows = [(profile, np.array([hit, 1.0])) for profile, hit in items]
    return _figure(rows, 2, lambda sums: _divide(sums[:, 0], sums[:, 1]), len(items))


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
    items: Sequence[tuple[Profile, Hashable, Hashable]], values: Sequence[Hashable], quadratic: bool
) -> Figure:
    """Cohen's kappa, weighted by the squared distance of the values if `quadratic`."""
    size = len(values)
    place = {value: index for index, value in enumerate(values)}
    grid = np.arange(size)
    cost = ((grid[:, None] - grid) ** 2 if quadratic else grid[:, None] != grid).astype(float)
    rows = [(profile, np.eye(size * size)[place[said] * size + place[truth]]) for profile, said, truth in items]

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
    drawn = np.random.default_rng(0).multinomial(len(units), np.full(len(units), 1 / len(units)), size=RESAMPLES)
    interval = bootstrap_interval(figure(drawn @ units), len(units))
    return Figure(float(value) if np.isfinite(value) else None, interval, n)


def _divide(above: Floats, below: Floats) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)
    return ratio


def _base_rates(seen: _Seen) -> dict[str, dict[str, float]]:
    compared = [(said, truth) for _, said, truth in seen.answers if truth is not None]
    return {
        "kappa": _rates(compared, CHOICES),
        "score_kappa": _rates([(said, truth) for _, said, truth in seen.scores], SCORES),
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
    figures: dict[str, JsonValue] = {
        name: {"value": one.value, "ci": list(one.ci) if one.ci else None, "n": one.n}
        for name, one in found.figures.items()
    }
    rates: dict[str, JsonValue] = {name: dict(of) for name, of in found.base_rates.items()}
    facts: dict[str, JsonValue] = {"judge": found.judge, "against": found.against, "n_profiles": found.profiles}
    counts: dict[str, JsonValue] = {"missing": found.missing, "pairs": found.pairs}
    return {"schema": 1, **facts, "figures": figures, **counts, "base_rates": rates, "verdict": list(found.verdict)}
