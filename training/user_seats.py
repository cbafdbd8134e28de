"""What the user agent of each stored conversation is asked with: persona, prompts, end mark."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from interalign.agents.own_prompts import recorded_prompts
from interalign.personas import Persona
from interalign.records import RunRecord
from interalign.store import Store
from interalign.store.branches import BRANCH, BRANCHER
from interalign.training.formats import ExportFormat, UserSeat
from interalign.tree import JudgedTree

_NAMED: Final = 5
"""Conversations without a known persona that are named."""


class UserSeats:
    """The user's seat in the conversations of one run."""

    def __init__(self, run: RunRecord | None, persona_of: Callable[[str], Persona | None]) -> None:
        begun = run.begun_with if run else None
        self._prompts = recorded_prompts(begun)
        self._end_mark = begun.end_mark if begun else None
        self._is_import = run is not None and run.kind == "import"
        self._persona_of = persona_of
        self.unknown = 0
        """Conversations that were asked for and whose persona is not known."""

    def of(self, judged: JudgedTree) -> UserSeat | None:
        """The seat in this conversation; None, and counted, if its persona is not known."""
        persona = self._persona_of(judged.tree.persona)
        if persona is None:
            self.unknown += 1
            return None
        # A recorded user knew of no mark: taught with one, a model would learn never to write it.
        copied = _copied(judged)
        recorded = self._is_import and not copied
        return UserSeat(persona, self._prompts, None if recorded else self._end_mark, copied)


def facts_for_card(fmt: ExportFormat, seats: UserSeats, proved: Mapping[str, Any]) -> dict[str, Any]:
    """What the data card says of rows that may show the persona: `proved` is what they were checked against."""
    if not fmt.shows_persona:
        return {"leak_proof": proved}
    return {"shows_persona": True, "unknown_personas": seats.unknown, "leak_proof": None}


def unknown_personas(store: Store) -> str | None:
    """One line on the finished conversations whose persona is not known, None if there are none."""
    trees = list(store.walk_trees("done"))
    known = store.personas()
    unknown = [tree.id for tree in trees if tree.persona not in known]
    if not unknown:
        return None
    more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
    one = len(unknown) == 1
    return (
        f"{len(unknown)} of {len(trees)} conversations {'has' if one else 'have'} no persona in the run file and "
        f"{'gives' if one else 'give'} no row: {', '.join(unknown[:_NAMED])}{more}; import them with their personas "
        "(a column `persona`, or --personas FILE)"
    )


def _copied(judged: JudgedTree) -> frozenset[str]:
    """Ids of the messages that this tree has from the one it was branched off; none if it was not."""
    begun = [note.node for note in judged.annotations if (note.name, note.by) == (BRANCH, BRANCHER)]
    return frozenset(node.id for last in begun for node in judged.tree.path(last))
