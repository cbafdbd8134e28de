"""DPO over conversation trees: TRL's DPOTrainer that reads what the pairs of a tree share once (tree packing).

    from interalign.training.tree_dpo import TreeDPOConfig, TreeDPOTrainer

    TreeDPOTrainer(model, args=TreeDPOConfig("out"), train_dataset=pairs, processing_class=tokenizer).train()

takes the place of `trl.DPOTrainer`: same arguments, same columns and, if the pairs have one, a column `tree`. Pairs are
tokenised by TRL. The rows of a tree are merged into a token trie, read in one forward pass in which a token sees its
ancestors only, and the log-probabilities are handed to TRL's own loss in the layout it expects. So loss, gradients and
metrics are those of TRL on the same pairs; only the time they take is not.

One item of a batch is one tree: `per_device_train_batch_size` counts trees. The loss of an optimisation step is the
mean over all of its pairs, however they are spread over trees, accumulated batches and devices.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from interalign.training.packing.agreement import difference_on_a_small_tree, plain_difference
from interalign.training.packing.attention import refusal
from interalign.training.packing.batches import PACKED, TreeCollator, grouped
from interalign.training.packing.forward import add_packed_forward
from interalign.training.packing.gather import UnevenGather
from interalign.training.served import rounding

if TYPE_CHECKING:
    from trl import DPOTrainer as _Base
else:
    _Base = object  # a mixin: importing TRL takes seconds

__all__ = ["TreeDPOConfig", "TreeDPOTrainer"]  # noqa: F822 (made by __getattr__)

MAX_TREE_TOKENS: Final = 4096
"""Default of `max_tree_tokens`: a mask has 16 MB then, so that memory grows linearly with the tokens of a tree."""

_OTHERWISE: Final = "use trl.DPOTrainer"

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class _TreeConfig:
    """What `TreeDPOConfig` adds to `trl.DPOConfig`."""

    max_tree_tokens: int | None = dataclasses.field(
        default=MAX_TREE_TOKENS,
        metadata={"help": "Larger trees are read in parts, cut between subtrees; the result is the same."},
    )
    check_first_batch: bool = dataclasses.field(
        default=True,
        metadata={"help": "Read the first tree as plain pairs too, and go on with plain pairs if that differs."},
    )


class _TreeTrainer(_Base):  # type: ignore[misc]
    """What `TreeDPOTrainer` does its own way; a mixin over `trl.DPOTrainer`."""

    # The loss is divided by the pairs of the whole optimisation step here.
    loss_is_scaled_for_ga = True

    fell_back: str | None = None
    """Why the trainer went on with plain pairs after its first batch; None while it reads packed trees."""

    def __init__(self, model: Any, ref_model: Any = None, args: Any = None, *more: Any, **kwargs: Any) -> None:
        """Arguments of `trl.DPOTrainer`; ValueError for a model whose attention cannot follow a tree, by its name."""
        if getattr(args, "precompute_ref_log_probs", False):
            raise ValueError("precompute_ref_log_probs is not supported: here the reference is one forward pass a tree")
        super().__init__(model, ref_model, args, *more, **kwargs)
        self._refuse()
        self.data_collator: Any = TreeCollator(
            self.data_collator, getattr(self.args, "max_tree_tokens", MAX_TREE_TOKENS)
        )
        for each in self._models():
            add_packed_forward(each)
        self._probe()
        self._unchecked = getattr(self.args, "check_first_batch", True)
        self._pairs_logged: dict[str, list[int]] = {"train": [], "eval": []}

    def _models(self) -> list[Any]:
        """The policy and, where it is a model of its own, the reference, without what wraps them."""
        policy = self.accelerator.unwrap_model(self.model)
        policy = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
        return [policy] if self.ref_model is None else [policy, self.accelerator.unwrap_model(self.ref_model)]

    def _refuse(self) -> None:
        if self._is_vlm:
            raise ValueError("TreeDPOTrainer trains text only; give the tokenizer as processing_class")
        if self.aux_loss_enabled:
            raise ValueError(
                "the load-balancing loss of a mixture of experts counts every token of every pair, and a packed tree "
                "has each but once; set router_aux_loss_coef to 0, or use trl.DPOTrainer"
            )
        if getattr(getattr(self.model, "active_peft_config", None), "is_prompt_learning", False):
            raise ValueError("adapters that learn a prompt put tokens before each row; use LoRA, or trl.DPOTrainer")
        for each in self._models():
            if reason := refusal(each):
                raise ValueError(f"{reason}; {_OTHERWISE}")

    def _probe(self) -> None:
        """Read a small random tree both ways, so that a model that cannot be packed is refused before it trains."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return  # sharded: the first batch shows it
        policy = self._models()[0]
        name = f"{type(policy).__name__} ({policy.config.model_type})"
        try:
            with self.accelerator.autocast():
                apart = difference_on_a_small_tree(policy)
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(
                f"{name} cannot be packed: it does not read a small tree ({words}); {_OTHERWISE}"
            ) from error
        if not apart <= rounding(policy):
            raise ValueError(
                f"{name} cannot be packed: on a small tree its log-probabilities differ by {apart:.2g} of their spread "
                f"from those of plain rows; {_OTHERWISE}"
            )

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """TRL's token ids (as they are, if the rows hold them already), one item a tree."""
        from datasets import Dataset

        if not isinstance(dataset, Dataset):
            raise TypeError(f"the {dataset_name} data is a stream, and trees are found among all rows; give a Dataset")
        if "pairs" in dataset.column_names and "length" in dataset.column_names:
            return dataset
        rows = len(dataset)
        if "prompt_ids" not in dataset.column_names:
            dataset = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if len(dataset) < rows:
            _log.warning("TRL left %d of %d %s rows out (max_length)", rows - len(dataset), rows, dataset_name)
        wanted = {"prompt_ids", "chosen_ids", "rejected_ids", "tree"} & set(dataset.column_names)
        return Dataset.from_list(grouped(dataset.select_columns(sorted(wanted))))

    def _get_num_items_in_batch(self, batch_samples: Sequence[Mapping[str, Any]], device: Any) -> Any:
        """Pairs of one optimisation step, over its accumulated batches and all devices."""
        import torch

        pairs = torch.tensor(sum(_pairs(batch) for batch in batch_samples), device=device)
        return self.accelerator.gather(pairs).sum()

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss of this batch as its share in the mean over all `num_items_in_batch` pairs of the step."""
        training = self.model.training
        if training and self._unchecked:
            self._check_first_batch(inputs)
        read = dict(inputs)
        tokens = _packed_tokens(read)
        if self.fell_back is not None:
            del read[PACKED]
        with UnevenGather.within(self):
            found = super().compute_loss(model, read, return_outputs)
            self._note(inputs, tokens, "train" if training else "eval")
        if num_items_in_batch is None:
            return found
        share = _pairs(inputs) * self.accelerator.num_processes / num_items_in_batch  # devices are averaged
        return (found[0] * share, found[1]) if return_outputs else found * share

    def _check_first_batch(self, inputs: Mapping[str, Any]) -> None:
        self._unchecked = False
        with self.accelerator.autocast():
            apart = plain_difference(self.model, inputs)
        apart = self.accelerator.gather(apart.to(self.accelerator.device)).max().item()
        if not apart <= rounding(self.model):
            self.fell_back = (
                f"the first tree read whole differs from its plain pairs by {apart:.2g} of the log-probabilities' "
                "spread, so training goes on with plain pairs"
            )
            _log.warning(self.fell_back)

    def _note(self, inputs: Mapping[str, Any], tokens: int, mode: str) -> None:
        """What the trees saved: `tree/packed_tokens` a batch, and `tree/sharing`, tokens of all rows by those read."""
        import torch

        counts = torch.stack([inputs["attention_mask"].sum(), torch.tensor(tokens).to(inputs["attention_mask"])])
        rows, packed = self.accelerator.gather(counts[None]).sum(0).tolist()
        if self.fell_back is None:
            self._metrics[mode]["tree/packed_tokens"].append(packed)
            self._metrics[mode]["tree/sharing"].append(rows / packed)
        pairs = torch.tensor(_pairs(inputs), device=self.accelerator.device)
        self._pairs_logged[mode].append(int(self.accelerator.gather(pairs).sum()))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's metrics, each the mean over the pairs since the last line; of `tree/`, the mean over batches."""
        mode = "train" if self.model.training else "eval"
        pairs, self._pairs_logged[mode] = self._pairs_logged[mode], []
        for name, values in self._metrics[mode].items():
            if len(values) == len(pairs) and not name.startswith("tree/"):
                total = sum(value * count for value, count in zip(values, pairs, strict=True))
                self._metrics[mode][name] = [total / sum(pairs)]
        super().log(logs, start_time)


def _pairs(batch: Mapping[str, Any]) -> int:
    return len(batch["input_ids"]) // 2


def _packed_tokens(batch: Mapping[str, Any]) -> int:
    return sum(part["tokens"].numel() for part in batch[PACKED]["parts"])


@cache
def _public(name: str) -> Any:
    """`TreeDPOTrainer` or `TreeDPOConfig`, made when first asked for: TRL takes seconds to import."""
    import trl

    if name == "TreeDPOTrainer":
        made = type(name, (_TreeTrainer, trl.DPOTrainer), {"__doc__": __doc__})
    else:
        fields = [(each.name, each.type, each) for each in dataclasses.fields(_TreeConfig)]
        made = dataclasses.make_dataclass(name, fields, bases=(trl.DPOConfig,))
        made.__doc__ = "`trl.DPOConfig` with `max_tree_tokens` and `check_first_batch`."
    made.__module__ = __name__  # so that checkpoints can hold it: it is found here by its name
    return made


def __getattr__(name: str) -> Any:
    if name in __all__:
        return _public(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
