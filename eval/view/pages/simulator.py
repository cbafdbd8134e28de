"""What an audit found of the simulated user, each kind with messages that show it."""

from typing import TYPE_CHECKING, NamedTuple

from interalign.eval.view.links import ServedLinks
from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.run_page import of_the_world
from interalign.store import Store

if TYPE_CHECKING:
    from interalign.agents.findings import Finding

_EXAMPLES = 5
"""Messages that are shown of a kind."""


class _Example(NamedTuple):
    """A message with a finding."""

    href: str
    tree: str
    turn: int
    by: str
    text: str
    evidence: str


def simulator(store: Store, asked: PageRequest) -> str:
    """The audit's figures; how to make one where there is none."""
    from interalign.eval.audit import audit_of  # numpy and scipy only here

    found = audit_of(store)
    examples: dict[str, list[_Example]] = {}
    for located in found.each:
        mine = examples.setdefault(located.finding.kind, [])
        if len(mine) < _EXAMPLES:
            mine.append(_example(store, asked.links, located.tree, located.by, located.finding))
    return asked.render(
        "simulator", audit=found, examples=examples, of_the_world=of_the_world(store.run, store.judges())
    )


def _example(store: Store, links: ServedLinks, tree: str, by: str, finding: "Finding") -> _Example:
    judged = store.judged_tree(tree)
    assert judged is not None
    place = next(number for number, node in enumerate(judged.tree.nodes) if node.id == finding.node)
    text = judged.tree.node(finding.node).text
    return _Example(links.node(tree, finding.node, place), tree, finding.turn, by, text, finding.evidence)


PAGE = Page("/simulator", "Simulator", simulator, kinds=("simulation", "evaluation", "import"))
