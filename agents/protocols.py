"""The shape of each role. Anything with the right call can play it: a model, a rule, a graph, a plug-in."""

from collections.abc import Mapping
from typing import Protocol

from pydantic import Field, JsonValue

from interalign.personas import Persona
from interalign.tree import AspectScores, Choice, Frozen, Message, Node, Score, Text, Verdict, no_aspects


class At(Frozen):
    """Where a role is asked: it addresses the ledger and the randomness, and means nothing else."""

    tree: str
    node: str
    """Id of the node that is being made or judged."""
    seed: int
    """Addressed seed of this ask; a role that draws must draw from it."""
    samples: int = 3
    """How many answers may be asked for until one can be used."""


class UserAsk(Frozen):
    """Write the user's next message."""

    at: At
    persona: Persona
    transcript: tuple[Message, ...]
    """The conversation so far, ending with a reply; empty at the start."""
    turn: int
    # Left out where there is none, so that a plug-in's calls on record from before there were marks are found.
    end_mark: str | None = Field(default=None, exclude_if=lambda mark: mark is None)
    """What the user writes to end the talk, after its last message or alone; None: the user cannot end it."""


class InducerAsk(Frozen):
    """Note down what the conversation has revealed about the user. The persona is not told."""

    at: At
    transcript: tuple[Message, ...]
    """The conversation so far, ending with the user's message."""


class CandidateAsk(Frozen):
    """Answer the user. The persona is not told."""

    at: At
    transcript: tuple[Message, ...]
    """The conversation so far, ending with the user's message."""
    hint: str | None = None
    """The inducer's notes, for the reply that is tailored with them."""
    # Left out where there is none, so that a plug-in's calls on record from before there were any are found.
    system: str | None = Field(default=None, exclude_if=lambda text: text is None)
    """The run's system message; None: there is none."""


class Comparison(Frozen):
    """Say which of two replies suits this user better. Asked once in each order."""

    at: At
    persona: Persona
    transcript: tuple[Message, ...]
    first: str
    """The reply shown as A."""
    second: str
    """The reply shown as B."""


class Scoring(Frozen):
    """Score one reply for fit to this user, 1 to 5."""

    at: At
    persona: Persona
    transcript: tuple[Message, ...]
    reply: str
    # Left out where they are not asked for, so that a plug-in's calls on record from before there were any are found.
    aspects: bool = Field(default=False, exclude_if=lambda asked: not asked)
    """Score content, style and engagement, too."""


class Listing(Frozen):
    """Rank the replies of a turn by how well they suit this user. Asked twice, the second time in reverse order."""

    at: At
    persona: Persona
    transcript: tuple[Message, ...]
    ranked: tuple[str, ...]
    """The replies in the order shown, at least two; the first one is shown as A."""


class UserAudit(Frozen):
    """Say what is wrong with the last message, which a user agent wrote in the persona's place."""

    at: At
    persona: Persona
    transcript: tuple[Message, ...]
    """The conversation so far, ending with the user's message."""


class Said(Frozen):
    """A text role's answer."""

    text: Text
    call: str | None = None
    """Ledger key of the call behind it; a plug-in leaves it out."""


class ChoiceOpinion(Frozen):
    """A judge's answer to a comparison."""

    value: Choice | None
    """None if no usable answer came: missing, never guessed."""
    replies: tuple[str, ...]
    """The judge's words in the order asked; all but the last could not be read."""


class ScoreOpinion(Frozen):
    """A judge's answer to a scoring."""

    value: int | None = Field(ge=1, le=5)
    replies: tuple[str, ...]
    aspects: AspectScores = Field(default_factory=no_aspects, exclude_if=lambda found: not found)
    """Of content, style and engagement those that could be read, 1 to 5 each; none without a value."""


class RankingOpinion(Frozen):
    """A judge's answer to a listing."""

    value: tuple[int, ...] | None
    """The places of the replies as they were shown, from 0, the best first, each once. None: no usable answer came."""
    replies: tuple[str, ...]


class AuditOpinion(Frozen):
    """A judge's answer to an audit of a user's message."""

    value: tuple[str, ...] | None
    """Some of contradiction, recital, assistant, stall, style; empty: nothing is wrong. None: no usable answer came."""
    replies: tuple[str, ...]


class UserRole(Protocol):
    """Plays the persona."""

    async def __call__(self, ask: UserAsk) -> Said:
        """The user's next message; BadContentError if none came that can be used."""
        ...


class Inducer(Protocol):
    """Works out what the conversation has revealed so far."""

    async def __call__(self, ask: InducerAsk) -> Said:
        """Notes for the assistant; BadContentError if none came that can be used."""
        ...


class Candidate(Protocol):
    """Answers the user."""

    async def __call__(self, ask: CandidateAsk) -> Said:
        """One reply; BadContentError if none came that can be used."""
        ...


class Judge(Protocol):
    """Knows the persona and says which reply suits it. One presentation a call: the turn graph asks both orders."""

    async def compare(self, ask: Comparison) -> ChoiceOpinion:
        """Which of two replies suits the user better."""
        ...

    async def score(self, ask: Scoring) -> ScoreOpinion:
        """How well one reply suits the user."""
        ...


class ListJudge(Protocol):
    """A judge that ranks any number of replies in one call."""

    async def rank(self, ask: Listing) -> RankingOpinion:
        """Which reply suits the user best, which second best, and so on."""
        ...


class HookView(Frozen):
    """What a hook sees of the turn it is attached to: everything made so far, nothing to change."""

    at: At
    persona: Persona
    transcript: tuple[Message, ...]
    """The conversation up to the user's message of this turn."""
    user: Node
    hint: str | None = None
    replies: tuple[Node, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    scores: tuple[Score, ...] = ()


class Hook(Protocol):
    """A new kind of role at a named point of the turn graph."""

    async def __call__(self, view: HookView) -> Mapping[str, Mapping[str, JsonValue]]:
        """Annotations to add: node id -> name -> value. An empty mapping adds nothing."""
        ...
