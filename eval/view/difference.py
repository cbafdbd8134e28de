"""Two texts word by word: what stands in both, what in one only (longest matching blocks, Ratcliff and Obershelp)."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

MOST = 2_000
"""Words of a text that is compared: time grows with the product of both."""


class Piece(NamedTuple):
    """Some text with its white space."""

    kind: Literal["same", "chosen", "rejected"]
    text: str


def difference(rejected: str, chosen: str) -> tuple[Piece, ...] | None:
    """The pieces of both texts in order; None if one has more than MOST words."""
    before, after = (re.findall(r"\s*\S+|\s+$", text) for text in (rejected, chosen))
    if max(len(before), len(after)) > MOST:
        return None
    pieces: list[Piece] = []
    matcher = SequenceMatcher(None, [word.strip() for word in before], [word.strip() for word in after], autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            pieces.append(Piece("same", "".join(after[c:d])))
            continue
        if b > a:
            follows = "".join(after[c:])
            pieces.append(Piece("rejected", _parted("".join(before[a:b]).strip(), pieces, follows)))
        pieces += [Piece("chosen", "".join(after[c:d]))] if d > c else []
    return tuple(pieces)


def _parted(text: str, pieces: Sequence[Piece], follows: str) -> str:
    """The text with a blank where it would touch the word before or after it."""
    before = " " if pieces and not pieces[-1].text[-1:].isspace() else ""
    return before + text + (" " if follows and not follows[0].isspace() else "")
