"""`grpo`: the states of stored trees, each a conversation up to a user message, for TRL's GRPOTrainer."""

from collections.abc import Iterator

from interalign.preferences import PairMode
from interalign.training.formats.base import ExportFormat, Row, place, transcript
from interalign.tree import JudgedTree


def rows(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    """One row a user turn. The persona is named by its id alone: nothing of its text is in the prompt."""
    for turn in judged.tree.turns():
        yield {
            "prompt": transcript(judged.tree, turn),
            **place(judged.tree, turn),
            "persona": judged.tree.persona,
        }


FORMAT = ExportFormat("grpo", "the conversations up to each user message", rows, needs_judge=False)
