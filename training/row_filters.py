"""Which turns of a judged tree are left out of an export: too small a margin, too little agreement, a faulty user."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from math import isfinite

from interalign.agents.audit_rules import faulty_messages
from interalign.errors import ConfigError
from interalign.panel import PANEL
from interalign.personas import Persona
from interalign.preferences import Pair, agreement, pairs
from interalign.tree import JudgedTree


@dataclass
class RowFilters:
    """What a turn must have to give rows. A turn whose clearest pair falls short gives none, in any format."""

    min_margin: float | None = None
    """Margin of a pair, above 0; of scores in points, of comparisons as in `Pair.margin`."""
    min_agreement: float | None = None
    """Share of the run's judges that prefer the chosen reply, 0 to 1; a tie is no preference."""
    drop_audited: bool = False
    """Leave out user messages with a finding (`interalign audit`), and all that follows them."""
    persona_of: Callable[[str], Persona | None] = lambda _: None
    """From an id to the persona, for the audit."""
    left_out: Counter[str] = field(default_factory=Counter)
    """What was left out, counted as trees pass: `turns`, of which pairs fell short, and `messages` with a finding."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a limit that cannot be one."""
        if self.min_margin is not None and not (isfinite(self.min_margin) and self.min_margin >= 0):
            raise ConfigError(f"--min-margin {self.min_margin:g}: a margin is a number from 0 on, such as 1")
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise ConfigError(f"--min-agreement {self.min_agreement:g}: a share of the judges is 0 to 1, such as 0.67")

    def without_faulty(self, judged: JudgedTree, *, unanswered: bool = False) -> JudgedTree | None:
        """The tree without user messages that an audit finds fault with; None if nothing is left.

        User messages without a reply go as well then, unless `unanswered` ones are to stay.
        """
        if not self.drop_audited:
            return judged
        faulty = faulty_messages(judged, self.persona_of(judged.tree.persona))
        self.left_out["messages"] += len(faulty)
        return judged.without(faulty, unanswered=unanswered) if faulty else judged

    def held_to_limits(self, own: JudgedTree, everyone: JudgedTree) -> JudgedTree:
        """The tree of one judge without the turns, and without the pairs, that fall short.

        `everyone`: the same tree with what all judges said.
        """
        if self.min_margin is None and self.min_agreement is None:
            return own
        members = [judge for judge in everyone.judges() if judge != PANEL]
        short = {pair.ids for pair in pairs(own, "all") if not self._holds(pair, everyone, members)}
        clearest = pairs(own, "best-worst")
        kept = {pair.prompt.id for pair in clearest if self._holds(pair, everyone, members)}
        self.left_out["turns"] += len(clearest) - len(kept)
        replies = {reply.id for turn in own.tree.turns() if turn.id not in kept for reply in own.tree.children(turn.id)}
        return own.unjudged(replies).model_copy(update={"unpaired": frozenset(short)})

    def _holds(self, pair: Pair, everyone: JudgedTree, judges: Collection[str]) -> bool:
        if self.min_margin is not None and pair.margin < self.min_margin:
            return False
        return self.min_agreement is None or agreement(everyone, pair, judges) >= self.min_agreement
