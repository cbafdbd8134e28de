"""Gathering over devices of which each has another number of pairs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class UnevenGather:
    """Stands for an `accelerate.Accelerator` and gathers tensors whose first dimension differs between devices.

    Accelerate's own `gather` wants equal shapes, which batches of trees with different numbers of pairs do not have.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)

    def gather(self, tensor: Any) -> Any:
        """The tensors of all devices, one after the other."""
        import torch

        if tensor.ndim == 0 or self._accelerator.num_processes == 1:
            return self._accelerator.gather(tensor)
        sizes = self._accelerator.gather(torch.tensor([len(tensor)], device=tensor.device)).tolist()
        padded = self._accelerator.gather(self._accelerator.pad_across_processes(tensor, dim=0))
        each = padded.split(max(sizes))
        return torch.cat([part[:size] for part, size in zip(each, sizes, strict=True)])

    @classmethod
    @contextmanager
    def within(cls, trainer: Any) -> Iterator[None]:
        """Inside, `trainer.accelerator` gathers so."""
        whole = trainer.accelerator
        trainer.accelerator = cls(whole)
        try:
            yield
        finally:
            trainer.accelerator = whole
