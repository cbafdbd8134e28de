"""A call to an `hf:` model, from the event loop to the engine and back."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from interalign.models.base import Parameters
from interalign.models.local.prefix_cache import Tokens
from interalign.records import Reply
from interalign.tree import Message


@dataclass(eq=False)
class GenerationJob:
    """One call and the future of its reply."""

    messages: Sequence[Message]
    parameters: Parameters
    seed: int
    future: Future[Reply] = field(default_factory=Future)
    prompt: Tokens = ()
    max_new_tokens: int = 0


def fail(jobs: Sequence[GenerationJob], error: Exception) -> None:
    """Set this error on every job that has no result yet."""
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)
