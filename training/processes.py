"""Several processes that train one model, each with a share of every batch: which of them this one is.

They are told by the environment, as torchrun and `accelerate launch` do it too. The first one writes and speaks.
"""

import os


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))
