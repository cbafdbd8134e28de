"""The picture of a training: which figures it shows, and that it is there."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from tiny import tiny_model
from training_runs import dpo_rows, write

from interalign.training.curves import LoggedFigure, curves, write_picture
from interalign.training.train import train

LOG = [
    {"loss": 0.7, "rewards/margins": 0.0, "rewards/accuracies": 0.5, "learning_rate": 1e-5, "step": 1},
    {"loss": 0.5, "rewards/margins": 0.4, "rewards/accuracies": 1.0, "learning_rate": 5e-6, "step": 4},
    {"train_runtime": 3.0, "train_loss": 0.6, "step": 4},
]


def test_loss_margin_and_accuracy_are_shown_by_step_and_nothing_else() -> None:
    assert list(curves(LOG)) == [
        LoggedFigure("loss", [1, 4], [0.7, 0.5]),
        LoggedFigure("margin of chosen over rejected", [1, 4], [0.0, 0.4]),
        LoggedFigure("share ranked right", [1, 4], [0.5, 1.0]),
    ]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("margin", "margin of chosen over rejected"),
        ("accuracy", "share ranked right"),
        ("reward", "mean reward"),
        ("mean_token_accuracy", "share of tokens right"),
        ("completions/mean_length", "tokens of a reply"),
    ],
)
def test_the_other_trainers_names_for_a_figure_are_known(name: str, title: str) -> None:
    assert [curve.title for curve in curves([{name: 1, "step": 1}, {name: 2, "step": 2}])] == [title]


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf"), "-"])
def test_what_is_no_number_is_left_out(missing) -> None:
    log = [{"reward": value, "step": step} for step, value in enumerate([1.0, missing, 3], start=1)]
    assert list(curves(log)) == [LoggedFigure("mean reward", [1, 3], [1.0, 3.0])]


@pytest.mark.parametrize("log", [[], LOG[:1], [{"step": 1}, {"step": 2}]])
def test_too_short_a_log_gives_no_picture(log, tmp_path: Path) -> None:
    assert not write_picture(log, tmp_path / "out.svg")
    assert not (tmp_path / "out.svg").exists()


def test_the_same_log_gives_the_same_svg(tmp_path: Path) -> None:
    assert all(write_picture(LOG, tmp_path / name) for name in ("a.svg", "b.svg"))
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.train
def test_the_folder_of_a_training_has_its_picture_and_the_card_shows_it(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    config = {"use_cpu": True, "max_steps": 3, "logging_steps": 1}
    data = write(tmp_path / "dpo.jsonl", *dpo_rows(4))
    train("dpo", str(tiny_model(tmp_path / "base")), data, tmp_path / "out", config=config)
    assert (tmp_path / "out" / "training.svg").read_text().startswith("<?xml")
    assert "![Loss and other figures by step](training.svg)" in (tmp_path / "out" / "README.md").read_text()
