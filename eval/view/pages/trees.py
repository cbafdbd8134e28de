"""The list of all trees: searched, filtered, sorted, thirty at a time."""

from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.tree_list import find_list
from interalign.store import Store


def trees(store: Store, asked: PageRequest) -> str:
    """One page of the list."""
    return asked.render("trees", view=find_list(store, asked.query, asked.links))


PAGE = Page("/trees", "Trees", trees)
