"""A check of every exported row: nothing that was hidden from the candidate stands in what it said or was shown.

Rows are made of the transcript alone, so there should be no way in. This says so of each row that was written.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from interalign.errors import DataError
from interalign.personas import Persona
from interalign.tree import JudgedTree

GRAM: Final = 8
"""So many words in a row, not of one user message before, are no chance."""
_WORD: Final = re.compile(r"\w+(?:['\u2019]\w+)*")
Grams = frozenset[tuple[str, ...]]


@dataclass
class LeakProof:
    """What rows are checked against, and how many were."""

    persona_of: Callable[[str], Persona | None]
    """From an id to profile and personality."""
    rubric: str | None = None
    """The user's criteria for the judge."""
    notes: bool = True
    """Whether the inducer's notes count; not where replies that repeat them were asked for."""
    rows: int = field(default=0, init=False)
    """Rows that were checked."""

    def check(self, judged: JudgedTree, row: Mapping[str, Any]) -> None:
        """Raise DataError that names the row and the words if the row holds what its user never said."""
        self.rows += 1
        hidden = self._hidden(judged)
        messages = list(_messages(row))
        for role, text in messages:
            if role != "user" and any(_grams(text) & grams for grams in hidden.values()):
                self._refuse(row, messages, text, hidden)

    @property
    def facts(self) -> dict[str, Any]:
        """What the data card says of it."""
        against = ["persona", *(["notes"] if self.notes else []), *(["rubric"] if self.rubric else [])]
        return {"rows": self.rows, "words_in_a_row": GRAM, "against": against, "found": 0}

    def _hidden(self, judged: JudgedTree) -> dict[str, Grams]:
        persona = self.persona_of(judged.tree.persona)
        notes = [str(note.value) for note in judged.annotations if (note.name, note.by) == ("hint", "inducer")]
        return {
            "the persona": _grams("\n".join([*persona.profile, persona.personality])) if persona else frozenset(),
            "the inducer's notes": frozenset[tuple[str, ...]]().union(*map(_grams, notes if self.notes else ())),
            "the rubric": _grams(self.rubric or ""),
        }

    def _refuse(
        self, row: Mapping[str, Any], messages: list[tuple[str, str]], text: str, hidden: Mapping[str, Grams]
    ) -> None:
        said = frozenset[tuple[str, ...]]().union(*(_grams(other) for role, other in messages if role == "user"))
        for what, grams in hidden.items():
            found = sorted((_grams(text) & grams) - said)
            if found:
                place = ", ".join(f"{name} {row[name]}" for name in ("tree", "node") if name in row)
                raise DataError(
                    f"row {self.rows} ({place}) has words of {what} that its user never said: {' '.join(found[0])!r}; "
                    "nothing was written. Whatever shows them to the candidate must go before this can be trained on"
                )


def _messages(value: Any) -> Iterator[tuple[str, str]]:
    """Role and text of every message in a row, wherever it stands."""
    if isinstance(value, Mapping):
        if isinstance(value.get("role"), str) and isinstance(value.get("content"), str):
            yield value["role"], value["content"]
        else:
            for each in value.values():
                yield from _messages(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _messages(each)


@lru_cache(maxsize=4096)
def _grams(text: str) -> Grams:
    """Every run of GRAM words within a line, case ignored: a profile's lines are facts of their own."""
    found: set[tuple[str, ...]] = set()
    for line in text.lower().splitlines():
        words = [word.replace("\u2019", "'") for word in _WORD.findall(line)]
        found.update(zip(*(words[start:] for start in range(GRAM)), strict=False))
    return frozenset(found)
