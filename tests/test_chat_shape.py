"""Conversations for models with narrower chat templates."""

import pytest

from interalign.models.chat_shape import alternating, without_system
from interalign.tree import Message


def chat(*said: str) -> list[Message]:
    """Messages written as `s Be kind.`, `u Hi.`, `a Hello.`"""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [Message(role=roles[line[0]], content=line[2:]) for line in said]


@pytest.mark.parametrize(
    ("given", "shaped"),
    [
        (["s Be kind.", "u Hi."], ["u Be kind.\n\nHi."]),
        (["s Be kind.", "u Hi.", "a Hello.", "u And?"], ["u Be kind.\n\nHi.", "a Hello.", "u And?"]),
        (["s One.", "s Two.", "u Hi."], ["u One.\n\nTwo.\n\nHi."]),
        (["s Be kind.", "a Hello.", "u Hi."], ["u Be kind.", "a Hello.", "u Hi."]),
        (["s Be kind."], ["u Be kind."]),
        (["u Hi.", "a Hello.", "s Be brief.", "u And?"], ["u Hi.", "a Hello.", "u Be brief.\n\nAnd?"]),
        (["u Hi.", "s Be brief."], ["u Hi.", "u Be brief."]),
        (["u Hi.", "a Hello."], ["u Hi.", "a Hello."]),
        ([], []),
    ],
)
def test_a_system_message_moves_into_the_next_user_message(given: list[str], shaped: list[str]) -> None:
    messages = chat(*given)
    assert without_system(messages) == chat(*shaped)
    assert messages == chat(*given)


@pytest.mark.parametrize(
    ("given", "shaped"),
    [
        (["u Hi.", "u You there?"], ["u Hi.\n\nYou there?"]),
        (["s A.", "s B.", "u Hi.", "a C.", "a D."], ["s A.\n\nB.", "u Hi.", "a C.\n\nD."]),
        (["u Hi.", "a Hello.", "u And?"], ["u Hi.", "a Hello.", "u And?"]),
        ([], []),
    ],
)
def test_neighbours_of_one_role_become_one_message(given: list[str], shaped: list[str]) -> None:
    assert alternating(chat(*given)) == chat(*shaped)
