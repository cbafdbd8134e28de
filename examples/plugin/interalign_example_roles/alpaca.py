"""An export format: the first chosen reply of each conversation as an instruction and its output."""

from collections.abc import Iterator

from interalign import JudgedTree
from interalign.preferences import PairMode, chosen_replies
from interalign.training.formats import ExportFormat, Row, transcript


def rows(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    """One row a chosen reply of turn 1."""
    for reply in chosen_replies(judged):
        if reply.turn == 1:
            asked, answered = transcript(judged.tree, reply)
            yield {"instruction": asked["content"], "input": "", "output": answered["content"]}


FORMAT = ExportFormat("alpaca", "instruction and output, from first turns", rows)
