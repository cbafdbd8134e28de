"""`user`: the user's messages, each after the prompt that its user agent is sent, to train a user agent on.

The roles are those of the user agent's requests: replies are `user` messages, the user's own messages `assistant`.
"""

from collections.abc import Iterator

from interalign.agents.ending import ENDED
from interalign.agents.user import user_prompt
from interalign.training.formats.base import ExportFormat, Row, UserSeat
from interalign.tree import JudgedTree


def rows(judged: JudgedTree, seat: UserSeat) -> Iterator[Row]:
    """One row a user message. Only its last message is trained on, so each user message is trained exactly once.

    A message that was cut is learnt in no row, nor are those that a branch (`simulate --from`) copied from another
    tree. Where the user ended the talk, the end mark follows its message, or is a message of its own.
    """
    tree = judged.tree
    ended = _ended(judged) if seat.end_mark is not None else set()
    passed_over = judged.cut | seat.copied
    for node in tree.nodes:
        if node.role == "user" and node.id not in passed_over and node.text.strip():
            said = f"{node.text} {seat.end_mark}" if node.id in ended else node.text
            yield _row(judged, seat, node.parent, node.id, node.turn, said)
        elif node.role == "assistant" and node.id in ended:
            yield _row(judged, seat, node.id, f"{node.id}/u", node.turn + 1, str(seat.end_mark))


def _row(judged: JudgedTree, seat: UserSeat, parent: str | None, node: str, turn: int, said: str) -> Row:
    tree = judged.tree
    before = () if parent is None else tree.transcript(parent)
    asked = user_prompt(seat.prompts, seat.persona, seat.end_mark, before)
    messages = [*(each.model_dump() for each in asked), {"role": "assistant", "content": said}]
    return {"messages": messages, "tree": tree.id, "node": node, "turn": turn, "persona": tree.persona}


def _ended(judged: JudgedTree) -> set[str]:
    """Ids of the last messages of the paths that the user ended."""
    return {note.node for note in judged.annotations if (note.name, note.by) == (ENDED, "user")}


FORMAT = ExportFormat(
    "user", "the user's messages, one a row", None, needs_judge=False, shows_persona=True, user_rows=rows
)
