"""One case with several candidates, or one tree in several runs, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from interalign.eval.view.links import ServedLinks
from interalign.eval.view.queries import NotThereError
from interalign.eval.view.tree_page import Link, path_through
from interalign.panel import PANEL
from interalign.personas import Persona
from interalign.records import TreeRecord
from interalign.store import Store
from interalign.tree import JudgedTree

MOST = 6
"""Columns at most."""


class Cell(NamedTuple):
    """One turn of one conversation."""

    asked: str
    reply: str
    score: float | None
    reason: str
    """The judge's words; empty if it was not asked."""


class Column(NamedTuple):
    """One conversation."""

    title: str
    href: str
    mean: float | None
    turns: Mapping[int, Cell]
    status: str


@dataclass(frozen=True)
class ComparePage:
    """Everything the page shows."""

    case: str
    persona: Persona | None
    columns: tuple[Column, ...]
    rows: tuple[tuple[int, tuple[Cell | None, ...], float | None], ...]
    """Turn, its cells, and how far its scores lie apart."""
    gap: float | None
    place: int | None
    """1: the case with the largest gap; None for a case without one."""
    cases: int
    """Cases with a gap."""
    before: str | None
    """The case with the next larger gap."""
    after: str | None
    """The case with the next smaller gap."""


class Run(NamedTuple):
    """A run file that is compared."""

    name: str
    """What its columns are called beside their candidate; empty where there is one file only."""
    store: Store
    links: ServedLinks

    def judge(self, named: str | None) -> str | None:
        """The judge of this name if it was asked here, else the newest; of a panel its first member."""
        found = named if named in self.store.judges() else self.store.newest_judge()
        return next(iter(self.store.panel()), None) if found == PANEL else found


def compare(runs: Sequence[Run], case: str | None, judge: str | None) -> ComparePage:
    """The page of this case (None: the one with the largest gap). NotThereError if there is nothing to compare."""
    order = _by_gap([run.store.case_means(run.judge(judge)) for run in runs])
    if case is None:
        case = next(iter(order), None)
    if case is None:
        raise NotThereError(
            "There is nothing to compare: no case of this run has the scores of two candidates. "
            "`interalign view A.db B.db` compares runs of the same cases."
        )
    columns = [column for run in runs for column in _columns(run, case, run.judge(judge))][:MOST]
    if not columns:
        raise NotThereError(f"There is no case {case!r} in this run.")
    cases = list(order)
    place = cases.index(case) if case in order else None
    here = runs[0].links
    return ComparePage(
        case=case,
        persona=_persona(runs, case),
        columns=tuple(columns),
        rows=tuple(_rows(columns)),
        gap=order.get(case),
        place=None if place is None else place + 1,
        cases=len(cases),
        before=here.page("/compare", case=cases[place - 1]) if place else None,
        after=here.page("/compare", case=cases[place + 1]) if place is not None and place + 1 < len(cases) else None,
    )


def _by_gap(means: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """Case -> how far the means of its conversations lie apart, the largest first; of those with two of them."""
    found: dict[str, list[float]] = {}
    for of_run in means:
        for case, by_candidate in of_run.items():
            found.setdefault(case, []).extend(by_candidate.values())
    gaps = {case: max(each) - min(each) for case, each in found.items() if len(each) > 1}
    return dict(sorted(gaps.items(), key=lambda one: -one[1]))


def _records(store: Store, case: str) -> list[TreeRecord]:
    """The trees of this case; in a simulation the tree of this name."""
    record = store.tree_record(case)
    return store.trees_of_case(case) or ([] if record is None else [record])


def _persona(runs: Sequence[Run], case: str) -> Persona | None:
    for run in runs:
        for record in _records(run.store, case):
            if found := run.store.personas().get(record.persona):
                return found
    return None


def _columns(run: Run, case: str, judge: str | None) -> Iterator[Column]:
    for record in _records(run.store, case):
        judged = run.store.judged_tree(record.id)
        turns = {} if judged is None else _cells(judged.by_judge(judge or ""))
        scores = [cell.score for cell in turns.values() if cell.score is not None]
        yield Column(
            title=" in ".join(part for part in (record.candidate or ("" if run.name else record.id), run.name) if part),
            href=run.links.tree(record.id),
            mean=sum(scores) / len(scores) if scores else None,
            turns=turns,
            status=record.status,
        )


def _cells(judged: JudgedTree) -> dict[int, Cell]:
    """Turn -> what was said along the longest path."""
    scores = {score.node: score for score in judged.scores}
    asked, cells = "", dict[int, Cell]()
    for node in path_through(judged.tree, None):
        if node.role == "user":
            asked = node.text
        else:
            score = scores.get(node.id)
            reason = "" if score is None or not score.replies else score.replies[-1]
            cells[node.turn] = Cell(asked, node.text, None if score is None else score.value, reason)
    return cells


def _rows(columns: Sequence[Column]) -> Iterator[tuple[int, tuple[Cell | None, ...], float | None]]:
    for turn in range(1, max((max(column.turns, default=0) for column in columns), default=0) + 1):
        cells = tuple(column.turns.get(turn) for column in columns)
        scores = [cell.score for cell in cells if cell is not None and cell.score is not None]
        yield turn, cells, max(scores) - min(scores) if len(scores) > 1 else None


def links_beside(case: str, links: ServedLinks) -> Link:
    """To this page, from a tree of the case."""
    return Link("side by side", links.page("/compare", case=case))
