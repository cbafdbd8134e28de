"""`messages`: whole conversations, one a leaf of the tree, whatever was preferred."""

from collections.abc import Iterator

from interalign.preferences import PairMode
from interalign.training.formats.base import ExportFormat, Row, transcript
from interalign.tree import JudgedTree


def rows(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    """One row a leaf."""
    for leaf in judged.tree.leaves():
        yield {"messages": transcript(judged.tree, leaf), "tree": judged.tree.id, "node": leaf.id}


FORMAT = ExportFormat("messages", "whole conversations, one a leaf", rows, needs_judge=False)
