"""A call to an `hf:` model while it is under way."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from interalign.models.base import Parameters, Reply
from interalign.models.local.prefixes import Tokens
from interalign.tree import Message


@dataclass
class Job:
    """One call, from the event loop to the worker and back."""

    messages: Sequence[Message]
    parameters: Parameters
    seed: int
    future: Future[Reply] = field(default_factory=Future)
    prompt: Tokens = ()
    max_new_tokens: int = 0
