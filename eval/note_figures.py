"""What the inducer's notes were worth, and how many hinted replies carry their words: counts over trees."""

from collections import Counter

from interalign.agents.leaks import leaking
from interalign.agents.notes import says_nothing
from interalign.tree import Frozen, JudgedTree


class NoteFigures(Frozen):
    """The inducer's own record."""

    notes: int
    """Notes taken, one a user message."""
    empty: int
    """Of those, how many say nothing ("None yet")."""
    hinted: int
    """Replies that were shown a note."""
    leaks: int
    """Of those, how many repeat words of the note or of its prompt: exports leave them out."""


class NoteTally:
    """Counts notes tree by tree."""

    def __init__(self) -> None:
        self._counts = Counter[str]()

    def add(self, judged: JudgedTree) -> None:
        """Count one tree."""
        notes = [str(note.value) for note in judged.annotations if note.name == "hint" and note.by == "inducer"]
        leaks = leaking(judged)
        hinted = sum(node.hinted for node in judged.tree.nodes)
        empty = sum(map(says_nothing, notes))
        self._counts.update({"notes": len(notes), "empty": empty, "hinted": hinted, "leaks": len(leaks)})

    def figures(self) -> NoteFigures | None:
        """The figures of all trees that were added; None if no note was taken."""
        counts = {name: self._counts[name] for name in NoteFigures.model_fields}
        return NoteFigures(**counts) if counts["notes"] else None
