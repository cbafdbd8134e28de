"""Reading prompts: those of a batch in few forward passes, and of each only what is not known yet."""

from collections.abc import Sequence
from typing import Any

from interalign.models.local.kv_cache import batch_cache, generate_from
from interalign.models.local.prefix_cache import PrefixStore, Span, Tokens, covered, cut_spans, lift, next_to_read
from interalign.models.local.request import Job

_PASS_TOKENS = 64
"""What a forward pass costs beside its tokens, in tokens: a pass is saved or spent where that many are at stake."""


def left_padded(model: Any, prompts: Sequence[Tokens]) -> tuple[Any, Any]:
    """Token ids and attention mask, both [prompts, longest]."""
    import torch

    longest = max(map(len, prompts))
    padding = model.generation_config.pad_token_id
    rows = [[padding] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    seen = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(rows, device=model.device), torch.tensor(seen, device=model.device)


def read_prompts(model: Any, prompts: Sequence[Tokens], past: Any = None) -> Any:
    """The key-value cache after these prompts, whose first columns `past` holds."""
    ids, mask = left_padded(model, prompts)
    return generate_from(model, ids, mask, past, max_new_tokens=1).cache


def read_once(model: Any, jobs: Sequence[Job]) -> Any:
    """Key-value cache of all but the last prompt token, if jobs share prompts: each prompt is then read only once.

    It halves the cost of four samples of a turn (measured), for models that keep nothing from call to call.
    """
    import torch

    unique = {prompt: place for place, prompt in enumerate(dict.fromkeys(job.prompt for job in jobs))}
    if len(unique) == len(jobs) or min(map(len, unique)) < 2:
        return None
    cache = read_prompts(model, [prompt[:-1] for prompt in unique])
    cache.reorder_cache(torch.tensor([unique[job.prompt] for job in jobs], device=model.device))
    return cache


def read_new(model: Any, prefixes: PrefixStore, prompts: Sequence[Tokens]) -> dict[Tokens, list[Span]]:
    """The spans of these prompts: those that are known, and those of the rest, which is read and kept."""
    done: dict[Tokens, list[Span]] = {}
    while waiting := {prompt: prefixes.longest(prompt) for prompt in prompts if prompt not in done}:
        done |= {prompt: spans for prompt, spans in waiting.items() if covered(spans) == len(prompt)}
        unread = [(prompt, covered(spans)) for prompt, spans in waiting.items() if prompt not in done]
        if chosen := next_to_read(unread, _PASS_TOKENS):
            read = read_pass(model, {prompt: waiting[prompt] for prompt in chosen})
            for prompt, spans in read.items():
                prefixes.add(prompt, spans)
            done |= read
    return done


def read_pass(model: Any, known: dict[Tokens, list[Span]]) -> dict[Tokens, list[Span]]:
    """The spans of these prompts out of one forward pass, in which every row reads as much as the neediest one."""
    new = max(len(prompt) - covered(spans) for prompt, spans in known.items())
    before = {prompt: list(cut_spans(spans, 0, len(prompt) - new)) for prompt, spans in known.items()}
    layers = read_prompts(model, list(known), batch_cache(list(before.values()), room=new)).layers
    end = max(map(len, known))
    return {
        prompt: [*spans, lift(layers, row, end - len(prompt) + covered(spans), end)]
        for row, (prompt, spans) in enumerate(before.items())
    }
