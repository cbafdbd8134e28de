"""A conversation tree as a notebook shows it: one piece of HTML without scripts, style sheets or anything loaded."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

from interalign.visible_text import shown

MOST_MESSAGES: Final = 300
MOST_CHARACTERS: Final = 2000
"""Of a message; what is left out is counted. A notebook keeps its output, so that it has to stay small."""
_FRAME: Final = "border:1px solid #8888;border-radius:8px;padding:6px 12px;margin:6px 0;max-width:60em"
_TEXT: Final = "white-space:pre-wrap;overflow-wrap:anywhere;text-align:left"
_MESSAGE: Final = {
    "user": "margin:6px 0;padding-left:10px;border-left:3px solid #8888",
    "assistant": "margin:6px 0 6px 24px",
}


class Drawn(NamedTuple):
    """One message of a tree."""

    id: str
    parent: str | None
    role: str
    by: str
    """Who speaks, and what is to be said of it, such as a score."""
    text: str


def tree_html(title: str, messages: Sequence[Drawn]) -> str:
    """The longest conversation of the tree; what branches off it is folded behind the reply that went on.

    `messages`: parents before their answers.
    """
    return _Drawing(messages).whole(title)


class _Drawing:
    """One tree in the making."""

    def __init__(self, messages: Sequence[Drawn]) -> None:
        self._messages = messages
        self._left = MOST_MESSAGES
        self._below: dict[str | None, list[Drawn]] = {}
        self._reach: dict[str | None, int] = {}
        """Message -> how many the longest path from it has."""
        for each in messages:
            self._below.setdefault(each.parent, []).append(each)
        for each in reversed(messages):
            self._reach[each.id] = self._reach.get(each.id, 0) + 1
            self._reach[each.parent] = max(self._reach.get(each.parent, 0), self._reach[each.id])

    def whole(self, title: str) -> str:
        body = "".join(self._from(self._below[None][0]))
        more = len(self._messages) - (MOST_MESSAGES - self._left)
        rest = f"<p>and {more:,} more messages; <code>interalign view</code> shows them all</p>" if more else ""
        return f'<div style="{_FRAME}"><p style="{_TEXT}">{_text(title)}</p>{body}{rest}</div>'

    def _from(self, first: Drawn) -> Iterator[str]:
        """The longest path from here, siblings folded beside it."""
        path: list[Drawn] = [first]
        while path and self._left > 0:
            yield self._message(path[0])
            yield from (self._folded(other) for other in path[1:] if self._left > 0)
            path = sorted(self._below.get(path[0].id, []), key=lambda each: -self._reach[each.id])

    def _folded(self, one: Drawn) -> str:
        what = "reply" if one.role == "assistant" else "message"
        title = f"{what} {_text(one.id)}, {_count(self._reach[one.id])}"
        return f'<details style="margin-left:24px"><summary>{title}</summary>{"".join(self._from(one))}</details>'

    def _message(self, one: Drawn) -> str:
        self._left -= 1
        cut = one.text[:MOST_CHARACTERS]
        more = f" <i>and {len(one.text) - len(cut):,} more characters</i>" if len(one.text) > len(cut) else ""
        said = f'<div dir="auto" style="{_TEXT};unicode-bidi:isolate">{_text(cut)}{more}</div>'
        return f'<div style="{_MESSAGE[one.role]}"><small>{_text(one.by)}</small>{said}</div>'


def _count(number: int) -> str:
    return "1 message" if number == 1 else f"{number:,} messages"


def _text(text: str) -> str:
    return escape(shown(text))
