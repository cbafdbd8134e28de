"""One tree: its picture, the conversation along one path, and the persona."""

from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.queries import find_tree
from interalign.store import Store


def tree(store: Store, asked: PageRequest) -> str:
    """The tree `id`, through the message `node` and as `judge` sees it."""
    query = asked.query
    found = find_tree(store, asked.place["id"], asked.links, node=query.get("node"), judge=query.get("judge"))
    return asked.render("tree", view=found)


PAGE = Page("/tree/{id:tree_id}", "Tree", tree, in_menu=False)
