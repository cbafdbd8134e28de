"""How far a judge can be trusted: what its own answers show, and how they agree with the truth, people or a judge."""

from collections.abc import Callable, Sequence

from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.queries import NotThereError, known_judge
from interalign.eval.view.run_page import of_the_world
from interalign.eval.view.tree_page import Link
from interalign.panel import PANEL
from interalign.store import Store

_LABELS, _TRUTH = "labels", "truth"


def judge(store: Store, asked: PageRequest) -> str:
    """The figures of `judge` beside the reference `against`, by default the best there is."""
    name = known_judge(store, asked.query.get("judge")) or store.newest_judge()
    references = _references(store, name) if name else []
    against = asked.query.get("against") or next(iter(references), None)
    if against is not None and against not in references:
        raise NotThereError(f"There is nothing to compare the judge with that is called {against!r}.")
    found, titles = None, dict[str, str]()
    if name is not None and against is not None:
        from interalign.eval import calibration  # numpy and scipy only here

        found, titles = calibration.calibrate(store, against, name), calibration.TITLES
    return asked.render(
        "judge",
        judge=name,
        judges=_links(store.judges(), name, lambda one: asked.links.page("/judge", judge=one)),
        references=_links(references, against, lambda one: asked.links.page("/judge", judge=name, against=one)),
        answers=None if name is None or name == PANEL else store.judge_answers(name),
        warnings=list(store.judge_warnings(name)),
        found=found,
        titles=titles,
        of_the_world=of_the_world(store.run, store.judges()),
    )


def _references(store: Store, name: str) -> list[str]:
    """What this judge can be compared with: people first, then the truth, then the other judges of the file."""
    from interalign.models.world import is_world_persona  # its corpus only here

    personas = store.personas().values()
    labels = [_LABELS] if store.labels() else []
    truth = [_TRUTH] if personas and all(map(is_world_persona, personas)) else []
    return [*labels, *truth, *(other for other in store.judges() if other != name)]


def _links(names: Sequence[str], current: str | None, address: Callable[[str], str]) -> tuple[Link, ...]:
    return tuple(Link(name, address(name), name == current) for name in names) if len(names) > 1 else ()


PAGE = Page("/judge", "Judge", judge, kinds=("simulation", "evaluation", "import"))
