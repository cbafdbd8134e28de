"""`messages`: whole conversations, one a leaf of the tree, whatever was preferred.

All replies of a row may be learnt, so a conversation ends before its first reply that was cut at its length limit.
"""

from collections.abc import Iterator

from interalign.preferences import PairMode
from interalign.training.formats.base import ExportFormat, Row, replies_cut, transcript
from interalign.tree import JudgedTree


def rows(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    """One row a leaf."""
    kept = judged.without(replies_cut(judged)) if judged.cut else judged
    if kept is None:
        return
    for leaf in kept.tree.leaves():
        yield {"messages": transcript(kept.tree, leaf), "tree": kept.tree.id, "node": leaf.id}


FORMAT = ExportFormat("messages", "whole conversations, one a leaf", rows, needs_judge=False)
