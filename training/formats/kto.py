"""`kto`: single replies labelled good or bad, for TRL's KTOTrainer."""

from collections.abc import Iterable, Iterator

from interalign.preferences import Pair, PairMode, pairs
from interalign.training.formats.base import ExportFormat, Row, message, place, transcript
from interalign.tree import JudgedTree, Node


def rows(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    """One row a reply that was only ever chosen, or only ever rejected."""
    for node, label in labels(pairs(judged, mode)):
        prompt = judged.tree.node(str(node.parent))
        yield {
            "prompt": transcript(judged.tree, prompt),
            "completion": [message(node)],
            "label": label,
            **place(judged.tree, node),
        }


def labels(found: Iterable[Pair]) -> Iterator[tuple[Node, bool]]:
    """Each reply of the pairs once: True if it was only ever chosen, False if only ever rejected, else left out."""
    seen: dict[str, tuple[Node, set[bool]]] = {}
    for pair in found:
        seen.setdefault(pair.chosen.id, (pair.chosen, set()))[1].add(True)
        seen.setdefault(pair.rejected.id, (pair.rejected, set()))[1].add(False)
    for node, said in seen.values():
        if len(said) == 1:
            yield node, said.pop()


FORMAT = ExportFormat("kto", "replies labelled good or bad, one a row", rows)
