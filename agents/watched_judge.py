"""A judge whose first answers are looked at: a model that cannot judge is noticed before all of a run is paid for."""

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from interalign.agents.judge import PromptedJudge
from interalign.agents.protocols import (
    AuditOpinion,
    ChoiceOpinion,
    Comparison,
    Judge,
    Listing,
    ListJudge,
    RankingOpinion,
    ScoreOpinion,
    Scoring,
    UserAudit,
)
from interalign.errors import ConfigError

Opinion = TypeVar("Opinion", ChoiceOpinion, ScoreOpinion, RankingOpinion, AuditOpinion)
FIRST = 20
"""Questions, none of them answered in a way that can be read, until a judge is taken to be broken."""
_SHOWN = 200
"""Characters of a reply that stand in the message."""


class WatchedJudge:
    """Another judge, seen through: what it says is passed on as it is."""

    def __init__(self, judge: Judge, name: str, stop: Callable[[str], None], *, trusted: bool) -> None:
        """`stop` is called once, with what to tell, when the first questions are all without a readable answer.

        `trusted`: the judge had readable answers before, in this run; it is not looked at any more.
        """
        self._judge = judge
        self._name = name
        self._stop = stop
        self._readable = trusted
        self._unread = 0
        self._trees: dict[str, None] = {}

    @property
    def unread_trees(self) -> tuple[str, ...]:
        """The trees that a judge was asked about which turned out to be broken; none for any other judge."""
        return tuple(self._trees) if self._unread >= FIRST else ()

    async def compare(self, ask: Comparison) -> ChoiceOpinion:
        """The judge's choice."""
        self._ask(ask.at.tree)
        return self._looked_at(await self._judge.compare(ask))

    async def score(self, ask: Scoring) -> ScoreOpinion:
        """The judge's score."""
        self._ask(ask.at.tree)
        return self._looked_at(await self._judge.score(ask))

    async def rank(self, ask: Listing) -> RankingOpinion:
        """The judge's ranking."""
        self._ask(ask.at.tree)
        return self._looked_at(await cast(ListJudge, self._judge).rank(ask))

    async def audit(self, ask: UserAudit) -> AuditOpinion:
        """The judge's findings about a user's message; ConfigError for a plug-in that cannot say any."""
        if not isinstance(self._judge, PromptedJudge):
            raise ConfigError(f"the judge {self._name} compares and scores replies only; name a model with --judge")
        self._ask(ask.at.tree)
        return self._looked_at(await self._judge.audit(ask))

    def _ask(self, tree: str) -> None:
        if not self._readable:
            self._trees[tree] = None  # before there is an answer: the stop may come while it is on its way

    def _looked_at(self, opinion: Opinion) -> Opinion:
        if self._readable:
            return opinion
        if opinion.value is not None:
            self._readable = self._unread < FIRST  # once broken it stays so: the run is stopping
            return opinion
        self._unread += 1
        if self._unread == FIRST:
            self._stop(self._told(opinion.replies))
        return opinion

    def _told(self, replies: Sequence[str]) -> str:
        said = next((reply for reply in reversed(replies) if reply.strip()), "")
        shown = repr(said[:_SHOWN]) if said else "nothing at all"
        return (
            f"none of the first {FIRST} questions to the judge {self._name} had a readable answer; it said {shown}. "
            "Mend its server or its settings and run the same command again, or name a model that ends its reply with "
            "the line asked for, such as `Verdict: A`, `Score: 4`, `Ranking: B > A` or `Findings: none`"
        )
