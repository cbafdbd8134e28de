"""Sampling (temperature, top-p by inverse transform) with a random generator a row, so that replies ignore batching."""

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
