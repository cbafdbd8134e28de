"""What scores the replies that a training samples. It is handed in: training itself asks no model but its own."""

from collections.abc import Callable, Mapping, Sequence
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


Score = Callable[[Sequence[Sampled]], list[list[float | None]]]
"""A value for every reply of every state; None where there is none: missing, never guessed."""


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

    def opened(self, rows: Sequence[TrainingRow]) -> AbstractContextManager[Score]:
        """Ready to score replies to the states of these rows, until the block ends.

        Raises DataError for a row whose persona is not known.
        """
        ...
