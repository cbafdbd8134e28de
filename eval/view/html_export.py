"""The viewer as one file, to be kept or sent."""

from collections.abc import Iterator
from pathlib import Path

from interalign.eval.view.call_index import TreeCalls
from interalign.eval.view.links import AnchorLinks
from interalign.eval.view.queries import calls_of, can_be_looked_at, newest_judge, why_failed
from interalign.eval.view.render import pieces
from interalign.eval.view.run_page import run_facts
from interalign.eval.view.tree_list import Row, rows
from interalign.eval.view.tree_page import Link, TreePage, ViewOptions, page_without_turns, tree_page
from interalign.files import refuse_outputs, write_atomically
from interalign.records import TreeRecord
from interalign.store import Store
from interalign.store.tree_list import TreeFilter

WITH_PROMPTS = 30
"""Trees up to which a file holds the prompts, too."""
_PAGE = 500
"""Trees of the list that are read at once."""


def export_html(path: Path, out: Path) -> int:
    """Write the list and every tree that has anything on record to one HTML file, which loads nothing from elsewhere.

    The prompts are in it up to WITH_PROMPTS trees; they are more than half of the file.

    The file appears whole or not at all; returns the number of trees in it. Each tree is shown with all its turns, as
    the newest of its judges sees it. ConfigError if `path` is no run file or `out` cannot be written.
    """
    refuse_outputs([out], inputs=[path])
    with Store.open(path) as store:
        links = AnchorLinks({record.id: number for number, record in enumerate(store.trees())})
        judge = store.newest_judge()
        judges = tuple(Link(name, links.trees(), name == judge) for name in store.judges())
        why = why_failed(store, links)
        facts = run_facts(store.run, store.path.name, store.count_trees(), store.usage(), judges, why)
        most = None if len(links.numbers) <= WITH_PROMPTS else WITH_PROMPTS
        pages = _Counted(_tree_pages(store, links, prompts=most is None))
        write_atomically(
            out, pieces("export", facts=facts, rows=list(_rows(store, judge, links)), pages=pages, most=most)
        )
        return pages.count


def _rows(store: Store, judge: str | None, links: AnchorLinks) -> Iterator[Row]:
    """The lines of the list, all of them."""
    first = 0
    while found := store.find_trees(TreeFilter(), None, first=first, most=_PAGE)[0]:
        yield from rows(store, found, judge, links)
        first += len(found)


class _Counted:
    """An iterator that knows how much went through it."""

    def __init__(self, pages: Iterator[TreePage]) -> None:
        self._pages = pages
        self.count = 0

    def __iter__(self) -> Iterator[TreePage]:
        for page in self._pages:
            self.count += 1
            yield page


def _calls(store: Store, record: TreeRecord, *, prompts: bool) -> TreeCalls:
    """The calls behind a tree. Without `prompts`, only of one that is not done: what it failed on."""
    return calls_of(store, record) if prompts or record.status != "done" else TreeCalls()


def _tree_pages(store: Store, links: AnchorLinks, *, prompts: bool) -> Iterator[TreePage]:
    """The trees one at a time, so that a file of many fits in memory."""
    personas, judges = store.personas(), store.readable_judges()
    for record in store.trees():
        if record.id not in links.numbers:
            continue
        judged, persona = store.judged_tree(record.id), personas.get(record.persona)
        if judged is not None:
            judge, calls = newest_judge(judges, judged), _calls(store, record, prompts=prompts)
            yield tree_page(judged, record, persona, ViewOptions(links, judge, calls=calls, every_turn=True))
        elif can_be_looked_at(store, record):
            yield page_without_turns(record, persona, ViewOptions(links, None, calls=calls_of(store, record)))
