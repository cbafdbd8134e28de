"""`dpo`: a prompt with a chosen and a rejected reply, for TRL's DPOTrainer."""

from collections.abc import Iterator

from interalign.preferences import PairMode, pairs
from interalign.training.formats.base import ExportFormat, Row, message, place, transcript
from interalign.tree import JudgedTree


def rows(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    """One row a preference pair."""
    for pair in pairs(judged, mode):
        yield {
            "prompt": transcript(judged.tree, pair.prompt),
            "chosen": [message(pair.chosen)],
            "rejected": [message(pair.rejected)],
            **place(judged.tree, pair.prompt),
            "persona": judged.tree.persona,
            "margin": pair.margin,
        }


FORMAT = ExportFormat("dpo", "preference pairs, one a row", rows)
