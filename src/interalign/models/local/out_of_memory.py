"""Running out of memory: telling it from other failures, and giving back what can be given back."""

import gc

_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "alloc_failed")
"""What allocators say that raise a plain RuntimeError: those of the CPU, of CUDA's own calls, of its libraries."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the GPU or on the CPU."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def give_back() -> None:
    """Free what nobody refers to any more; on a GPU, PyTorch's pool of free blocks too."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
