"""What to look up in a run file for what was asked for."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from interalign.errors import InteralignError
from interalign.eval.view.call_index import TreeCalls
from interalign.eval.view.continuing import command_from
from interalign.eval.view.figures import Figures, Wins, find_figures, find_wins
from interalign.eval.view.links import Links, ServedLinks
from interalign.eval.view.progress import GrowingRun, growth
from interalign.eval.view.run_page import (
    FailedTree,
    RunFacts,
    WhyFailed,
    of_the_world,
    run_facts,
)
from interalign.eval.view.tree_page import Link, TreePage, ViewOptions, page_without_turns, times, tree_page
from interalign.personas import Persona
from interalign.records import CallRecord, TreeRecord
from interalign.store import Store
from interalign.tracing.ids import SpanIds, call_ids
from interalign.tree import JudgedTree

_NAMED = 5
"""Trees that are named beside the reason for which they failed."""


class NotThereError(InteralignError):
    """What was asked for is not in this run file."""


@dataclass(frozen=True)
class TreeView:
    """A tree's page with its links to the list and to other trees."""

    page: TreePage
    back: str
    before: Link | None
    """The tree planned before this one."""
    after: Link | None
    of_the_world: bool
    """Some role of the run is played by the embedded world."""
    same_case: tuple[Link, ...]
    """Evaluation: the same case with each candidate; empty if there is only one."""
    ways: tuple[Link, ...]
    """Other ways to show it: with the difference of chosen and rejected, as a plain conversation."""
    calls: str
    """Its calls in the order of time."""
    as_talk: bool
    """Only the conversation of the path is shown."""
    continues: str | None
    """The command that goes on from the selected message, or the first reply; None where there is none."""


@dataclass(frozen=True)
class FrontPage:
    """Everything the front page shows."""

    facts: RunFacts
    growth: GrowingRun | None
    """How a run that is not at its end stands."""
    shortfalls: str
    """What is missing, was cut or asked again, in one line; empty if nothing."""
    figures: Figures | None
    wins: Wins | None
    trees: str
    """The list of trees."""


@dataclass(frozen=True)
class CallView:
    """One call, word for word."""

    call: CallRecord
    about: tuple[str, tuple[str, ...]]
    """What it was for, in words, and the messages that it was about."""
    times: tuple[str, ...]
    """When it was sent, how long it took and so on, as far as it is known."""
    back: str
    """The tree it belongs to."""
    ids: SpanIds | None
    """Where `interalign trace` sends it; None for a call without a time, which is not sent."""


def find_front(store: Store, links: ServedLinks, judge: str | None = None) -> FrontPage:
    """The run in figures. NotThereError for a judge that does not exist."""
    seen_by = known_judge(store, judge) or store.newest_judge()
    judges = tuple(Link(name, links.front(name), name == seen_by) for name in store.judges())
    links = links._replace(judge=judge)
    counts, usage = store.count_trees(), store.usage()
    return FrontPage(
        facts=run_facts(store.run, store.path.name, counts, usage, judges, why_failed(store, links)),
        growth=growth(
            store.pace(),
            now=time.time(),
            calls=sum(used.calls for used in usage.values()),
            ended=counts.get("done", 0) + counts.get("failed", 0),
            planned=counts.get("planned", 0),
        ),
        shortfalls=str(store.shortfalls(seen_by)),
        figures=find_figures(store, seen_by, links, compared=False),
        wins=find_wins(store, seen_by, links),
        trees=links.trees(),
    )


def find_tree(
    store: Store,
    tree: str,
    links: ServedLinks,
    *,
    node: str | None = None,
    judge: str | None = None,
    show: str | None = None,
) -> TreeView:
    """One tree. NotThereError for a tree, message or judge that does not exist, and if nothing is on record of it."""
    links = links._replace(judge=known_judge(store, judge))
    record = store.tree_record(tree)
    if record is None:
        raise NotThereError(f"There is no tree {tree!r} in this run.")
    if show not in (None, *WAYS):
        raise NotThereError(f"A tree is not shown as {show!r}; there are {' and '.join(WAYS)}.")
    links = links._replace(show=show)
    page = _page(store, record, node, judge, links)
    before, after = store.beside(tree)
    return TreeView(
        page=page,
        back=links.trees(),
        before=_link(before, links),
        after=_link(after, links),
        of_the_world=of_the_world(store.run, store.judges()),
        same_case=_same_case(store, record, links),
        ways=tuple(
            Link(text, links._replace(show=None if show == way else way).shown(tree, node), show == way)
            for way, text in WAYS.items()
        ),
        calls=links.page("/graph", tree=tree),
        as_talk=show == "talk",
        continues=None if page.steps is None else command_from(store, tree, page.steps.start, record.persona),
    )


