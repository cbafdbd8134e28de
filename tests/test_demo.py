"""The demo's chain, whole, on little: the steps, the files, and that running it again repeats nothing."""

import json
from pathlib import Path

import pytest
from conftest import Ended

from interalign import api
from interalign.cli.demo import Demo, Scale

SMALL = Scale(sft_trees=6, round_trees=4, cases=5, turns=3)


def run_all(demo: Demo) -> list[str]:
    """What each step said."""
    return [step.run(lambda share: None) for step in demo.steps()]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo without training."""
    folder = tmp_path_factory.mktemp("untrained")
    assert len(run_all(Demo(folder, train=False, scale=SMALL))) == 5
    return folder


def test_without_training_the_demo_leaves_trees_data_an_evaluation_and_a_page(untrained: Path) -> None:
    assert {path.name for path in untrained.iterdir()} == {
        "personas-train.jsonl", "personas-heldout.jsonl", "run.db", "sft.jsonl", "sft.jsonl.card.json", "dpo.jsonl",
        "dpo.jsonl.card.json", "eval.db", "report.html",
    }  # fmt: skip
    assert len(lines(untrained / "sft.jsonl")) == len(lines(untrained / "dpo.jsonl")) > 0
    assert [candidate.name for candidate in api.report(untrained / "eval.db").candidates] == [
        "blind", "attentive", "oracle",
    ]  # fmt: skip


def test_the_personas_to_train_on_and_those_held_out_share_no_fact(untrained: Path) -> None:
    train, heldout = (
        {fact for row in lines(untrained / f"personas-{split}.jsonl") for fact in row["profile"]}
        for split in ("train", "heldout")
    )
    assert train
    assert heldout
    assert not train & heldout


@pytest.mark.train
def test_with_training_the_three_models_are_made_measured_and_not_made_again(tmp_path: Path) -> None:
    from interalign.training.world_base_model import BaseRecipe

    recipe = BaseRecipe(width=32, heads=2, exercises=200, short_talks=60, long_talks=10, lr=1e-2)
    demo = Demo(tmp_path, scale=SMALL._replace(recipe=recipe))
    run_all(demo)
    names = [candidate.name for candidate in api.report(tmp_path / "eval.db").candidates]
    assert names == ["blind", "attentive", "oracle", "base", "sft", "dpo"]
    assert all((tmp_path / model / "model.safetensors").exists() for model in ("base", "sft", "dpo"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = run_all(demo)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    assert sum("no new call" in said for said in again) == 3  # both simulations and the evaluation
    assert sum("finished before" in said for said in again) == 2


@pytest.mark.slow
def test_the_command_prints_every_step_the_table_and_what_to_type_next(command, tmp_path: Path) -> None:
    ended: Ended = command("demo", "--no-train", "--out", str(tmp_path / "demo"))
    assert ended.code == 0, ended.err
    assert "AL(10)" in ended.out
    assert "validate the pipeline" in ended.out
    assert [line for line in ended.err.splitlines() if line.startswith("5/5")] == ["5/5 report"]
    assert f"interalign view {tmp_path / 'demo'}/run.db" in ended.err
