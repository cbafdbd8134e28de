"""What came of a run as its pages show it: scores by turn, intervals and comparisons, the same as in the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from interalign.agents.ending import ENDED
from interalign.eval.view.curves import Chart, Line, draw_curves
from interalign.eval.view.links import ServedLinks
from interalign.panel import PANEL
from interalign.personas import Persona
from interalign.store import Store
from interalign.store.tree_list import TurnScore

if TYPE_CHECKING:  # numpy and scipy, 60 MB, only where a page shows figures
    from interalign.eval.results import CandidateComparison, CandidateResult, CandidateScores
    from interalign.eval.tallies import HintFigures


@dataclass(frozen=True)
class Figures:
    """The figures of a run's scores."""

    judge: str
    chart: Chart | None
    results: "tuple[CandidateResult, ...]"
    comparisons: "tuple[CandidateComparison, ...]"
    turns: int


@dataclass(frozen=True)
class Wins:
    """How often the judge preferred the reply that saw the inducer's notes."""

    judge: str
    chart: Chart | None
    figures: "HintFigures"


def find_wins(store: Store, judge: str | None, links: ServedLinks) -> Wins | None:
    """The figures of the report on the inducer's notes; None where no such pair was compared."""
    run = store.run
    if run is None or judge is None or judge == PANEL or run.kind != "simulation":
        return None
    found = store.hint_wins(judge)
    if not found:
        return None
    from interalign.eval.intervals import RESAMPLES
    from interalign.eval.tallies import HintOutcome, hint_figures

    personas = store.personas()
    outcomes = [HintOutcome(_profile(personas, win.persona), win.turn, win.won) for win in found]
    turns = max(run.begun_with.turns, *(win.turn for win in found))
    figures = hint_figures(outcomes, turns, RESAMPLES, 0)
    if figures is None:
        return None
    line = Line("with the notes", figures.by_turn, figures.by_turn_ci, figures.n_by_turn)
    where = partial(_at_turn, links._replace(judge=judge))
    chart = draw_curves([line], "Win rate of the reply with the notes", (0, 0.25, 0.5, 0.75, 1), where)
    return Wins(judge, chart, figures)


def find_figures(store: Store, judge: str | None, links: ServedLinks, *, compared: bool = True) -> Figures | None:
    """AL(k) with intervals, and comparisons if `compared`, as this judge saw it; None where it scored nothing.

    A panel's scores lie in no table: for it `interalign report` has the figures.
    """
    run = store.run
    if run is None or judge is None or judge == PANEL or run.kind == "personas":
        return None
    found = store.turn_scores(judge, None if run.kind == "evaluation" else "done")
    if not found:
        return None
    from interalign.eval.results import candidate_result, comparisons

    by_kind = _of_cases if run.kind == "evaluation" else _of_trees
    scores = by_kind(store, found, run.begun_with.turns)
    results = tuple(candidate_result(each) for each in scores)
    lines = [Line(result.name, result.al, result.al_k_ci, result.n) for result in results]
    chart = draw_curves(lines, "AL(k), mean score 1 to 5", (1, 2, 3, 4, 5), partial(_behind, links, judge))
    return Figures(
        judge, chart, results, comparisons(scores) if compared else (), max(len(result.al) for result in results)
    )


def _at_turn(links: ServedLinks, _: str, turn: int) -> str:
    """The trees that reached this turn."""
    return links.trees(turn=str(turn))


def _behind(links: ServedLinks, judge: str, name: str, turn: int) -> str:
    """The trees whose scores make the value of this curve at this turn, the worst ones first."""
    speaker = name.removesuffix("+hint")
    return links._replace(judge=judge).trees(candidate=speaker, turn=str(turn), low="1", sort="worst")


def _profile(personas: Mapping[str, Persona], persona: str) -> str:
    """What cases are resampled together by; of a persona that is not in the file, its id."""
    return "\n".join(personas[persona].profile) if persona in personas else persona


def _of_cases(store: Store, found: Sequence[TurnScore], turns: int) -> "list[CandidateScores]":
    """An evaluation's: a row a case that has ended, scores that should be there and are not as None."""
    from interalign.eval.results import CandidateScores

    personas, ended = store.personas(), store.last_turns(ENDED)
    values = {(score.tree, score.turn): score.value for score in found}
    rows: dict[str, dict[str, list[float | None]]] = {}
    profiles, last = dict[str, str](), dict[str, dict[str, int]]()
    for record in store.trees():
        if record.status != "planned":
            name, case = record.candidate or "", record.case or record.id
            rows.setdefault(name, {})[case] = [values.get((record.id, k)) for k in range(1, turns + 1)]
            profiles[case] = _profile(personas, record.persona)
            if record.id in ended:
                last.setdefault(name, {})[case] = ended[record.id]
    return [
        CandidateScores(name=name, scores=rows[name], profile_of=profiles, ended=last.get(name, {})) for name in rows
    ]


def _of_trees(store: Store, found: Sequence[TurnScore], turns: int) -> "list[CandidateScores]":
    """A simulation's: speakers with and without the hint apart, a tree a case."""
    from interalign.eval.results import CandidateScores

    imported = store.run is not None and store.run.kind == "import"
    personas, ended = store.personas(), store.last_turns(None if imported else ENDED)
    profiles = {record.id: _profile(personas, record.persona) for record in store.trees("done")}
    values: dict[str, dict[tuple[str, int], float]] = {}
    for score in found:
        name = f"{score.by}+hint" if score.hinted else score.by
        values.setdefault(name, {})[score.tree, score.turn] = score.value
    return [
        CandidateScores(
            name=name,
            scores={tree: [mine.get((tree, k)) for k in range(1, turns + 1)] for tree in profiles},
            profile_of=profiles,
            ended={tree: turn for tree, turn in ended.items() if tree in profiles},
        )
        for name, mine in values.items()
    ]
