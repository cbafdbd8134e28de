"""The figures of an evaluation: AL(k) with intervals, IR, comparisons; a point leads to its conversations."""

from interalign.eval.view.figures import find_figures, find_wins
from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.queries import known_judge
from interalign.eval.view.run_page import of_the_world
from interalign.store import Store


def evaluation(store: Store, asked: PageRequest) -> str:
    """The figures as `judge` saw it."""
    judge = known_judge(store, asked.query.get("judge")) or store.newest_judge()
    return asked.render(
        "evaluation",
        figures=find_figures(store, judge, asked.links),
        wins=find_wins(store, judge, asked.links),
        of_the_world=of_the_world(store.run, store.judges()),
    )


PAGE = Page("/eval", "Figures", evaluation, kinds=("simulation", "evaluation", "import"))
