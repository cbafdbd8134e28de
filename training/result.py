"""What a training run came to."""

import operator
from pathlib import Path
from typing import Literal

from pydantic import Field

from interalign.tree import Frozen


class TrainResult(Frozen):
    """What a training run came to; as text, one line for the reader."""

    out: Path
    """Folder of the trained model; `hf:` before it makes it a model name."""
    method: str
    status: Literal["trained", "resumed", "finished before"]
    rows: int
    """Rows of the data file that were trained on: all but those left out."""
    left_out: int = Field(default=0, exclude_if=operator.not_)
    """Rows of the data file left out because they are longer than `max_length` (`drop_too_long`)."""
    over_limit: int = Field(default=0, exclude_if=operator.not_)
    """Rows of the data file left out because there are enough of their persona (`max_per_persona`)."""
    steps: int
    """Optimisation steps, over all calls."""
    first_loss: float | None
    """First logged loss, a mean over some steps; None if nothing was logged."""
    last_loss: float | None
    first_reward: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """First logged mean reward, where replies were sampled and scored."""
    last_reward: float | None = Field(default=None, exclude_if=lambda value: value is None)
    seconds: float
    """Wall time of this call."""

    def __str__(self) -> str:
        done = f"{self.method} on {self.rows} rows{self._left_out()}, {self.steps} steps{self._losses()}: {self.out}"
        if self.status == "finished before":
            return f"{done} was finished before; nothing to do"
        return f"{done} ({self.status} in {self.seconds:.0f} s)"

    def _left_out(self) -> str:
        reasons = {"longer than max_length": self.left_out, "beyond max_per_persona": self.over_limit}
        told = [f"{count} {reason}" for reason, count in reasons.items() if count]
        return f" ({' and '.join(told)} left out)" if told else ""

    def _losses(self) -> str:
        if self.first_reward is not None and self.last_reward is not None:
            return f", mean reward {self.first_reward:.2f} to {self.last_reward:.2f}"
        if self.first_loss is None or self.last_loss is None:
            return ""
        return f", loss {self.first_loss:.3f} to {self.last_loss:.3f}"
