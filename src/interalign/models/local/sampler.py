"""Sampling by inverse transform with a random generator a row, so that replies ignore batching."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from interalign.models.local.request import GenerationJob


class ClosedError(Exception):
    """Nobody waits for these replies any more."""


class Watch:
    """A logits processor that changes nothing, and ends the writing of a batch between two tokens."""

    def __init__(self, closed: Callable[[], bool]) -> None:
        """`closed`: whether the replies are of no use any more."""
        self._closed = closed

    def __call__(self, _: Any, scores: Any) -> Any:
        """The scores as they are; ClosedError if there is no need to go on."""
        if self._closed():
            raise ClosedError
        return scores


class Sampler:
    """A logits processor that leaves one token a row: the one that this row's own random numbers choose.

    Row i draws its k-th number from a generator seeded by its call's seed and finds the token by the inverse of the
    cumulative distribution, so neighbours in the batch, their number and their order change nothing.
    """

    def __init__(self, jobs: Sequence[GenerationJob]) -> None:
        self._numbers = [random.Random(job.seed) for job in jobs]
        asked = [job.parameters for job in jobs]
        self._temperatures = [1.0 if p.temperature is None else p.temperature for p in asked]
        self._top_ps = [1.0 if p.top_p is None else p.top_p for p in asked]
        self._top_ks = [p.top_k for p in asked]
        self._min_ps = [p.min_p or 0.0 for p in asked]
        self._penalties = [p.repetition_penalty or 1.0 for p in asked]
        width = max((len(job.prompt) for job in jobs), default=0)
        self._starts = [width - len(job.prompt) for job in jobs]
        """Where each row's own tokens begin: those before are padding."""

    def __call__(self, ids: Any, scores: Any) -> Any:
        """Scores [rows, vocabulary] in, the same shape out: 0 for the chosen token of each row, -inf elsewhere.

        In the order of transformers' generation: repetition penalty (on what is in `ids` [rows, columns], padding
        aside), temperature, top-k, top-p, min-p.
        """
        import torch

        scores = self._penalised(ids, scores)
        column = {"dtype": torch.float64, "device": scores.device}

        def column_of(values: Sequence[float]) -> Any:
            return torch.tensor(values, **column).unsqueeze(1)

        temperatures = column_of(self._temperatures)
        scaled = scores.double() / temperatures.where(temperatures > 0, 1.0)
        weights = _likeliest(scaled.softmax(-1), self._top_ks)
        weights = _nucleus(weights, column_of(self._top_ps))
        weights = weights.where(weights >= weights.amax(-1, keepdim=True) * column_of(self._min_ps), 0.0)
        total = weights.cumsum(-1)
        drawn = column_of([numbers.random() for numbers in self._numbers])
        sampled = torch.searchsorted(total, drawn * total[:, -1:], right=True).clamp(max=scores.shape[-1] - 1)
        token = torch.where(temperatures > 0, sampled, scores.argmax(-1, keepdim=True))
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)

    def _penalised(self, ids: Any, scores: Any) -> Any:
        """The scores with those of tokens that a row has already divided by its penalty, or multiplied below 0."""
        if all(penalty == 1 for penalty in self._penalties):
            return scores
        scores = scores.clone()
        for row, (penalty, start) in enumerate(zip(self._penalties, self._starts, strict=True)):
            seen = ids[row, start:].unique()
            there = scores[row, seen]
            scores[row, seen] = there.where(there < 0, there / penalty).where(there >= 0, there * penalty)
        return scores


def _likeliest(weights: Any, top_ks: Sequence[int | None]) -> Any:
    """Probabilities [rows, vocabulary], all but the `top_k` largest of each row 0 (equal ones stay), summing to 1."""
    if not any(top_ks):
        return weights
    kept = weights.clone()
    for row, top_k in enumerate(top_ks):
        if top_k is not None and top_k < weights.shape[-1]:
            kept[row] = weights[row].where(weights[row] >= weights[row].topk(top_k).values[-1], 0.0)
    return kept / kept.sum(-1, keepdim=True)


def _nucleus(weights: Any, top_p: Any) -> Any:
    """Probabilities [rows, vocabulary] with everything outside the smallest set of mass `top_p` [rows, 1] set to 0."""
    if bool((top_p >= 1).all()):
        return weights
    ordered, places = weights.sort(dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return weights.masked_fill(outside.scatter(1, places, outside), 0.0)
