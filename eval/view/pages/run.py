"""The front page: what the run is, how far it is, what came of it."""

from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.pages.trees import trees
from interalign.eval.view.queries import find_front
from interalign.store import Store

_SECONDS = 10
"""After which the page of a growing run is loaded anew."""


def front(store: Store, asked: PageRequest) -> str:
    """The run in figures. An address of the list as it was before, when it was here, still shows the list."""
    if asked.query.keys() & {"page", "status"}:
        return trees(store, asked)
    view = find_front(store, asked.links, asked.query.get("judge"))
    refresh = _SECONDS if view.growth is not None and view.growth.is_growing else None
    return asked.render("run", view=view, refresh=refresh)


PAGE = Page("/", "Run", front)
