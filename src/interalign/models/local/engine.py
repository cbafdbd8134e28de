"""The engine of an `hf:` model: weights in this process that answer batches of calls."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from interalign.errors import BadContentError, FailedTreeError, InteralignError, StopError
from interalign.models.local.chat_template import KWARGS, ChatTemplate, kwargs_key
from interalign.models.local.control_tokens import ConversationRefusedError
from interalign.models.local.decode import generate, until_stop
from interalign.models.local.options import LocalOptions
from interalign.models.local.out_of_memory import give_back, is_out_of_memory
from interalign.models.local.prefix_cache import PrefixCache, Tokens
from interalign.models.local.request import GenerationJob, fail
from interalign.models.local.sampler import ClosedError
from interalign.models.local.weights import Weights, first_line, load_weights
from interalign.records import Reply
from interalign.tree import Message

_LOG = logging.getLogger(__name__)
_SMALL_MODEL = 20_000_000
"""Weights below which a second CPU thread costs more than it gives (measured: 1.3 times the CPU time at 0.4 M)."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class Engine:
    """A causal language model in this process. Only one thread at a time may have it answer."""

    def __init__(self, name: str, path: str, options: LocalOptions, gpu: int | None = None) -> None:
        """`gpu`: the number of the GPU to use, modulo how many there are; None: PyTorch's choice."""
        self.name = name
        self.path = path
        self.options = options
        self.prefixes = self._empty_cache()
        self._gpu = gpu
        self._warned = False
        self._chats: dict[str, ChatTemplate] = {}
        self._said: set[str] = set()
        self._closed = False

    def load(self) -> None:
        """Load tokenizer and weights, once.

        Raises ConfigError for what is wrong with them, StopError for what is not (no memory left, say).
        """
        try:
            _ = self.weights
        except InteralignError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {first_line(error)}"
            raise StopError(f"{self.name} cannot be loaded ({what}); if memory ran out, use fewer ?workers=") from error

    def close(self) -> None:
        """Drop the prefix cache; a batch that is being decoded ends with its next token."""
        self._closed = True
        self.prefixes = PrefixCache(0)

    @cached_property
    def weights(self) -> Weights:
        """The loaded model."""
        return load_weights(self.path, self.options.dtype, self._gpu, self.options.chat_template)

    def answer(
        self, jobs: Sequence[GenerationJob], begin: Callable[[Sequence[GenerationJob]], None] = lambda jobs: None
    ) -> None:
        """Answer these calls, once `load` is done: at the end every one has its reply or its error.

        `begin` is called with the jobs of a batch when its prefill begins.
        """
        try:
            for batch in batches_within([job for job in jobs if self._prepare(job)], self.weights.limit):
                begin(batch)
                self._within_memory(batch)
        except ClosedError:
            fail(jobs, StopError(f"{self.name} was closed"))
        except Exception as error:  # noqa: BLE001 - not swallowed: every caller of this batch gets it
            fail(jobs, error if isinstance(error, InteralignError) else _as_stop(self.name, len(jobs), error))

    def _prepare(self, job: GenerationJob) -> bool:
        """Fill in the job's prompt; False (and the job is answered) if the model cannot take it."""
        try:
            job.prompt = self._encode(job.messages, job.parameters.extra_body.get(KWARGS, {}))
        except FailedTreeError as error:
            job.future.set_exception(error)
            return False
        wanted = job.parameters.max_tokens or self.options.max_new_tokens or self.weights.max_new_tokens
        job.max_new_tokens = min(wanted, self.weights.limit - len(job.prompt))
        return True

    def _encode(self, messages: Sequence[Message], kwargs: Mapping[str, Any]) -> Tokens:
        try:
            # A tokenizer takes no lone surrogates; on record they stay as they came.
            ids = self._chat(kwargs).prompt([_whole(message) for message in last_turns(messages, self.options.history)])
        except ConversationRefusedError as error:
            raise FailedTreeError(f"{self.name}: {error}") from None
        if len(ids) >= self.weights.limit:
            raise FailedTreeError(
                f"the prompt has {len(ids)} tokens, {self.name} takes at most {self.weights.limit} with the reply; "
                "use fewer turns or a model with a longer context"
            )
        return tuple(ids)

    def _chat(self, kwargs: Mapping[str, Any]) -> ChatTemplate:
        """The chat template with these arguments beside those of the model; unread arguments are logged once."""
        key = kwargs_key(kwargs)
        if key not in self._chats:
            chat = self._chats[key] = ChatTemplate(self.weights.tokenizer, kwargs, self._said)
            if unread := [name for name in kwargs if name not in chat.variables()]:
                _LOG.warning("the chat template of %s does not read %s", self.name, ", ".join(unread))
        return self._chats[key]

    def _within_memory(self, jobs: list[GenerationJob]) -> None:
        """Answer a batch. If memory runs out, drop the prefix cache and retry in halves; a single call fails."""
        was_empty = self.prefixes.nbytes == 0
        lacking = self._answer(jobs)
        if lacking is None:
            return
        self.prefixes = self._empty_cache()
        give_back()
        if len(jobs) == 1 and was_empty:
            fail(jobs, self._too_large(jobs[0], lacking))
            return
        self._warn(len(jobs))
        middle = (len(jobs) + 1) // 2
        for half in filter(None, (jobs[:middle], jobs[middle:])):
            self._within_memory(half)

    def _answer(self, jobs: list[GenerationJob]) -> str | None:
        """Answer a batch; or return the allocator's message, to be handled once the tensors of this frame are freed."""
        try:
            with _few_threads(self.weights.model):
                rows = generate(self.weights, self.prefixes, jobs, lambda: self._closed)
        except Exception as error:
            if is_out_of_memory(error):
                return f"{type(error).__name__}: {first_line(error)}"
            raise
        for job, row in zip(jobs, rows, strict=True):
            try:
                job.future.set_result(self._reply(job, row))
            except BadContentError as error:
                job.future.set_exception(error)
        return None

    def _reply(self, job: GenerationJob, row: list[int]) -> Reply:
        tokens = until_stop(row, self.weights.stops)
        ended = tokens[-1] in self.weights.stops
        # A stop token is not part of the reply, even where the tokenizer does not count it among its special tokens.
        said = tokens[:-1] if ended else tokens
        text = self.weights.tokenizer.decode(said, skip_special_tokens=True).strip()
        if not text:
            raise BadContentError(f"{self.name} gave an empty reply")
        return Reply(
            text=text,
            model=self.name,
            finish_reason="stop" if ended else "length",
            prompt_tokens=len(job.prompt),
            completion_tokens=len(tokens),
        )

    def _empty_cache(self) -> PrefixCache:
        return PrefixCache(self.options.cache_mb << 20)

    def _too_large(self, job: GenerationJob, lacking: str) -> FailedTreeError:
        return FailedTreeError(
            f"{self.name} ran out of memory on one call alone, a prompt of {len(job.prompt)} tokens and a reply of up "
            f"to {job.max_new_tokens} ({lacking}); use fewer turns, a smaller max_tokens or a smaller ?dtype="
        )

    def _warn(self, size: int) -> None:
        if not self._warned:
            _LOG.warning(
                "%s ran out of memory on a batch of %d: what it had kept is dropped, and the batch tried in halves; "
                "a lower ?max_batch= or ?cache_mb= would save that",
                *(self.name, size),
            )
        self._warned = True


