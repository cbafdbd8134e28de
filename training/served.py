"""Whether a saved model answers as the trained one did: both read rows of the training data, the answers are compared.

A language model answers with logits, a reward model with scores.
Whatever changes between training and serving shows here: merging an adapter, tied weights, a lost or rounded tensor.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from interalign.errors import ConfigError
from interalign.training.rows import TokenRow

_ROWS, _TOKENS, _COMPARED = 4, 256, 32
"""Rows that are read, the tokens of each (its last ones), and the positions whose logits are compared: enough to tell,
and 80 MB of logits for a vocabulary of 150,000."""

Row = Sequence[int]
"""Token ids of prompt and reply."""


Rows = Sequence[Row]


class Answers(NamedTuple):
    """What a model answers to some rows."""

    what: str
    """What the values are: `logits` or `scores`."""
    values: Any
    """float32 on the CPU: [positions of all rows, vocabulary], each position's mean taken off; of scores [rows, 1]."""
    in_short: str
    """One figure in words: the loss over these positions, nats a token, or the mean score."""


Answering = Callable[[Any, Rows], Answers]
"""What a model answers to rows of token ids."""


def rows_to_compare(tokens: Sequence[TokenRow]) -> list[Row]:
    """The ends of a few rows, evenly apart."""
    apart = max(1, len(tokens) // _ROWS)
    return [[*row.prompt, *(row.replies[0] if row.replies else ())][-_TOKENS:] for row in tokens[::apart][:_ROWS]]


def logits_of(model: Any, rows: Rows) -> Answers:
    """What a language model answers without dropout; its mode stays as it was."""
    import torch

    parts = [logits[0, :-1][-_COMPARED:].float().cpu() for logits in _read(model, rows)]
    known = torch.cat([torch.tensor(row[1:])[-len(part) :] for row, part in zip(rows, parts, strict=True)])
    logits = torch.cat(parts)
    loss = torch.nn.functional.cross_entropy(logits, known)
    return Answers("logits", logits - logits.mean(-1, keepdim=True), f"loss is {loss.item():.2f}")


def scores_of(model: Any, rows: Rows) -> Answers:
    """What a reward model answers without dropout; its mode stays as it was."""
    import torch

    scores = torch.cat([logits.float().cpu() for logits in _read(model, rows)])
    return Answers("scores", scores, f"mean score is {scores.mean().item():.2f}")


def _read(model: Any, rows: Rows) -> list[Any]:
    """The model's output for each row by itself."""
    import torch

    training = model.training
    model.eval()
    with torch.inference_mode():
        ids = [torch.tensor([list(row)], device=model.device) for row in rows]
        found = [model(input_ids=each, use_cache=False).logits for each in ids]
    model.train(training)
    return found


def difference(one: Answers, other: Answers) -> float:
    """Root mean square of the difference of the values, relative to that of `one`."""
    size = one.values.norm().item()
    return (one.values - other.values).norm().item() / size if size else 0.0


def rounding(model: Any) -> float:
    """The largest difference that rounding explains: the square root of the weights' machine epsilon.

    0.0003 in float32, 0.03 in float16, 0.09 in bfloat16; on a GPU float32 counts as TF32 (0.03), as it may be
    multiplied so.
    """
    import torch

    eps = torch.finfo(model.dtype).eps
    return float(max(eps, 2.0**-10 if model.device.type != "cpu" else 0.0) ** 0.5)


def check_same(known: Answers, model: Any, rows: Rows, what: str, answering: Answering, rounded: float = 0.0) -> None:
    """ConfigError that begins with `what` if the model answers the rows otherwise than `known`.

    `rounded`: a difference that rounding explains, if it is more than that of the model's own type.
    """
    found, most = answering(model, rows), max(rounding(model), rounded)
    apart = difference(known, found)
    if not apart <= most:  # a NaN is no match either
        raise ConfigError(
            f"{what}: on {len(rows)} rows of the training data the {known.what} differ by {apart:.2g} of their size, "
            f"where rounding explains {most:.2g} at most ({model.dtype}), and the {found.in_short} in place of "
            f"{known.in_short.rpartition(' ')[2]}"
        )
