"""Local weights as a chat model: `hf:PATH_OR_ID[?history=N&max_new_tokens=N&max_batch=N&dtype=NAME&cache_mb=N]`.

Calls that arrive while a batch is running form the next one. One worker thread runs the batches, so the event loop
stays free, and a reply depends on its own prompt, settings and seed, not on who shared its batch, nor on what was read
before: keys and values of prompts and replies are kept (local_cache.py), so that the next turn reads only what is new.
"""

import asyncio
import inspect
import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl

from pydantic import Field, ValidationError

from interalign.errors import BadContentError, ConfigError, FailedTreeError, InteralignError, StopError
from interalign.models.base import Parameters, Reply
from interalign.models.local_cache import (
    PrefixStore,
    Span,
    Tokens,
    covered,
    cut_spans,
    lay_out,
    lift,
    next_to_read,
    with_room,
)
from interalign.tree import Frozen, Message

_DEFAULT_NEW_TOKENS = 512
_LINGER_S = 0.005
"""How long a batch waits for company: siblings of a turn are asked within one sweep of the event loop."""
_SMALL_MODEL = 20_000_000
"""Weights below which a second CPU thread costs more than it gives (measured: 1.3 times the CPU time at 0.4 M)."""
_PASS_TOKENS = 64
"""What a forward pass costs beside its tokens, in tokens: a pass is saved or spent where that many are at stake."""
_ROOM = 64
"""Tokens by which a batch's keys and values grow at a time: growing copies all of them."""
_PROBE_TOKENS = 24
"""Length of the sequence on which a model shows that it may be read in parts."""


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


class _Weights(NamedTuple):
    tokenizer: Any
    model: Any
    limit: int
    """Most positions the model can take, prompt and reply together."""
    stops: tuple[int, ...]
    """Ids of the tokens that end a reply."""
    max_new_tokens: int
    in_parts: bool
    """Whether it may read a prompt in parts, and so go on from keys and values that were kept."""


@dataclass
class _Job:
    """One call, from the event loop to the worker and back."""

    messages: Sequence[Message]
    parameters: Parameters
    seed: int
    future: Future[Reply] = field(default_factory=Future)
    prompt: Tokens = ()
    max_new_tokens: int = 0


class LocalModel:
    """A causal language model in this process, micro-batched across concurrent calls; a ChatModel."""

    def __init__(self, name: str, path: str, options: LocalOptions) -> None:
        self.name = name
        self.path = path
        self.options = options
        self._waiting: deque[_Job] = deque()
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
        job = _Job(messages, parameters, seed)
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
    def _weights(self) -> _Weights:
        return _load(self.path, self.options)

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

    def _take(self) -> list[_Job]:
        jobs: list[_Job] = []
        while self._waiting and len(jobs) < self.options.max_batch:
            job = self._waiting.popleft()
            if job.future.set_running_or_notify_cancel():
                jobs.append(job)
        return jobs

    def _prepare(self, job: _Job) -> bool:
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

    def _answer(self, jobs: list[_Job]) -> None:
        with _few_threads(self._weights.model):
            rows = _generate(self._weights, self._prefixes, jobs)
        for job, row in zip(jobs, rows, strict=True):
            try:
                job.future.set_result(self._reply(job, row))
            except BadContentError as error:
                job.future.set_exception(error)

    def _reply(self, job: _Job, row: list[int]) -> Reply:
        tokens = _until_stop(row, self._weights.stops)
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


def _fail(jobs: Sequence[_Job], error: Exception) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)


def _as_stop(name: str, size: int, error: Exception) -> StopError:
    what = f"{name} failed on a batch of {size} ({type(error).__name__}: {_first_line(error)})"
    stop = StopError(f"{what}; if memory ran out, lower ?max_batch= or ?cache_mb=")
    stop.__cause__ = error
    return stop


