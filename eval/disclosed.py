"""Which facts of a persona its user has disclosed so far. A rule on words, and no more than a hint to a reader.

A fact counts as disclosed in the first turn by which the user has said at least half of its content words. Words that
begin with the same four letters are the same word; function words do not count.
"""

from collections.abc import Sequence
from typing import NamedTuple

from interalign.agents.leaks import content_stems
from interalign.tree import Node

_SHARE = 0.5


class DisclosedFact(NamedTuple):
    """One line of a persona's profile."""

    text: str
    turn: int | None
    """In which turn it was disclosed; None if it was not yet."""


def disclosed(profile: Sequence[str], path: Sequence[Node]) -> tuple[DisclosedFact, ...]:
    """The facts of a profile with the turn of this path in which each was disclosed."""
    return tuple(DisclosedFact(text, _turn(content_stems(text), path)) for text in profile)


def _turn(fact: frozenset[str], path: Sequence[Node]) -> int | None:
    said = frozenset[str]()
    for node in path:
        if node.role == "user":
            said |= content_stems(node.text)
            if fact and len(fact & said) >= _SHARE * len(fact):
                return node.turn
    return None
