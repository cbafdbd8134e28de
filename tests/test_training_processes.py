"""`train --nproc`: processes that share every batch come to what one process comes to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_model
from training_runs import dpo_rows, weights, write

from interalign.cli.processes import in_processes, without
from interalign.training.dpo import train_dpo

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train

CONFIGS = Path(__file__).resolve().parent.parent / "training" / "configs"


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["train", "sft", "--nproc", "2", "--lora"], ["train", "sft", "--lora"]),
        (["train", "--nproc=2", "sft"], ["train", "sft"]),
        (["train", "--out", "nproc"], ["train", "--out", "nproc"]),
    ],
)
def test_the_processes_get_the_same_command_without_the_option(words, left) -> None:
    assert list(without(words, "--nproc")) == left


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A folder with a model, rows, and what one process makes of them in three steps."""
    folder = tmp_path_factory.mktemp("alone")
    tiny_model(folder / "base")
    write(folder / "dpo.jsonl", *dpo_rows(8))
    settings = {"max_steps": 3, "use_cpu": True, "logging_steps": 1, "learning_rate": 1e-3}
    write(folder / "one.yaml", {**settings, "per_device_train_batch_size": 4})
    write(folder / "two.yaml", {**settings, "per_device_train_batch_size": 2})
    train_dpo(str(folder / "base"), folder / "dpo.jsonl", folder / "one", config=folder / "one.yaml")
    return folder


def launched(config: str) -> list[str | Path]:
    """The start of a command line that `accelerate launch` runs in two processes, by a configuration that ships."""
    module = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / config)
    return [*module, "--mixed_precision", "no", Path(__file__).with_name("divided_on_cpu.py")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        ([Path(sys.executable).with_name("interalign")], ["--nproc", "2"], "8 trees, read tree by tree"),
        (launched("fsdp2.yaml"), [], "cannot be packed: its weights are divided among processes (FSDP)"),
    ],
    ids=["--nproc", "accelerate launch, weights divided by FSDP"],
)
def test_two_processes_train_as_one_and_only_the_first_speaks(
    alone: Path, tmp_path: Path, begin, end, said: str
) -> None:
    words = [
        "train",
        "dpo",
        "--model",
        "base",
        "--data",
        "dpo.jsonl",
        "--config",
        "two.yaml",
        "--out",
        tmp_path / "two",
    ]
    ended = subprocess.run([*begin, *words, *end], cwd=alone, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("dpo on 8 rows, 3 steps") == 1
    assert ended.stderr.count(said) == 1
    one, two = weights(alone / "one"), weights(tmp_path / "two")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=2e-5)
    logs = [(path / "training_log.jsonl").read_text().splitlines() for path in (alone / "one", tmp_path / "two")]
    losses = [[entry["loss"] for entry in map(json.loads, log) if "loss" in entry] for log in logs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert not (tmp_path / "two" / "gathered").exists()


def test_what_is_refused_is_said_once_with_the_exit_code_of_one_process(tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    assert in_processes(["train", "sft", "--modle", "base"], 2) == 2
    assert capfd.readouterr().err.count("No such option: --modle") == 1