def _page(store: Store, record: TreeRecord, node: str | None, judge: str | None, links: ServedLinks) -> TreePage:
    judged = store.judged_tree(record.id)
    if judged is None and not can_be_looked_at(store, record):
        raise NotThereError(_nothing_said(record))
    if node is not None and (judged is None or node not in {known.id for known in judged.tree.nodes}):
        raise NotThereError(f"Tree {record.id!r} has no message {node!r}.")
    calls = calls_of(store, record)
    if judged is None:
        return page_without_turns(record, persona_of(store, record.persona), ViewOptions(links, judge, calls=calls))
    options = ViewOptions(
        links,
        judge or newest_judge(store.readable_judges(), judged),
        store.judges(),
        node=node,
        calls=calls,
        difference=links.show == "difference",
    )
    return tree_page(judged, record, persona_of(store, judged.tree.persona), options)


def can_be_looked_at(store: Store, record: TreeRecord) -> bool:
    """Whether anything is on record of a tree without a finished turn: a call that was answered, or that failed."""
    return store.has_calls(record.id) or store.failed_call_of(record.id) is not None


def calls_of(store: Store, record: TreeRecord) -> TreeCalls:
    """The calls behind a tree, with the one that it failed on."""
    return TreeCalls(store.calls_of(record.id), store.failed_call_of(record.id))


def why_failed(store: Store, links: Links) -> tuple[WhyFailed, ...]:
    """The most frequent reasons for which trees failed, each with its first trees."""
    return tuple(
        WhyFailed(reason, trees, tuple(_failed(store, tree, links) for tree in store.failed_for(reason, _NAMED)))
        for reason, trees in store.reasons()
    )


def _failed(store: Store, tree: str, links: Links) -> FailedTree:
    record = store.tree_record(tree)
    shown = record is not None and (store.judged_tree(tree) is not None or can_be_looked_at(store, record))
    return FailedTree(tree, links.tree(tree) if shown else None)


def newest_judge(readable: Sequence[str], judged: JudgedTree) -> str | None:
    """Of the judges asked about this tree the last that is `readable`, else the last; None if none was asked."""
    asked = judged.judges()
    return next((name for name in reversed(readable) if name in asked), next(reversed(asked), None))


def find_call(store: Store, tree: str, key: str, links: ServedLinks, *, judge: str | None = None) -> CallView:
    """One call of a tree. NotThereError if it is not on record there."""
    call = next((found for found in store.calls_of(tree) if found.key == key), None)
    if call is None:
        raise NotThereError(f"No call {key!r} of tree {tree!r} is on record.")
    run = store.run
    ids = None if run is None or call.began is None else call_ids(run, tree, key)
    return CallView(call, _about(call), times(call), links._replace(judge=known_judge(store, judge)).tree(tree), ids)


def _about(call: CallRecord) -> tuple[str, tuple[str, ...]]:
    messages = tuple(call.place.node.split("|"))
    if call.place.role != "judge":
        return "for message", messages
    return ({1: "scoring reply", 2: "comparing replies"}.get(len(messages), "ranking replies")), messages


def known_judge(store: Store, judge: str | None) -> str | None:
    """The judge; NotThereError if nobody of this name was asked in this run."""
    if judge is not None and judge not in store.judges():
        raise NotThereError(f"No judge {judge!r} was asked in this run.")
    return judge


def _nothing_said(record: TreeRecord) -> str:
    if record.status == "failed":
        return f"Tree {record.id!r} failed before its first turn was finished: {record.reason or 'no reason is known'}"
    return f"Tree {record.id!r} is planned; nothing has been said in it yet."


WAYS = {"difference": "word difference", "talk": "conversation only"}
"""How else a tree is shown: name in the address -> words."""


def persona_of(store: Store, persona: str) -> Persona | None:
    """The persona with this id; None if it is not in this file."""
    try:
        return store.persona(persona)
    except KeyError:  # the persona of an imported tree may not be in this file
        return None


def _same_case(store: Store, record: TreeRecord, links: Links) -> tuple[Link, ...]:
    if record.case is None:
        return ()
    same = store.trees_of_case(record.case)
    if len(same) < 2:
        return ()
    return tuple(Link(other.candidate or other.id, links.tree(other.id), other.id == record.id) for other in same)


def _link(record: TreeRecord | None, links: Links) -> Link | None:
    return None if record is None else Link(record.id, links.tree(record.id))
