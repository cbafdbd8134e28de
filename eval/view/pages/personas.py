"""A generated persona pool: every item that a model wrote, kept or dropped and why, with its nearest neighbour."""

from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.pool_page import find_pool
from interalign.store import Store


def personas(store: Store, asked: PageRequest) -> str:
    """The items, or those with the verdict `why`."""
    return asked.render("personas", view=find_pool(store, asked.query, asked.links))


PAGE = Page("/personas", "Personas", personas, kinds=("personas",))
