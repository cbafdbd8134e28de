"""One tree: its picture, the conversation along one path, and the persona."""

from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.queries import find_tree
from interalign.store import Store


def tree(store: Store, asked: PageRequest) -> str:
    """The tree `id`, through the message `node`, as `judge` sees it, shown as `show` says."""
    query = asked.query
    node, judge, show = (query.get(name) for name in ("node", "judge", "show"))
    found = find_tree(store, asked.place["id"], asked.links, node=node, judge=judge, show=show)
    return asked.render("tree", view=found)


PAGE = Page("/tree/{id:tree_id}", "Tree", tree, in_menu=False)