def _load(path: str, options: LocalOptions) -> _Weights:
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise ConfigError("hf: models need the training extra: pip install 'interalign[train]'") from None
    folder = Path(path).expanduser()
    if not folder.is_dir() and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise ConfigError(f"hf:{path}: there is no folder {path}")
    source, gpu = str(folder) if folder.is_dir() else path, torch.cuda.is_available()
    try:
        with _no_bars():
            # An adapter folder loads its base model too: with PEFT, transformers reads adapter_config.json.
            dtype = options.dtype or ("auto" if gpu else "float32")
            model = AutoModelForCausalLM.from_pretrained(
                source, use_safetensors=True, trust_remote_code=False, dtype=dtype
            )
            tokenizer = _tokenizer(source, model)
    except (OSError, ValueError, ImportError) as error:
        missing = "" if folder.is_dir() else "no such folder, and as a name on the Hugging Face hub it "
        raise ConfigError(f"hf:{path}: {missing}cannot be loaded: {_first_line(error)}") from None
    return _weights(path, model.to("cuda" if gpu else "cpu").eval(), tokenizer)


def _tokenizer(source: str, model: Any) -> Any:
    """The model's tokenizer, for an adapter without one its base model's."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError):
        return AutoTokenizer.from_pretrained(model.config.name_or_path, trust_remote_code=False)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the loading bars of transformers off standard error; a run has its own progress."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _weights(path: str, model: Any, tokenizer: Any) -> _Weights:
    from transformers import GenerationConfig

    if tokenizer.chat_template is None:
        raise ConfigError(f"hf:{path} has no chat template, so it cannot chat; use an instruction-tuned model")
    own = model.generation_config
    stops = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    stops = [token for token in dict.fromkeys([*stops, tokenizer.eos_token_id]) if token is not None]
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (stops or [0])[0]
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or tokenizer.model_max_length
    # Sampling settings come from the run alone: those in the folder would change replies without being on record.
    model.generation_config = GenerationConfig(do_sample=False, pad_token_id=padding, eos_token_id=stops or None)
    longest = own.max_new_tokens or _DEFAULT_NEW_TOKENS
    return _Weights(tokenizer, model, int(limit), tuple(stops), longest, _reads_in_parts(model, int(limit)))


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


def _generate(weights: _Weights, prefixes: PrefixStore, jobs: Sequence[_Job]) -> list[list[int]]:
    """The new token ids of each job, `max_new_tokens` long at most, padded after the end of the reply."""
    import torch

    kept = weights.in_parts and prefixes.max_bytes > 0
    with torch.inference_mode():
        ids, mask = _left_padded(weights.model, [job.prompt for job in jobs])
        spans = _read_new(weights.model, prefixes, [job.prompt[:-1] for job in jobs]) if kept else {}
        past = _past([spans[job.prompt[:-1]] for job in jobs]) if kept else _read_once(weights.model, jobs)
        out = weights.model.generate(
            ids,
            attention_mask=mask,
            past_key_values=past,
            max_new_tokens=jobs[0].max_new_tokens,
            logits_processor=[_Sampler(jobs)],
            return_dict_in_generate=True,
        )
        rows: list[list[int]] = out.sequences[:, ids.shape[1] :].tolist()
        if kept:
            replies = [_until_stop(row, weights.stops) for row in rows]
            _keep_replies(prefixes, spans, jobs, replies, out.past_key_values.layers)
    return rows


def _until_stop(row: list[int], stops: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(row) if token in stops), len(row))
    return row[: end + 1]


def _left_padded(model: Any, prompts: Sequence[Tokens]) -> tuple[Any, Any]:
    """Token ids and attention mask, both [prompts, longest]."""
    import torch

    longest = max(map(len, prompts))
    padding = model.generation_config.pad_token_id
    rows = [[padding] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    seen = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(rows, device=model.device), torch.tensor(seen, device=model.device)


def _read(model: Any, prompts: Sequence[Tokens], past: Any = None) -> Any:
    """The key-value cache after these prompts, whose first columns `past` holds."""
    ids, mask = _left_padded(model, prompts)
    return model.generate(
        ids, attention_mask=mask, past_key_values=past, max_new_tokens=1, return_dict_in_generate=True
    ).past_key_values


def _read_once(model: Any, jobs: Sequence[_Job]) -> Any:
    """Key-value cache of all but the last prompt token, if jobs share prompts: each prompt is then read only once.

    It halves the cost of four samples of a turn (measured), for models that keep nothing from call to call.
    """
    import torch

    unique = {prompt: place for place, prompt in enumerate(dict.fromkeys(job.prompt for job in jobs))}
    if len(unique) == len(jobs) or min(map(len, unique)) < 2:
        return None
    cache = _read(model, [prompt[:-1] for prompt in unique])
    cache.reorder_cache(torch.tensor([unique[job.prompt] for job in jobs], device=model.device))
    return cache


def _read_new(model: Any, prefixes: PrefixStore, prompts: Sequence[Tokens]) -> dict[Tokens, list[Span]]:
    """The spans of these prompts: those that are known, and those of the rest, which is read and kept."""
    done: dict[Tokens, list[Span]] = {}
    while waiting := {prompt: prefixes.longest(prompt) for prompt in prompts if prompt not in done}:
        done |= {prompt: spans for prompt, spans in waiting.items() if covered(spans) == len(prompt)}
        unread = [(prompt, covered(spans)) for prompt, spans in waiting.items() if prompt not in done]
        if chosen := next_to_read(unread, _PASS_TOKENS):
            read = _read_pass(model, {prompt: waiting[prompt] for prompt in chosen})
            for prompt, spans in read.items():
                prefixes.add(prompt, spans)
            done |= read
    return done


def _read_pass(model: Any, known: dict[Tokens, list[Span]]) -> dict[Tokens, list[Span]]:
    """The spans of these prompts out of one forward pass, in which every row reads as much as the neediest one."""
    new = max(len(prompt) - covered(spans) for prompt, spans in known.items())
    before = {prompt: list(cut_spans(spans, 0, len(prompt) - new)) for prompt, spans in known.items()}
    layers = _read(model, list(known), _past(list(before.values()), room=new)).layers
    end = max(map(len, known))
    return {
        prompt: [*spans, lift(layers, row, end - len(prompt) + covered(spans), end)]
        for row, (prompt, spans) in enumerate(before.items())
    }


def _past(rows: Sequence[Sequence[Span]], room: int = _ROOM) -> Any:
    """The key-value cache of a batch, padded on the left, `room` tokens to come; None where no row has anything."""
    from transformers import DynamicCache

    if not any(rows):
        return None
    past, used = DynamicCache(), max(map(covered, rows))
    past.layers = [_roomy_layer()(keys, values, used) for keys, values in zip(*lay_out(rows, room), strict=True)]
    return past


@cache
def _roomy_layer() -> Any:
    """The class of a cache layer that grows in place: the plain one copies everything for every new token."""
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):  # type: ignore[misc]
        def __init__(self, keys: Any, values: Any, used: int) -> None:
            super().__init__()
            self.lazy_initialization(keys, values)
            self._show([keys, values], used)

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            used = self.keys.shape[2]
            end = used + key_states.shape[2]
            parts = [with_room(part, used, end, _ROOM) for part in self._parts]
            for part, new in zip(parts, (key_states, value_states), strict=True):
                part[:, :, used:end] = new
            self._show(parts, end)
            return self.keys, self.values

        def _show(self, parts: list[Any], used: int) -> None:
            self._parts = parts
            self.keys, self.values = (part[:, :, :used] for part in parts)

    return RoomyLayer


def _keep_replies(
    prefixes: PrefixStore,
    spans: dict[Tokens, list[Span]],
    jobs: Sequence[_Job],
    replies: Sequence[list[int]],
    layers: Sequence[Any],
) -> None:
    """Keep every reply behind its prompt, for the turn that will follow it."""
    start = max(len(job.prompt) for job in jobs) - 1
    for row, (job, reply) in enumerate(zip(jobs, replies, strict=True)):
        said = (job.prompt[-1], *reply)
        before = job.prompt[:-1]
        # Its last token may have no column yet: the model reads a token only to write the one after it.
        prefixes.add(before + said, [*spans[before], lift(layers, row, start, start + len(said))])


def _reads_in_parts(model: Any, limit: int) -> bool:
    """Whether a prompt read in parts leaves the same keys and values as one read at once.

    Not so with sliding windows, recurrent layers, and positions that depend on the length of the whole; a model of a
    kind unknown here shows it on a few tokens.
    """
    ropes = " ".join(str(getattr(module, "rope_type", "")) for module in model.modules())
    if "position_ids" not in inspect.signature(model.forward).parameters or "dynamic" in ropes or "longrope" in ropes:
        return False
    try:
        return _same_in_parts(model, min(_PROBE_TOKENS, limit - 1, model.config.get_text_config().vocab_size))
    except Exception:  # noqa: BLE001 - whatever it is that it cannot do, it then reads every prompt anew
        return False


def _same_in_parts(model: Any, size: int) -> bool:
    """Read prompts of `size` and fewer tokens at once and in parts, padded as in a batch; compare keys and values."""
    import torch
    from transformers.cache_utils import DynamicLayer

    prompts = [tuple(range(size)), tuple(range(size - 1, size // 6, -1))]
    with torch.inference_mode():
        cache = _read(model, prompts)
        # Exactly this layer: its heirs keep less than everything, or more than keys and values.
        if any(type(layer) is not DynamicLayer for layer in cache.layers):
            return False
        at_once = _read_pass(model, {prompt: [] for prompt in prompts})
        first = {prompt: list(cut_spans(spans, 0, size // 3)) for prompt, spans in at_once.items()}
        in_parts = lay_out(list(_read_pass(model, first).values()))
        # Parts of some models (the gates of experts) work in float32 whatever the rest does.
        tolerance = max(torch.finfo(dtype).eps for dtype in (in_parts[0].dtype, torch.float32)) ** 0.5
        pairs = zip(lay_out(list(at_once.values())), in_parts, strict=True)
        return all(bool((one - other).abs().max() <= tolerance * one.abs().max()) for one, other in pairs)


class _Sampler:
    """A logits processor that leaves one token a row: the one that this row's own random numbers choose.

    Row i draws its k-th number from a generator seeded by its call's seed and finds the token by the inverse of the
    cumulative distribution, so neighbours in the batch, their number and their order change nothing.
    """

    def __init__(self, jobs: Sequence[_Job]) -> None:
        self._numbers = [random.Random(job.seed) for job in jobs]
        asked = [job.parameters for job in jobs]
        self._temperatures = [1.0 if p.temperature is None else p.temperature for p in asked]
        self._top_ps = [1.0 if p.top_p is None else p.top_p for p in asked]

    def __call__(self, _: Any, scores: Any) -> Any:
        """Scores [rows, vocabulary] in, the same shape out: 0 for the chosen token of each row, -inf elsewhere."""
        import torch

        column = {"dtype": torch.float64, "device": scores.device}
        temperatures = torch.tensor(self._temperatures, **column).unsqueeze(1)
        scaled = scores.double() / temperatures.where(temperatures > 0, 1.0)
        weights = _nucleus(scaled.softmax(-1), torch.tensor(self._top_ps, **column).unsqueeze(1))
        total = weights.cumsum(-1)
        drawn = torch.tensor([numbers.random() for numbers in self._numbers], **column).unsqueeze(1)
        sampled = torch.searchsorted(total, drawn * total[:, -1:], right=True).clamp(max=scores.shape[-1] - 1)
        token = torch.where(temperatures > 0, sampled, scores.argmax(-1, keepdim=True))
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


def _nucleus(weights: Any, top_p: Any) -> Any:
    """Probabilities [rows, vocabulary] with everything outside the smallest set of mass `top_p` [rows, 1] set to 0."""
    if bool((top_p >= 1).all()):
        return weights
    ordered, places = weights.sort(dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return weights.masked_fill(outside.scatter(1, places, outside), 0.0)
