"""The protocol of a chat model: messages in, one reply out."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from interalign.config import Parameters
from interalign.records import Reply
from interalign.tree import Message

__all__ = ["ChatModel", "Parameters", "Reply"]


def provider_seed(parameters: Parameters, seed: int) -> int | None:
    """The seed to send to a provider with a call whose own seed is `seed`; 31 bits, which all of them take."""
    return seed % 2**31 if parameters.seed == "addressed" else parameters.seed


def version_of(model: object) -> str:
    """What the name of a model does not say: which weights are in the folder of that name. Empty for most models."""
    return str(getattr(model, "version", ""))


@runtime_checkable
class ChatModel(Protocol):
    """Anything that answers a list of chat messages."""

    name: str
    """The full name, as given on the command line; part of a run's identity."""

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """One reply. `seed` addresses the randomness: same messages, parameters and seed, same reply where the
        model can promise it (the world, local weights); remote providers ignore it.

        Raises BadContentError for a reply that cannot be used, FailedTreeError if only this conversation cannot go
        on, StopError if no conversation can.
        """
        ...
