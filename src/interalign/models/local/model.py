"""The chat model that an `hf:` name stands for: in this process, or in worker processes of its own."""

import asyncio
from collections.abc import Sequence
from functools import cached_property

from interalign.config import Runtime
from interalign.errors import ConfigError, StopError
from interalign.model_spec import ModelSpec
from interalign.models.base import Parameters
from interalign.models.call_state import queued_while
from interalign.models.local.batch_queue import BatchQueue, assign
from interalign.models.local.chat_template import KWARGS, check_kwargs
from interalign.models.local.engine import Engine
from interalign.models.local.fingerprint import version_with
from interalign.models.local.options import LocalOptions, local_options, template_text
from interalign.models.local.request import GenerationJob
from interalign.models.local.workers.handle import WorkerProcess
from interalign.records import Reply
from interalign.tree import Message


def hf_model(name: str) -> "LocalModel":
    """The model of this full name, `hf:PATH_OR_ID[?options]`; errors as in `from_spec`."""
    return from_spec(ModelSpec.parse(name))


def from_spec(spec: ModelSpec, runtime: Runtime | None = None) -> "LocalModel":
    """The model in this folder or of this id; nothing is loaded before `load` or the first call.

    Raises ConfigError for an empty path or an option that does not exist.
    """
    return LocalModel(spec.known_as, spec.name, local_options(spec))


def refuse_unknown_parameters(name: str, parameters: Parameters) -> None:
    """ConfigError for parameters that the `hf:` model of this name does not know."""
    if strange := ", ".join(field for field in parameters.extra_body if field != KWARGS):
        known = f"temperature, top_p, top_k, min_p, repetition_penalty, max_tokens and {KWARGS}"
        raise ConfigError(f"{name} takes {known}, not {strange}")
    check_kwargs(parameters.extra_body.get(KWARGS, {}), name)


class LocalModel:
    """A causal language model on this machine, micro-batched across concurrent calls; a ChatModel.

    It runs in this process, or with `options.workers` in so many processes, each with its own copy of the model.
    """

    def __init__(self, name: str, path: str, options: LocalOptions) -> None:
        self.name = name
        self.path = path
        self.options = options
        self._warned: set[str] = set()
        if options.workers is None:
            self._queues = [self._queue(Engine(name, path, options))]
        else:
            self._queues = [self._worker_queue(number) for number in range(options.workers)]
        self._begun = False

    def load(self) -> None:
        """Load tokenizer and weights now (safetensors only, no code of the model's own).

        Raises ConfigError if the training extra is not installed, there is no such model, it has no chat template or
        no safetensors; StopError if it was closed, or if worker processes end again and again.
        """
        self._begin(self._queues[0])
        for queue in self._queues:
            queue.load()

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """One reply: greedy at temperature 0, sampled by `seed` otherwise (no temperature given: 1.0).

        Same messages, parameters and seed give the same reply whatever shares the batch or was read before, up to the
        last bit of float arithmetic: in float32 some millionth part of the tokens can differ between batches, in
        bfloat16 many more, with `?dtype=float64` none does.

        Raises BadContentError for an empty reply, FailedTreeError for a prompt the model cannot take, or has not
        memory enough for, and if the worker process that was answering ends; StopError if the model itself fails;
        ConfigError for parameters it does not know.
        """
        self.check(parameters)
        job = GenerationJob(messages, parameters, seed)
        self._put(job)
        queued_while(lambda: not (job.future.running() or job.future.done()))
        return await asyncio.wrap_future(job.future)

    def check(self, parameters: Parameters) -> None:
        """ConfigError for parameters that the model does not know. Seats ask before a run is begun."""
        refuse_unknown_parameters(self.name, parameters)

    def close(self) -> None:
        """End: after the batch that is running in this process, at once in workers; waiting calls are cancelled."""
        for queue in self._queues:
            queue.close()

    @cached_property
    def version(self) -> str:
        """16 hex digits for the folder and `?chat_template=`; part of the ledger's keys and of a run's identity."""
        replaced = self.options.chat_template
        return version_with(self.path, None if replaced is None else template_text(replaced))

    def _queue(self, engine: Engine | WorkerProcess) -> BatchQueue:
        return BatchQueue(self.name, engine, self.options.max_batch, self._put_again)

    def _worker_queue(self, number: int) -> BatchQueue:
        worker = WorkerProcess(self.name, self.path, self.options, number)
        queue = self._queue(worker)
        worker.on_idle_exit = queue.renew
        worker.warned = self._warned
        return queue

    def _begin(self, first: BatchQueue) -> None:
        """All workers load at the same time; `first` does so for its first call."""
        if not self._begun:
            self._begun = True
            for queue in self._queues:
                if queue is not first:
                    queue.renew()

    def _put(self, job: GenerationJob) -> None:
        queue = assign(self._queues, job.messages)
        queue.put(job)
        self._begin(queue)

    def _put_again(self, job: GenerationJob) -> None:
        try:
            self._put(job)
        except StopError as error:
            job.future.set_exception(error)
