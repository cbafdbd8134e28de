"""One seat's way to its model: through the ledger, and asked again for what cannot be used."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from interalign.agents.protocols import At
from interalign.errors import BadContentError
from interalign.ledger import Calls, Place
from interalign.models.base import ChatModel, Parameters
from interalign.seeds import addressed_seed
from interalign.tree import Message

T = TypeVar("T")


class Heard(NamedTuple, Generic[T]):
    """What came of asking: the parsed value (None: nothing could be used), all raw replies, the last call's key."""

    value: T | None
    replies: tuple[str, ...]
    call: str | None
    why: str = ""
    """Why the last reply could not be used, where none could."""

    def unusable(self) -> str:
        """How often it was asked and why in vain, for a message."""
        return f"asked {len(self.replies)} times" + (f", last: {self.why}" if self.why else "")


class Speaker:
    """A model in one seat."""

    def __init__(self, role: str, model: ChatModel, parameters: Parameters, ledger: Calls) -> None:
        self.role = role
        self.model = model
        self.parameters = parameters
        self.ledger = ledger

    async def ask(self, at: At, messages: Sequence[Message], read: Callable[[str], T]) -> Heard[T]:
        """Ask until `read` accepts a reply, at most `at.samples` times; every sample has its own place and seed.

        The same messages are sent each time: a refused reply is never shown to the model again.
        """
        replies: list[str] = []
        why = ""
        for sample in range(at.samples):
            seed = addressed_seed(at.seed, self.role, sample)
            place = Place(at.tree, at.node, self.role, sample)
            try:
                call = await self.ledger.call(place, self.model, messages, self.parameters, seed)
                replies.append(call.reply.text)
                return Heard(read(call.reply.text), tuple(replies), call.key)
            except BadContentError as error:
                why = str(error)
                if len(replies) <= sample:
                    replies.append(error.reply)
        return Heard(None, tuple(replies), None, why)


def read_text(reply: str) -> str:
    """The reply as a message: outer white space removed; BadContentError if nothing is left."""
    text = reply.strip()
    if not text:
        raise BadContentError("an empty reply", reply)
    return text
