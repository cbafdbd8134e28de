"""The memory estimate: exact where it follows from counts, near for activations, and told before a model is loaded."""

import re

import pytest
from training_runs import dpo_rows, sft_rows, trainer_for, write

from interalign.errors import ConfigError
from interalign.training.dpo import DPO
from interalign.training.library_output import quiet_libraries
from interalign.training.memory import Memory, counts, longest_batch, memory, memory_line
from interalign.training.model_kinds import LANGUAGE_MODEL, REWARD_MODEL
from interalign.training.rows import TokenRow, TrainingRow
from interalign.training.settings import TrainSettings
from interalign.training.settings_file import read_settings
from interalign.training.sft import SFT
from interalign.training.train import train

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def config(base):
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(base)


def lora_config(kind):
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type=kind.task_type)


def nbytes(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize(
    ("method", "recipe", "rows"), [("sft", SFT, sft_rows), ("dpo", DPO, dpo_rows)], ids=["sft", "dpo"]
)
@pytest.mark.parametrize("lora", [None, {}], ids=["all weights", "LoRA"])
def test_weights_gradients_optimiser_and_reference_are_those_of_the_real_training(
    base, config, method, recipe, rows, lora, tmp_path
):
    data = write(tmp_path / "rows.jsonl", *rows(4))
    given = {"max_steps": 1, "max_grad_norm": 0.0, **({} if lora is None else {"lora": lora})}
    trainer = trainer_for(recipe, method, base, data, tmp_path / "out", **given)
    gradients = {}
    for name, weight in trainer.model.named_parameters():
        if weight.requires_grad:
            weight.register_post_accumulate_grad_hook(lambda w, name=name: gradients.__setitem__(name, w.grad))
    with quiet_libraries():
        trainer.train()
    states = [each for state in trainer.optimizer.state.values() for each in state.values() if each.ndim]
    reference = trainer.ref_model.parameters() if getattr(trainer, "ref_model", None) is not None else ()

    settings = read_settings(method, given)
    with quiet_libraries():
        found = counts(config, LANGUAGE_MODEL, None if lora is None else lora_config(LANGUAGE_MODEL))
    told = memory(found, settings, 0, reference=method == "dpo", checkpointing=False)
    assert told == Memory(
        nbytes(trainer.model.parameters()), nbytes(gradients.values()), nbytes(states), nbytes(reference), 0
    )


def test_activations_are_about_those_that_a_forward_pass_keeps(base, config, tmp_path):
    data = write(tmp_path / "rows.jsonl", *sft_rows(8))
    trainer = trainer_for(SFT, "sft", base, data, tmp_path / "out", per_device_train_batch_size=8)
    batch, kept = next(iter(trainer.get_train_dataloader())), {}

    def keep(tensor):
        if tensor.is_floating_point() and not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = trainer.compute_loss(trainer.model, batch)
    tokens = batch["input_ids"].numel()
    found = counts(config, LANGUAGE_MODEL, None)
    told = memory(found, read_settings("sft"), tokens, reference=False, checkpointing=False).activations
    assert loss.item() > 0
    assert 0.5 < told / sum(kept.values()) < 2


@pytest.mark.parametrize(
    ("trl", "weight", "state"),
    [
        ({"optim": "adamw_torch"}, 4, 8),
        ({"model_init_kwargs": {"dtype": "bfloat16"}}, 2, 4),
        ({"optim": "adamw_8bit"}, 4, 2),
        ({"optim": "adafactor"}, 4, 0),
        ({"optim": "sgd"}, 4, 0),
    ],
)
def test_types_and_optimisers_count_by_what_they_keep(config, trl, weight, state):
    found = counts(config, REWARD_MODEL, None)
    told = memory(found, TrainSettings(method="rm", trl=trl), 0, reference=False, checkpointing=False)
    assert (told.weights, told.optimiser) == (found.weights * weight, found.weights * state)


def test_checkpointing_keeps_less(config):
    found, settings = counts(config, LANGUAGE_MODEL, None), TrainSettings(method="sft", trl={})
    less, more = (
        memory(found, settings, 100, reference=False, checkpointing=each).activations for each in (True, False)
    )
    assert 0 < less < more


def row(tree: str, prompt: int, *replies: int) -> tuple[TrainingRow, TokenRow]:
    return TrainingRow(1, (), (), tree), TokenRow([0] * prompt, tuple([0] * reply for reply in replies))


@pytest.mark.parametrize(
    ("packing", "trl", "sampled", "tokens"),
    [
        ("pairs", {"per_device_train_batch_size": 2}, 0, 2 * (2 * 10 + 7)),
        ("pairs", {}, 0, 8 * (2 * 10 + 7)),
        ("tree", {"per_device_train_batch_size": 1}, 0, 7 + 5),
        ("tree", {"per_device_train_batch_size": 2, "max_tree_tokens": 9}, 0, 2 * 9),
        ("pairs", {"per_device_train_batch_size": 1}, 6, 2 * 16 + 7),
    ],
)
def test_the_longest_batch_is_counted_in_pairs_or_in_trees(packing, trl, sampled, tokens):
    rows, tokenized = zip(row("a", 10, 3, 4), row("a", 4, 2, 3), row("b", 2, 1, 1), strict=True)
    assert longest_batch(rows, tokenized, TrainSettings(method="dpo", packing=packing, trl=trl), sampled) == tokens


def test_states_of_grpo_count_with_the_reply_that_is_sampled():
    rows, tokenized = zip(row("a", 10), row("b", 4), strict=True)
    settings = TrainSettings(method="grpo", trl={"per_device_train_batch_size": 4})
    assert longest_batch(rows, tokenized, settings, 6) == 4 * 16


def test_where_it_may_not_fit_the_line_says_what_takes_less():
    needed, less = Memory(4 * 10**9, 4 * 10**9, 8 * 10**9, 0, 10**8), Memory(10**9, 10**6, 10**6, 0, 10**8)
    assert memory_line(needed, less, 80 * 10**9) == (
        "memory: about 16.1 GB (weights 4.0 GB, gradients 4.0 GB, optimiser 8.0 GB, activations of the longest batch "
        "about 100 MB); free 80.0 GB"
    )
    assert memory_line(needed, less, 10 * 10**9).endswith(
        "free 10.0 GB: it may not fit; --lora would take about 1.1 GB, and a smaller per_device_train_batch_size takes "
        "fewer activations"
    )
    assert "--lora" not in memory_line(needed, None, 10**9)


def test_the_line_is_told_before_the_model_is_loaded(base, tmp_path):
    data, told = write(tmp_path / "rows.jsonl", *sft_rows(4)), []
    (tmp_path / "broken").mkdir()
    for file in base.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "broken" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match="cannot load the model"):
        train("sft", str(tmp_path / "broken"), data, tmp_path / "out", config={"use_cpu": True}, tell=told.append)
    (line,) = told
    assert re.fullmatch(
        r"memory: about \d MB \(weights 1 MB, .*, activations of the longest batch about \d MB\); free \S+ GB", line
    )
