"""What scores the replies that a training samples. It is handed in: training itself asks no model but its own."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from interalign.training.rows import TrainingRow
from interalign.tree import Message


class Sampled(NamedTuple):
    """The replies that were sampled to one state."""

    step: int
    """Optimisation steps done before they were sampled."""
    number: int
    """Its place, from 0, among the states sampled at this step."""
    persona: str
    """Id of the persona that the conversation is with."""
    prompt: tuple[Message, ...]
    """The conversation up to the user's message, after the system message if there is one."""
    replies: tuple[str, ...]
    ahead: tuple[tuple[str, ...], ...] = ()
    """What was said after each reply, where rewards look ahead: a user's message, a reply, and so on."""

    def after(self, place: int) -> tuple[str, ...]:
        """What was said after this reply."""
        return self.ahead[place] if self.ahead else ()


class ScoreReplies(Protocol):
    """Scores, in the thread that trains."""

    @property
    def lookahead(self) -> int:
        """Further turns that count for a reply."""
        ...

    def __call__(self, sampled: Sequence[Sampled]) -> list[list[float | None]]:
        """A value for every reply of every state; None where there is none: missing, never guessed.

        With turns ahead it is the mean of the scores of the reply and of those after it that there are.
        """
        ...

    def user_turns(self, sampled: Sequence[Sampled]) -> list[list[str | None]]:
        """What the simulated user says next after each reply and what followed it; None if nothing came."""
        ...


class Reward(Protocol):
    """Whoever scores."""

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """What must not change while a training goes on."""
        ...

    @property
    def judges(self) -> tuple[str, ...]:
        """Who scores, by name."""
        ...

    def opened(self, rows: Sequence[TrainingRow]) -> AbstractContextManager[ScoreReplies]:
        """Ready to score replies to the states of these rows, until the block ends.

        Raises DataError for a row whose persona is not known.
        """
        ...
