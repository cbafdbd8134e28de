"""Text with every character written out that cannot be seen, or that moves what stands around it; text for UTF-8."""

import re

_UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, ANSI's escape among them; tab and newline are white space
    "\u00ad\u200b\u2060-\u2064\ufeff\u180e"  # no width at all; joiners (200c, 200d) stay: emoji and scripts need them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # direction marks, embeddings, overrides, isolates
    "\u2028\u2029"  # line breaks that are no newline
    "\ufff9-\ufffb\ufffe\uffff"  # interlinear marks and two that are no characters
    "\U000e0000-\U000e007f"  # tags: whole sentences can be hidden in them
    "\ud800-\udfff"  # lone surrogates, which no page can be encoded with
    "]"
)


def shown(text: str) -> str:
    """The text with every character that cannot be seen written out, such as `⟦U+202E⟧`; `\\r\\n` becomes a newline.

    It says nothing about markup: the templates escape that.
    """
    return _UNSEEN.sub(lambda match: f"\u27e6U+{ord(match[0]):04X}\u27e7", text.replace("\r\n", "\n"))


def encodable(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair that stands alone, which UTF-8 cannot hold."""
    # UTF-16 is where surrogates come from: two matching halves become one character, a lone one is replaced.
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
