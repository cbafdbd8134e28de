"""From what a list of trees is asked for to everything it shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast, get_args

from interalign.eval.view.links import Links, ServedLinks
from interalign.eval.view.queries import NotThereError, can_be_looked_at, known_judge, persona_of
from interalign.eval.view.tree_page import Link
from interalign.eval.view.tree_summary import Summary, summarize, summary_of
from interalign.panel import PANEL
from interalign.personas import Persona
from interalign.records import TreeRecord, TreeStatus
from interalign.store import Store
from interalign.store.tree_list import SORTS, TreeFigures, TreeFilter

PAGE = 30
"""Trees on one page of the list."""
_ABOUT = 90
"""Characters of a persona in the list."""
_STATUS: Mapping[TreeStatus, str] = {"done": "done", "failed": "failed", "planned": "not ended"}
_SORTED = {
    "planned": "as planned",
    "worst": "lowest mean score first",
    "best": "highest mean score first",
    "falling": "steepest fall of the scores first",
    "gap": "largest gap first",
}


@dataclass(frozen=True)
class Row:
    """One tree of the list."""

    record: TreeRecord
    href: str | None
    """None while there is nothing to look at."""
    persona: str
    """The beginning of the persona's profile on one line."""
    summary: Summary | None
    """None while the tree has no node."""

    @property
    def state(self) -> str:
        """How far it is, in one word."""
        if self.record.status != "planned":
            return self.record.status
        return "growing" if self.href else "waiting"


class Choices(NamedTuple):
    """What the form offers."""

    candidates: Sequence[str]
    notes: Sequence[str]
    sorts: Mapping[str, str]
    has_scores: bool


@dataclass(frozen=True)
class ListPage:
    """Everything one page of the list shows."""

    given: Mapping[str, str]
    """What was asked for, as it stands in the address; empty fields left out."""
    choices: Choices
    statuses: tuple[Link, ...]
    chips: tuple[Link, ...]
    judges: tuple[Link, ...]
    rows: Sequence[Row]
    evaluation: bool
    first: int
    """Number of the first tree on the page, from 1; 0 if there is none."""
    last: int
    total: int
    """Trees on all pages."""
    planned: bool
    """The run has any tree at all."""
    clear: str
    """The list without any condition."""
    before: str | None
    after: str | None

    @property
    def narrowed(self) -> bool:
        """Some condition is set beside status, order and judge."""
        return bool(self.given.keys() - {"sort", "judge", "status"})


