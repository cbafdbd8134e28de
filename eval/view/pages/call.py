"""One model call, word for word."""

from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.queries import find_call
from interalign.store import Store


def call(store: Store, asked: PageRequest) -> str:
    """The call `key` of the tree `id`."""
    place, judge = asked.place, asked.query.get("judge")
    return asked.render("call", view=find_call(store, place["id"], place["key"], asked.links, judge=judge))


PAGE = Page("/call/{key}/{id:tree_id}", "Call", call, in_menu=False)
