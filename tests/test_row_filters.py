"""`export --min-margin` and `--min-agreement`: turns that the judges do not tell apart clearly give no row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import interalign as ia
from interalign.preferences import agreement, pairs

Cli = Callable[..., Any]
FORMATS = ("dpo", "sft", "kto", "rm", "listwise")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("scored") / "run.db"
    ia.simulate(run, trees=4, turns=4, branch=3, judging="score", candidate=["world:oracle", "world:blind"])
    return run


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("panel") / "run.db"
    judges = ["world:judge", "world:judge?noise=0.5", "world:judge?noise=0.6"]
    ia.simulate(run, trees=6, turns=4, branch=3, judging="score", judge=judges)
    return run


def rows_of(run: Path, folder: Path, fmt: str, **options: Any) -> list[dict[str, Any]]:
    out = folder / f"{fmt}.jsonl"
    ia.export(run, out, format=fmt, **options)
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_pairs_below_the_margin_are_left_out(scored: Path, tmp_path: Path) -> None:
    every = rows_of(scored, tmp_path, "dpo", pairs="all")
    clear = rows_of(scored, tmp_path, "dpo", pairs="all", min_margin=2)
    assert clear == [row for row in every if row["margin"] >= 2]
    assert 0 < len(clear) < len(every)


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_turn_without_a_clear_pair_gives_no_row_in_any_format(scored: Path, tmp_path: Path, fmt: str) -> None:
    turns = {(row["tree"], row["node"]) for row in rows_of(scored, tmp_path, "dpo") if row["margin"] >= 2}
    with ia.open_run(scored) as store:
        trees = {judged.tree.id: judged.tree for judged in store.judged_trees()}
    found = rows_of(scored, tmp_path, fmt, min_margin=2)
    nodes = {(row["tree"], trees[row["tree"]].node(row["node"])) for row in found}
    assert {(tree, node.id if node.role == "user" else node.parent) for tree, node in nodes} == turns


def test_a_limit_that_all_hold_changes_no_byte(scored: Path, tmp_path: Path) -> None:
    assert rows_of(scored, tmp_path, "dpo", min_margin=0, min_agreement=1) == rows_of(scored, tmp_path, "dpo")


def test_pairs_on_which_too_few_judges_agree_are_left_out(panel: Path, tmp_path: Path) -> None:
    with ia.open_run(panel) as store:
        trees = list(store.judged_trees())
    judges = [name for name in trees[0].judges() if name != "panel"]
    agreed = {
        (tree.tree.id, pair.chosen.id, pair.rejected.id)
        for tree in trees
        for pair in pairs(tree.by_judge("panel"), "best-worst")
        if agreement(tree, pair, judges) == 1
    }
    found = rows_of(panel, tmp_path, "dpo", min_agreement=1)
    assert len(found) == len(agreed)
    assert (
        0 < len(found) < len(rows_of(panel, tmp_path, "dpo", min_agreement=0.5)) <= len(rows_of(panel, tmp_path, "dpo"))
    )


def test_the_card_says_what_was_asked_and_how_much_was_left_out(scored: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "clear.jsonl"
    done = cli("export", scored, "--format", "dpo", "--out", out, "--min-margin", 9)
    assert done.code == 0
    assert "--min-margin" in done.err
    assert out.read_text() == ""
    card = json.loads(Path(f"{out}.card.json").read_text())
    assert card["min_margin"] == 9
    assert card["left_out"]["turns"] == len(rows_of(scored, tmp_path, "dpo"))


@pytest.mark.parametrize(
    "options", [("--min-margin", "-1"), ("--min-margin", "nan"), ("--min-agreement", "1.5"), ("--audit", "maybe")]
)
def test_a_limit_that_cannot_be_one_is_refused(
    scored: Path, tmp_path: Path, cli: Cli, options: tuple[str, str]
) -> None:
    done = cli("export", scored, "--format", "dpo", "--out", tmp_path / "x.jsonl", *options)
    assert done.code == 2
    assert not (tmp_path / "x.jsonl").exists()
