"""`--report-to`: handed to transformers, which says what it cannot do; what TensorBoard writes stays."""

from pathlib import Path

import pytest
from tiny import tiny_model
from training_runs import sft_rows, write

from interalign.training.settings_file import read_settings

pytest.importorskip("trl")
pytestmark = pytest.mark.train

WRITER = """\
class SummaryWriter:
    \"\"\"As tensorboardX's, into one file of plain text.\"\"\"

    def __init__(self, log_dir):
        import pathlib
        self.file = pathlib.Path(log_dir) / "events.txt"
        self.file.parent.mkdir(parents=True, exist_ok=True)

    def add_text(self, name, text, step=None):
        pass

    def add_scalar(self, name, value, step):
        with self.file.open("a") as out:
            out.write(f"{step} {name}\\n")

    def flush(self):
        pass

    close = flush
"""


@pytest.fixture
def train(tmp_path: Path, cli):
    tiny_model(tmp_path / "base")
    write(tmp_path / "sft.jsonl", *sft_rows(4))
    (tmp_path / "train.yaml").write_text("max_steps: 2\nlogging_steps: 1\nuse_cpu: true\n")
    words = ("train", "sft", "--model", "base", "--data", "sft.jsonl", "--config", "train.yaml", "--out", "out")
    return lambda *more: cli(*words, *more)


@pytest.mark.parametrize(
    ("name", "said"), [("nonsense", "nonsense is not supported, only"), ("wandb", "requires wandb to be installed")]
)
def test_what_transformers_cannot_report_to_is_refused_in_a_line(train, name: str, said: str) -> None:
    ended = train("--report-to", name)
    assert (ended.code, said in ended.err.splitlines()[-1]) == (2, True)


def test_tensorboards_files_are_kept_when_the_checkpoints_go(train, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "tensorboardX.py").write_text(WRITER)
    monkeypatch.syspath_prepend(tmp_path)
    ended = train("--report-to", "tensorboard")
    assert ended.code == 0, ended.err
    (events,) = (tmp_path / "out" / "runs").glob("*/events.txt")
    assert {"1 train/loss", "2 train/loss"} <= set(events.read_text().splitlines())
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_nothing_is_reported_unless_it_is_asked_for_and_the_option_wins_over_the_file() -> None:
    assert "report_to" not in read_settings("sft").trl  # which `fit` takes as none
    assert read_settings("sft", {"report_to": "wandb"}, report_to=("mlflow", "tensorboard")).trl["report_to"] == [
        "mlflow",
        "tensorboard",
    ]
