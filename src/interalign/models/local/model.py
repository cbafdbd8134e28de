"""The chat model that an `hf:` name stands for: its options, and calls gathered into batches for one worker thread."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from typing import Any, Literal
from urllib.parse import parse_qsl

from pydantic import Field, ValidationError

from interalign.errors import BadContentError, ConfigError, FailedTreeError, InteralignError, StopError
from interalign.models.base import Parameters, Reply
from interalign.models.local.generating import generate, until_stop
from interalign.models.local.jobs import Job
from interalign.models.local.prefixes import PrefixStore, Tokens
from interalign.models.local.version import folder_version
from interalign.models.local.weights import Weights, first_line, load_weights
from interalign.tree import Frozen, Message

_LINGER_S = 0.005
"""How long a batch waits for company: siblings of a turn are asked within one sweep of the event loop."""
_SMALL_MODEL = 20_000_000
"""Weights below which a second CPU thread costs more than it gives (measured: 1.3 times the CPU time at 0.4 M)."""


class LocalOptions(Frozen):
    """What may follow the `?` of an `hf:` name."""

    history: int | None = Field(default=None, ge=1)
    """The model sees only the last N user turns: a control that shows whether reading the talk matters."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest reply, in tokens, where the call does not say; else the folder's generation_config.json decides."""
    max_batch: int = Field(default=64, ge=1)
    dtype: Literal["auto", "float32", "float64", "bfloat16", "float16"] | None = None
    """None: float32 on the CPU, the checkpoint's own on a GPU."""
    cache_mb: int = Field(default=1024, ge=0)
    """Memory for keys and values kept between calls, in MiB, on the model's device; 0: every prompt is read anew."""


def hf_model(spec: str) -> "LocalModel":
    """The model that `hf:PATH_OR_ID[?options]` names; nothing is loaded before `load` or the first call.

    Raises ConfigError for an empty path or an option that does not exist.
    """
    path, _, query = spec.removeprefix("hf:").partition("?")
    if not path:
        raise ConfigError(f"{spec!r} names no model: write hf:FOLDER or hf:ORGANISATION/MODEL")
    try:
        options = LocalOptions.model_validate(dict(parse_qsl(query, keep_blank_values=True)))
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(LocalOptions.model_fields)
        raise ConfigError(f"{spec}: option {first['loc'][0]!r}: {first['msg']}; the options are {known}") from None
    return LocalModel(spec, path, options)


