"""Reading the prompts that the world's roles are given: the files of agents/prompts, filled in.

Every line of a filled-in value starts with `| `, except the user's own message, which comes first. So the last
unquoted marker line is the prompt's own, whatever a message or a reply contains.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from interalign.tree import Message

END: Final = "[end of the conversation]"
HINT: Final = "[for the assistant only]"
MESSAGE: Final = "[the user's message]"
_AGAIN: Final = "\n\n[asked again]\nYour last answer to this could not be used"
_QUOTE: Final = "|"


class ReceivedPrompt(NamedTuple):
    """A message with the part that was added to it."""

    message: str
    """What the user said, or the whole text if nothing was added."""
    sections: tuple[tuple[str, tuple[str, ...]], ...]
    """Each quoted block with the unquoted line just above it."""
    instructions: str
    """The unquoted lines of the added part."""

    def section(self, start: str) -> tuple[str, ...] | None:
        """The lines of the last block whose heading starts so; None if there is none."""
        return next((lines for heading, lines in reversed(self.sections) if heading.startswith(start)), None)


def without_note(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages without the note at their end that says why the same is asked again."""
    *talk, last = messages
    before, note, after = last.content.rpartition(_AGAIN)
    return [*talk, last.model_copy(update={"content": before})] if note and "\n\n" not in after else messages


def read_prompt(text: str, marker: str | None) -> ReceivedPrompt:
    """Split a text at its last unquoted `marker` line; None reads the whole text as instructions."""
    lines = text.split("\n")
    if marker is None:
        return ReceivedPrompt("", *_sections(lines))
    if marker not in lines:
        return ReceivedPrompt(text, (), "")
    at = len(lines) - 1 - lines[::-1].index(marker)
    return ReceivedPrompt("\n".join(lines[:at]).removesuffix("\n"), *_sections(lines[at + 1 :]))


def read_hinted(text: str) -> ReceivedPrompt:
    """The user's message and the note with it: before the message, or after it as in version 1 of the prompts."""
    lines = text.split("\n")
    if lines[0] != HINT or MESSAGE not in lines:
        return read_prompt(text, HINT)
    at = lines.index(MESSAGE)  # the first one: every line of the note is quoted, and the message comes last
    return ReceivedPrompt("\n".join(lines[at + 1 :]), *_sections(lines[1:at]))


def read_script(lines: Sequence[str]) -> tuple[str, ...]:
    """What the user said in a conversation that is quoted as a script, in order."""
    texts: list[tuple[bool, list[str]]] = []
    for line in lines:
        if line.startswith("  ") and texts:
            texts[-1][1].append(line[2:])
        else:
            who, _, said = line.partition(": ")
            texts.append((who == "User", [said]))
    return tuple("\n".join(said) for by_user, said in texts if by_user)


def _sections(lines: Sequence[str]) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], str]:
    sections: list[tuple[str, list[str]]] = []
    plain: list[str] = []
    inside = False
    for line in lines:
        quoted = line.startswith(_QUOTE)
        if quoted and not inside:
            sections.append((plain[-1] if plain else "", []))
        if quoted:
            sections[-1][1].append(line[1:].removeprefix(" "))
        else:
            plain.append(line)
        inside = quoted
    return tuple((heading, tuple(block)) for heading, block in sections), "\n".join(plain)


def user_texts(messages: Sequence[Message], last: str) -> tuple[str, ...]:
    """What the user said in a talk, in order, with the last message replaced by its own text."""
    return (*(message.content for message in messages[:-1] if message.role == "user"), last)
