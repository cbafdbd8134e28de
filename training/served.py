"""Whether a saved model answers as the trained one did: both read rows of the training data, the logits are compared.

Whatever changes between training and serving shows here: merging an adapter, tied weights, a lost or rounded tensor.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from interalign.errors import ConfigError
from interalign.training.rows import TokenRow

_ROWS, _TOKENS, _COMPARED = 4, 256, 32
"""Rows that are read, the tokens of each (its last ones), and the positions whose logits are compared: enough to tell,
and 80 MB of logits for a vocabulary of 150,000."""

Row = Sequence[int]
"""Token ids of prompt and reply."""


class Answers(NamedTuple):
    """What a model answers to some rows."""

    logits: Any
    """[positions of all rows, vocabulary], float32 on the CPU, each position's mean taken off."""
    loss: float
    """Mean over these positions, nats a token."""


def rows_to_compare(tokens: Sequence[TokenRow]) -> list[Row]:
    """The ends of a few rows, evenly apart."""
    apart = max(1, len(tokens) // _ROWS)
    return [[*row.prompt, *row.replies[0]][-_TOKENS:] for row in tokens[::apart][:_ROWS]]


def answers(model: Any, rows: Sequence[Row]) -> Answers:
    """What the model answers without dropout; its mode stays as it was."""
    import torch

    training = model.training
    model.eval()
    with torch.inference_mode():
        parts = [_logits(model, row) for row in rows]
    model.train(training)
    known = torch.cat([torch.tensor(row[1:])[-len(part) :] for row, part in zip(rows, parts, strict=True)])
    logits = torch.cat(parts)
    loss = torch.nn.functional.cross_entropy(logits, known)
    return Answers(logits - logits.mean(-1, keepdim=True), loss.item())


def _logits(model: Any, row: Row) -> Any:
    """Logits of the last tokens, each from the tokens before it."""
    import torch

    ids = torch.tensor([list(row)], device=model.device)
    return model(input_ids=ids, use_cache=False).logits[0, :-1][-_COMPARED:].float().cpu()


def difference(one: Answers, other: Answers) -> float:
    """Root mean square of the difference of the logits, relative to that of `one`."""
    size = one.logits.norm().item()
    return (one.logits - other.logits).norm().item() / size if size else 0.0


def rounding(model: Any) -> float:
    """The largest difference that rounding explains: the square root of the weights' machine epsilon.

    0.0003 in float32, 0.03 in float16, 0.09 in bfloat16; on a GPU float32 counts as TF32 (0.03), as it may be
    multiplied so.
    """
    import torch

    eps = torch.finfo(model.dtype).eps
    return float(max(eps, 2.0**-10 if model.device.type != "cpu" else 0.0) ** 0.5)


def check_same(known: Answers, model: Any, rows: Sequence[Row], what: str) -> None:
    """ConfigError that begins with `what` if the model answers the rows otherwise than `known`."""
    found, most = answers(model, rows), rounding(model)
    apart = difference(known, found)
    if not apart <= most:  # a NaN is no match either
        raise ConfigError(
            f"{what}: on {len(rows)} rows of the training data the logits differ by {apart:.2g} of their size, where "
            f"rounding explains {most:.2g} at most ({model.dtype}), and the loss is {found.loss:.2f} in place of "
            f"{known.loss:.2f}"
        )


def check_served(folder: Path, trained: Answers, rows: Sequence[Row], device: Any) -> None:
    """Load the model in `folder` as it will be served; ConfigError if it answers otherwise than the trained one did."""
    from transformers import AutoModelForCausalLM

    served = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True).to(device)
    check_same(trained, served, rows, "the saved model does not answer as the trained one did")
