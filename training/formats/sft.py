"""`sft`: the preferred reply of each turn after the conversation as it went, for TRL's SFTTrainer."""

from collections.abc import Iterator

from interalign.preferences import PairMode, chosen_replies
from interalign.training.formats.base import ExportFormat, Row, transcript
from interalign.tree import JudgedTree


def rows(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    """One row a chosen reply. Only its last message is trained on, so each chosen reply is trained exactly once, after
    the conversation as it really went up to there (the released code repeats the first user message instead).
    """
    for reply in chosen_replies(judged):
        yield {"messages": transcript(judged.tree, reply), "tree": judged.tree.id, "node": reply.id}


FORMAT = ExportFormat("sft", "the preferred replies, one a row", rows)
