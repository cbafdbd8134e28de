"""One case side by side: its candidates, or the runs that the viewer was opened with."""

from contextlib import ExitStack

from interalign.eval.view.compare_page import Run, compare
from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.queries import known_judge
from interalign.store import Store


def side_by_side(store: Store, asked: PageRequest) -> str:
    """The case `case`, or the one whose conversations differ most."""
    judge = known_judge(store, asked.query.get("judge"))
    with ExitStack() as opened:
        several = bool(asked.others)
        runs = [Run(store.path.name if several else "", store, asked.links._replace(judge=judge))]
        for path, links in asked.others:
            runs.append(Run(path.name, opened.enter_context(Store.open(path)), links))
        return asked.render("compare", view=compare(runs, asked.query.get("case"), judge))


PAGE = Page("/compare", "Compare", side_by_side, kinds=("simulation", "evaluation"))
