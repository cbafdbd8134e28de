"""Writing the replies of a batch, token by token, and keeping them for the turn that will follow."""

from collections.abc import Callable, Sequence
from typing import Any

from interalign.models.local.kv_cache import batch_cache, generate_from
from interalign.models.local.prefill import left_padded, read_new, read_once
from interalign.models.local.prefix_cache import PrefixStore, Span, Tokens, lift
from interalign.models.local.request import Job
from interalign.models.local.sampler import Sampler, Watch
from interalign.models.local.weights import Weights


def generate(
    weights: Weights, prefixes: PrefixStore, jobs: Sequence[Job], closed: Callable[[], bool] = lambda: False
) -> list[list[int]]:
    """The new token ids of each job, `max_new_tokens` long at most, padded after the end of the reply.

    Raises ClosedError between two tokens once `closed` says that nobody waits for them.
    """
    import torch

    kept = weights.in_parts and prefixes.max_bytes > 0
    with torch.inference_mode():
        ids, mask = left_padded(weights.model, [job.prompt for job in jobs])
        spans = read_new(weights.model, prefixes, [job.prompt[:-1] for job in jobs]) if kept else {}
        past = batch_cache([spans[job.prompt[:-1]] for job in jobs]) if kept else read_once(weights.model, jobs)
        processors = [Watch(closed), Sampler(jobs)]
        out = generate_from(
            weights.model, ids, mask, past, max_new_tokens=jobs[0].max_new_tokens, logits_processor=processors
        )
        rows: list[list[int]] = out.sequences[:, ids.shape[1] :].tolist()
        if kept:
            replies = [until_stop(row, weights.stops) for row in rows]
            _keep_replies(prefixes, spans, jobs, replies, out.cache.layers)
    return rows


def until_stop(row: list[int], stops: Sequence[int]) -> list[int]:
    """Token ids up to the first stop token, that one included."""
    end = next((place for place, token in enumerate(row) if token in stops), len(row))
    return row[: end + 1]


def _keep_replies(
    prefixes: PrefixStore,
    spans: dict[Tokens, list[Span]],
    jobs: Sequence[Job],
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