def batches_within(jobs: Sequence[GenerationJob], limit: int) -> list[list[GenerationJob]]:
    """The jobs, shortest limit first, in as few batches as keep every row within `limit` positions.

    A row that has ended stays in its batch until the last one ends, so its longest prompt and its longest reply count.
    """
    batches: list[list[GenerationJob]] = []
    for job in sorted(jobs, key=lambda job: job.max_new_tokens):
        fits = batches and max(len(each.prompt) for each in (*batches[-1], job)) + job.max_new_tokens <= limit
        if fits:
            batches[-1].append(job)
        else:
            batches.append([job])
    return batches


def _whole(message: Message) -> Message:
    return Message(role=message.role, content=_SURROGATE.sub("\ufffd", message.content))


def last_turns(messages: Sequence[Message], turns: int | None) -> Sequence[Message]:
    """The last `turns` user messages with the replies between them, after any system messages; None: everything."""
    if turns is None:
        return messages
    users = [place for place, message in enumerate(messages) if message.role == "user"]
    start = users[-turns] if len(users) > turns else 0
    return [message for place, message in enumerate(messages) if place >= start or message.role == "system"]


def _as_stop(name: str, size: int, error: Exception) -> StopError:
    what = f"{name} failed on a batch of {size} ({type(error).__name__}: {first_line(error)})"
    stop = StopError(f"{what}; if memory ran out, lower ?max_batch= or ?cache_mb=")
    stop.__cause__ = error
    return stop


@contextmanager
def _few_threads(model: Any) -> Iterator[None]:
    """One CPU thread for a small model: the other core then runs the event loop."""
    import torch

    before = torch.get_num_threads()
    if model.num_parameters() < _SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
