"""A call to an `hf:` model while it is under way."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from interalign.models.base import Parameters
from interalign.models.local.prefix_cache import Tokens
from interalign.records import Reply
from interalign.tree import Message


@dataclass(eq=False)
class Job:
    """One call, from the event loop to the model and back."""

    messages: Sequence[Message]
    parameters: Parameters
    seed: int
    future: Future[Reply] = field(default_factory=Future)
    prompt: Tokens = ()
    max_new_tokens: int = 0


def fail(jobs: Sequence[Job], error: Exception) -> None:
    """Give the error to every caller that has no answer yet."""
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)
