"""`rm`: two whole conversations that differ in the last reply, for TRL's RewardTrainer."""

from collections.abc import Iterator

from interalign.preferences import PairMode, pairs
from interalign.training.formats.base import ExportFormat, Row, place, transcript
from interalign.tree import JudgedTree


def rows(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    """One row a preference pair."""
    # No `margin` here: TRL's RewardTrainer would take a column of that name into its loss without being asked.
    for pair in pairs(judged, mode):
        yield {
            "chosen": transcript(judged.tree, pair.chosen),
            "rejected": transcript(judged.tree, pair.rejected),
            **place(judged.tree, pair.prompt),
        }


FORMAT = ExportFormat("rm", "preference pairs as whole conversations", rows)