class LocalModel:
    """A causal language model in this process, micro-batched across concurrent calls; a ChatModel."""

    def __init__(self, name: str, path: str, options: LocalOptions) -> None:
        self.name = name
        self.path = path
        self.options = options
        self._waiting: deque[Job] = deque()
        self._prefixes = PrefixStore(options.cache_mb << 20)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hf")
        self._loading = threading.Lock()

    def load(self) -> None:
        """Load tokenizer and weights now (safetensors only, no code of the model's own).

        Raises ConfigError if the training extra is not installed, there is no such model, it has no chat template or
        no safetensors.
        """
        with self._loading:
            _ = self._weights

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """One reply: greedy at temperature 0, sampled by `seed` otherwise (no temperature given: 1.0).

        Same messages, parameters and seed give the same reply whatever shares the batch or was read before, up to the
        last bit of float arithmetic: in float32 some millionth part of the tokens can differ between batches, with
        `?dtype=float64` none does.

        Raises BadContentError for an empty reply, FailedTreeError for a prompt the model cannot take, StopError if
        the model itself fails (out of memory), ConfigError for parameters it does not know.
        """
        if parameters.extra_body:
            strange = ", ".join(parameters.extra_body)
            raise ConfigError(f"{self.name} takes temperature, top_p and max_tokens, not {strange}")
        job = Job(messages, parameters, seed)
        self._waiting.append(job)
        try:
            self._worker.submit(self._run_waiting)
        except RuntimeError:
            raise StopError(f"{self.name} was closed") from None
        return await asyncio.wrap_future(job.future)

    def close(self) -> None:
        """End the worker after the batch it is running, and forget what was read; waiting calls are cancelled."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._prefixes = PrefixStore(0)
        while self._waiting:
            self._waiting.popleft().future.cancel()

    @cached_property
    def version(self) -> str:
        """16 hex digits for what is in the folder now; part of the ledger's keys and of a run's identity."""
        return folder_version(self.path)

    @cached_property
    def _weights(self) -> Weights:
        return load_weights(self.path, self.options.dtype)

    # From here on: the worker thread.

    def _run_waiting(self) -> None:
        """Answer up to max_batch of the waiting calls; every call submits this once, most runs find nothing left."""
        if not self._waiting:
            return
        time.sleep(_LINGER_S)
        jobs = self._take()
        try:
            self.load()
            ready = sorted((job for job in jobs if self._prepare(job)), key=lambda job: job.max_new_tokens)
            # One limit a batch: a row past its own would run into positions the model does not have.
            for _, group in groupby(ready, key=lambda job: job.max_new_tokens):
                self._answer(list(group))
        except Exception as error:  # noqa: BLE001 - not swallowed: every caller of this batch gets it
            _fail(jobs, error if isinstance(error, InteralignError) else _as_stop(self.name, len(jobs), error))

    def _take(self) -> list[Job]:
        jobs: list[Job] = []
        while self._waiting and len(jobs) < self.options.max_batch:
            job = self._waiting.popleft()
            if job.future.set_running_or_notify_cancel():
                jobs.append(job)
        return jobs

    def _prepare(self, job: Job) -> bool:
        """Fill in the job's prompt; False (and the job is answered) if the model cannot take it."""
        try:
            job.prompt = self._encode(job.messages)
        except FailedTreeError as error:
            job.future.set_exception(error)
            return False
        wanted = job.parameters.max_tokens or self.options.max_new_tokens or self._weights.max_new_tokens
        job.max_new_tokens = min(wanted, self._weights.limit - len(job.prompt))
        return True

    def _encode(self, messages: Sequence[Message]) -> Tokens:
        import jinja2

        shown = last_turns(messages, self.options.history)
        try:
            ids = self._weights.tokenizer.apply_chat_template(
                [message.model_dump() for message in shown], add_generation_prompt=True, return_dict=False
            )
        except jinja2.TemplateError as error:
            raise FailedTreeError(f"the chat template of {self.name} refuses this conversation: {error}") from None
        if len(ids) >= self._weights.limit:
            raise FailedTreeError(
                f"the prompt has {len(ids)} tokens, {self.name} takes at most {self._weights.limit} with the reply; "
                "use fewer turns or a model with a longer context"
            )
        return tuple(ids)

    def _answer(self, jobs: list[Job]) -> None:
        with _few_threads(self._weights.model):
            rows = generate(self._weights, self._prefixes, jobs)
        for job, row in zip(jobs, rows, strict=True):
            try:
                job.future.set_result(self._reply(job, row))
            except BadContentError as error:
                job.future.set_exception(error)

    def _reply(self, job: Job, row: list[int]) -> Reply:
        tokens = until_stop(row, self._weights.stops)
        text = self._weights.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        if not text:
            raise BadContentError(f"{self.name} gave an empty reply")
        return Reply(
            text=text,
            model=self.name,
            finish_reason="stop" if tokens[-1] in self._weights.stops else "length",
            prompt_tokens=len(job.prompt),
            completion_tokens=len(tokens),
        )


def last_turns(messages: Sequence[Message], turns: int | None) -> Sequence[Message]:
    """The last `turns` user messages with the replies between them, after any system messages; None: everything."""
    if turns is None:
        return messages
    users = [place for place, message in enumerate(messages) if message.role == "user"]
    start = users[-turns] if len(users) > turns else 0
    return [message for place, message in enumerate(messages) if place >= start or message.role == "system"]


def _fail(jobs: Sequence[Job], error: Exception) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)


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