def find_list(store: Store, query: Mapping[str, str], links: ServedLinks) -> ListPage:
    """One page of the list. NotThereError for a page, status, judge or number that does not exist."""
    given = {name: text for name, text in query.items() if text != "" and name != "page"}
    links = links._replace(judge=known_judge(store, given.get("judge")))
    judge = given.get("judge") or store.newest_judge()
    asked, counts = tree_filter(given), store.count_trees()
    if asked.status is not None and not counts.get(cast(TreeStatus, asked.status)):
        raise NotThereError(f"No tree of this run has the status {asked.status!r}.")
    number = _whole(query.get("page", "1"))
    found, total = store.find_trees(asked, _sorted_by(store, judge), first=((number or 1) - 1) * PAGE, most=PAGE)
    pages = max(1, -(-total // PAGE))
    if number is None or number > pages:
        raise NotThereError(f"There is no page {query['page']!r}; the list has {pages}.")
    run = store.run
    evaluation = run is not None and run.kind == "evaluation"
    figures = list(rows(store, found, judge, links))
    has_scores = any(row.summary is not None and row.summary.scored for row in figures)
    return ListPage(
        given=given,
        choices=Choices(store.candidate_names(), store.note_names(), _SORTED, has_scores),
        statuses=_statuses(counts, given, links),
        chips=_chips(given, links, has_scores or asked.sort != "planned", bool(store.judges()), len(store.judges())),
        judges=tuple(Link(name, links.trees(**{**given, "judge": name}), name == judge) for name in store.judges()),
        rows=figures,
        evaluation=evaluation,
        first=min((number - 1) * PAGE + 1, total),
        last=min(number * PAGE, total),
        total=total,
        planned=bool(counts),
        clear=links.trees(),
        before=links.trees(**{**given, "page": str(number - 1) if number > 2 else None}) if number > 1 else None,
        after=links.trees(**{**given, "page": str(number + 1)}) if number < pages else None,
    )


def tree_filter(given: Mapping[str, str]) -> TreeFilter:
    """The conditions in the words of an address. NotThereError for one that cannot be meant."""
    named = given.get("sort", "planned")
    sort = next((known for known in SORTS if known == named), None)
    if sort is None:
        raise NotThereError(f"There is no order {named!r}; there are {', '.join(SORTS)}.")
    status = given.get("status")
    if status is not None and status not in get_args(TreeStatus):
        raise NotThereError(f"No tree of this run has the status {status!r}.")
    return TreeFilter(
        status=status,
        words=given.get("words", ""),
        persona=given.get("persona", ""),
        candidate=given.get("candidate", ""),
        turn=_turn(given.get("turn")),
        low=_decimal(given, "low"),
        high=_decimal(given, "high"),
        margin=_decimal(given, "margin"),
        orders="orders" in given,
        judges="judges" in given,
        note=given.get("note", ""),
        reason=given.get("reason"),
        sort=sort,
    )


def _whole(text: str) -> int | None:
    """A whole number from 1; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) else None


def _turn(text: str | None) -> int | None:
    turn = None if text is None else _whole(text)
    if text is not None and turn is None:
        raise NotThereError(f"turn={text!r} is no turn: they are whole numbers from 1.")
    return turn


def _decimal(given: Mapping[str, str], name: str) -> float | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 5:
        raise NotThereError(f"{name}={text!r} is no number from 0 to 5: scores are 1 to 5.")
    return value


def _sorted_by(store: Store, judge: str | None) -> str | None:
    """Whose scores conditions and order go by: of a panel, whose scores are stored nowhere, its first member's."""
    return next(iter(store.panel()), None) if judge == PANEL else judge


def rows(store: Store, found: Sequence[tuple[int, TreeRecord]], judge: str | None, links: Links) -> Iterator[Row]:
    """Rows of the list of trees, by their numbers, as one judge sees them."""
    figures: Mapping[int, TreeFigures] = {}
    if judge != PANEL:
        figures = store.figures_of([number for number, _ in found], judge)
    personas: dict[str, Persona | None] = {}
    for number, record in found:
        summary = _of_panel(store, record) if judge == PANEL else None
        if number in figures:
            summary = summary_of(figures[number])
        shown = summary is not None or can_be_looked_at(store, record)
        if record.persona not in personas:
            personas[record.persona] = persona_of(store, record.persona)
        about = personas[record.persona]
        text = record.persona if about is None else _beginning(" ".join(about.profile))
        yield Row(record, links.tree(record.id) if shown else None, text, summary)


def _of_panel(store: Store, record: TreeRecord) -> Summary | None:
    judged = store.judged_tree(record.id)
    return None if judged is None else summarize(judged.by_judge(PANEL))


def _beginning(text: str) -> str:
    return text if len(text) <= _ABOUT else text[: _ABOUT - 1] + "\u2026"


def _statuses(counts: Mapping[TreeStatus, int], given: Mapping[str, str], links: Links) -> tuple[Link, ...]:
    """One link for every status that occurs, and one for all trees; the other conditions stay."""
    now = given.get("status")
    known = [
        Link(f"{counts[status]:,} {name}", links.trees(**{**given, "status": status}), now == status)
        for status, name in _STATUS.items()
        if counts.get(status)
    ]
    return (Link(f"{sum(counts.values()):,} in all", links.trees(**{**given, "status": None}), now is None), *known)


def _chips(given: Mapping[str, str], links: Links, has_scores: bool, was_judged: bool, judges: int) -> tuple[Link, ...]:
    """Ways through the list that a person asks for most; the one in use leads back."""
    ways = {"sort": {"worst": "worst", "falling": "falling", "gap": "largest gap"}} if has_scores else {}
    flags = {"orders": "orders disagree"} if was_judged and not has_scores else {}
    flags |= {"judges": "judges disagree"} if judges > 1 else {}
    chips = [_chip(given, links, "sort", value, text) for value, text in ways.get("sort", {}).items()]
    chips += [_chip(given, links, name, "1", text) for name, text in flags.items()]
    return tuple(chips)


def _chip(given: Mapping[str, str], links: Links, name: str, value: str, text: str) -> Link:
    current = given.get(name) == value
    return Link(text, links.trees(**{**given, name: None if current else value}), current)
