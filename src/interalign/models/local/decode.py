"""Decoding the replies of a batch together (static batching), and caching them as prefixes of the next turn."""

from collections.abc import Callable, Sequence
from typing import Any

from interalign.models.local.kv_cache import batch_cache, generate_from
from interalign.models.local.prefill import left_padded, prefill_missing, prefill_unique
from interalign.models.local.prefix_cache import PrefixCache, Span, Tokens, extract_row
from interalign.models.local.request import GenerationJob
from interalign.models.local.sampler import Sampler, Watch
from interalign.models.local.weights import Weights


def generate(
    weights: Weights, prefixes: PrefixCache, jobs: Sequence[GenerationJob], closed: Callable[[], bool] = lambda: False
) -> list[list[int]]:
    """The new token ids of each job, its own `max_new_tokens` long at most, padded after the end of the reply.

    Raises ClosedError between two tokens once `closed` is true: the caller does not wait for them any more.
    """
    import torch

    kept = weights.chunked and prefixes.max_bytes > 0
    with torch.inference_mode():
        ids, mask = left_padded(weights.model, [job.prompt for job in jobs])
        spans = prefill_missing(weights.model, prefixes, [job.prompt[:-1] for job in jobs]) if kept else {}
        past = batch_cache([spans[job.prompt[:-1]] for job in jobs]) if kept else prefill_unique(weights.model, jobs)
        limits = [job.max_new_tokens for job in jobs]
        out = generate_from(
            weights.model, ids, mask, past, max_new_tokens=max(limits),
            logits_processor=[Watch(closed), Sampler(jobs)], stopping_criteria=[_RowLimits(limits, ids.shape[1])],
        )  # fmt: skip
        written: list[list[int]] = out.sequences[:, ids.shape[1] :].tolist()
        rows = [row[:limit] for row, limit in zip(written, limits, strict=True)]
        if kept:
            replies = [until_stop(row, weights.stops) for row in rows]
            _keep_replies(prefixes, spans, jobs, replies, out.cache.layers)
    return rows


class _RowLimits:
    """A stopping criterion that ends each row at its own number of new tokens."""

    def __init__(self, limits: Sequence[int], prompt: int) -> None:
        self._ends = [prompt + limit for limit in limits]

    def __call__(self, ids: Any, _: Any, **__: Any) -> Any:
        """Token ids [rows, columns] in; whether each row has ended [rows] out."""
        import torch

        return torch.tensor([ids.shape[1] >= end for end in self._ends], device=ids.device)


def until_stop(row: list[int], stops: Sequence[int]) -> list[int]:
    """Token ids up to the first stop token, that one included."""
    end = next((place for place, token in enumerate(row) if token in stops), len(row))
    return row[: end + 1]


def _keep_replies(
    prefixes: PrefixCache,
    spans: dict[Tokens, list[Span]],
    jobs: Sequence[GenerationJob],
    replies: Sequence[list[int]],
    layers: Sequence[Any],
) -> None:
    """Add every reply, after its prompt, to the prefix cache: the next turn's prompt begins with both."""
    start = max(len(job.prompt) for job in jobs) - 1
    for row, (job, reply) in enumerate(zip(jobs, replies, strict=True)):
        decoded = (job.prompt[-1], *reply)
        before = job.prompt[:-1]
        # The last token may have no column yet: its keys are computed only when the token after it is decoded.
        prefixes.add(before + decoded, [*spans[before], extract_row(layers, row, start, start + len(decoded))])
