"""The configurations that ship: accelerate and TRL read them, and the memory they are for is enough."""

from pathlib import Path

import pytest
from training_runs import write

from interalign.errors import ConfigError
from interalign.training.library_output import quiet_libraries
from interalign.training.memory import counts, memory
from interalign.training.model_kinds import LANGUAGE_MODEL
from interalign.training.settings_file import read_settings
from interalign.training.train import train

pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "training" / "configs"
LAUNCHED = {
    "single-gpu.yaml": ("NO", 1, None),
    "multi-gpu.yaml": ("MULTI_GPU", 2, None),
    "fsdp2.yaml": ("FSDP", 2, ("fsdp_version", 2)),
    "zero2.yaml": ("DEEPSPEED", 2, ("zero_stage", 2)),
    "zero3.yaml": ("DEEPSPEED", 2, ("zero_stage", 3)),
}
"""Of accelerate: how the work is divided, the number of processes, and what tells the stage."""
RECIPES = {"lora-24gb.yaml": ((3584, 18944, 28, 28, 4), 24), "full.yaml": ((2048, 11008, 36, 16, 2), 80)}
"""Of `train --config`: the largest model (width, feed-forward, layers, heads, key heads), and the GB of its GPU."""


@pytest.mark.parametrize("name", LAUNCHED)
def test_accelerate_reads_its_configurations(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    kind, processes, stage = LAUNCHED[name]
    found = load_config_from_file(str(CONFIGS / name))
    assert (found.distributed_type.value, found.num_processes, found.mixed_precision) == (kind, processes, "bf16")
    parts = {**(found.fsdp_config or {}), **(found.deepspeed_config or {})}
    assert stage is None or stage in parts.items()


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_the_largest_model_of_a_recipe_fits(name: str, method: str) -> None:
    from peft import LoraConfig
    from transformers import Qwen2Config

    (width, forward, layers, heads, keys), gigabytes = RECIPES[name]
    shape = Qwen2Config(
        vocab_size=152_064, hidden_size=width, intermediate_size=forward, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=keys, tie_word_embeddings=width < 3000,
    )  # fmt: skip
    settings = read_settings(method, CONFIGS / name, packing="tree" if method == "dpo" else "pairs")
    lora = settings.lora and LoraConfig(r=settings.lora.r, target_modules="all-linear", task_type="CAUSAL_LM")
    tokens = settings.trl.get("max_tree_tokens", 4096) if method == "dpo" else settings.trl["max_length"]
    with quiet_libraries():
        found = counts(shape, LANGUAGE_MODEL, lora)
    needed = memory(found, settings, tokens, reference=method == "dpo", checkpointing=True)
    assert 0.5 * gigabytes < needed.total / 1e9 < 0.95 * gigabytes


def test_the_documentation_names_every_configuration() -> None:
    shipped = {file.name for file in CONFIGS.iterdir()}
    assert shipped == LAUNCHED.keys() | RECIPES.keys()
    said = (ROOT / "docs" / "data-format.md").read_text()
    assert [name for name in sorted(shipped) if f"`{name}`" not in said] == []


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "2", "RANK": "0"}, {"WORLD_SIZE": "2", "RANK": "1"}])
def test_grpo_in_several_processes_is_refused_before_anything_is_read(environment, monkeypatch, tmp_path: Path) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    data = write(tmp_path / "rows.jsonl", {"prompt": [{"role": "user", "content": "Hi."}], "persona": "p"})

    class Judge:
        identity, judges = {}, ("judge",)

        def opened(self, rows):
            raise AssertionError("no judge is opened")

    with pytest.raises(ConfigError, match=r"train grpo runs in one process.*one writer.*leave --nproc out"):
        train("grpo", str(tmp_path / "no-model"), data, tmp_path / "out", reward=Judge())
    assert not (tmp_path / "out").exists()
