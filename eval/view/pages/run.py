"""The front page: what the run is, how far it is, what came of it."""

from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.pages.trees import trees
from interalign.eval.view.queries import find_front
from interalign.store import Store


def front(store: Store, asked: PageRequest) -> str:
    """The run in figures. An address of the list as it was before, when it was here, still shows the list."""
    if asked.query.keys() & {"page", "status"}:
        return trees(store, asked)
    return asked.render("run", view=find_front(store, asked.links, asked.query.get("judge")))


PAGE = Page("/", "Run", front)
