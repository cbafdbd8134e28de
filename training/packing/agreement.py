"""Whether a packed batch gives the figures of its plain rows: the same tokens read both ways, compared."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from interalign.training.packing.batches import PACKED, as_tensors, lay_out
from interalign.training.packing.trie import NO_LABEL, TrieRow

_ROWS: Final = 16
"""As many rows of a batch are compared: those of its first pairs."""
_STEM, _BRANCH, _BRANCHES = 12, 6, 3


def plain_difference(model: Any, batch: Mapping[str, Any]) -> Any:
    """How far the log-probabilities of a packed batch are from those of its first rows read one by one.

    Root mean square of the difference, relative to that of the plain ones around their mean: a 0-d tensor.
    """
    import torch

    pairs = len(batch["input_ids"]) // 2
    rows = [row for pair in range(min(pairs, _ROWS // 2)) for row in (pair, pairs + pair)]
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, NO_LABEL)
    with _reading(model):
        packed = model(
            input_ids=batch["input_ids"], labels=labels, fused_lm_head=True, use_cache=False, packed=batch[PACKED]
        ).log_probs
        plain = [_plain(model, batch, labels, row) for row in rows]
    asked = [batch["completion_mask"][row, 1:].bool() for row in rows]
    return _apart(
        torch.cat([packed[row][mask] for row, mask in zip(rows, asked, strict=True)]),
        torch.cat([figures[mask[: len(figures)]] for figures, mask in zip(plain, asked, strict=True)]),
    )


def _plain(model: Any, batch: Mapping[str, Any], labels: Any, row: int) -> Any:
    length = int(batch["attention_mask"][row].sum())
    one = slice(row, row + 1), slice(0, length)
    read = model(
        input_ids=batch["input_ids"][one], attention_mask=batch["attention_mask"][one], labels=labels[one],
        fused_lm_head=True, use_cache=False,
    )  # fmt: skip
    return read.log_probs[0]


def _apart(found: Any, known: Any) -> Any:
    found, known = found.double(), known.double()
    return (found - known).norm() / (known - known.mean()).norm()


def difference_on_a_small_tree(model: Any) -> float:
    """The same for a random tree of two levels."""
    batch = {
        key: value.to(model.device) for key, value in _small_tree(model.config.get_text_config().vocab_size).items()
    }
    asked = batch["completion_mask"][:, 1:].bool()
    rows = [TrieRow(ids.numpy(), mask.bool().numpy()) for ids, mask in zip(*_on_cpu(batch), strict=True)]
    layout = _moved(as_tensors(lay_out([range(len(rows))], rows, None)), model.device)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, NO_LABEL)
    with _reading(model):
        plain = model(**{k: v for k, v in batch.items() if k != "completion_mask"}, labels=labels, fused_lm_head=True)
        packed = model(input_ids=batch["input_ids"], labels=labels, fused_lm_head=True, packed=layout)
    return float(_apart(packed.log_probs[asked], plain.log_probs[asked]))


def _small_tree(vocabulary: int) -> dict[str, Any]:
    """Rows that part twice, the branches of the second level long enough to tell siblings apart."""
    import torch

    draw = np.random.default_rng(0)
    stem, branches = draw.integers(vocabulary, size=_STEM), draw.integers(vocabulary, size=(_BRANCHES, _BRANCH))
    leaves = draw.integers(vocabulary, size=(_BRANCHES, _BRANCHES, _BRANCH))
    rows = [[*stem, *branch, *leaf] for branch, below in zip(branches, leaves, strict=True) for leaf in below]
    ids = torch.tensor(np.array(rows))
    learnt = torch.ones_like(ids)
    learnt[:, : _STEM // 2] = 0
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": learnt}


def _on_cpu(batch: Mapping[str, Any]) -> tuple[Any, Any]:
    return batch["input_ids"].cpu(), batch["completion_mask"].cpu()


def _moved(layout: Mapping[str, Any], device: Any) -> dict[str, Any]:
    parts = [{name: tensor.to(device) for name, tensor in part.items()} for part in layout["parts"]]
    return {"parts": parts, "place": layout["place"].to(device)}


@contextmanager
def _reading(model: Any) -> Iterator[None]:
    """Without gradients and dropout; the model's mode is put back."""
    import torch

    training = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(training)
