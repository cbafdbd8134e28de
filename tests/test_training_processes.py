"""`train --nproc`: processes that share every batch come to what one process comes to."""

import json
from pathlib import Path

import pytest
from tiny import tiny_model
from training_runs import dpo_rows, weights, write

from interalign.cli.processes import in_processes, without

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train


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


@pytest.mark.slow
def test_two_processes_train_as_one_and_only_the_first_speaks(tmp_path: Path, command, cli) -> None:
    tiny_model(tmp_path / "base")
    write(tmp_path / "dpo.jsonl", *dpo_rows(8))
    for name, size in (("one", 4), ("two", 2)):
        settings = {"max_steps": 3, "use_cpu": True, "per_device_train_batch_size": size, "logging_steps": 1}
        write(tmp_path / f"{name}.yaml", {**settings, "learning_rate": 1e-3})
    words = ("train", "dpo", "--model", "base", "--data", "dpo.jsonl", "--config")
    assert cli(*words, "one.yaml", "--out", "one").code == 0
    ended = command(*words, "two.yaml", "--out", "two", "--nproc", "2")
    assert ended.code == 0, ended.err
    assert ended.err.count("memory: about") == ended.err.count("dpo on 8 rows, 3 steps") == 1
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=2e-5)
    logs = [(tmp_path / name / "training_log.jsonl").read_text().splitlines() for name in ("one", "two")]
    losses = [[entry["loss"] for entry in map(json.loads, log) if "loss" in entry] for log in logs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_what_is_refused_is_said_once_with_the_exit_code_of_one_process(tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    assert in_processes(["train", "sft", "--modle", "base"], 2) == 2
    assert capfd.readouterr().err.count("No such option: --modle") == 1
