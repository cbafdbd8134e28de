"""`export --out FILE.parquet`: the same rows as JSON lines, for `datasets`."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import interalign as ia

Cli = Callable[..., Any]
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("parquet") / "run.db"
    ia.simulate(made, trees=3, turns=2)
    return made


@pytest.mark.parametrize("fmt", ["dpo", "sft", "kto", "rm", "listwise", "messages"])
def test_the_rows_are_those_of_json_lines(run: Path, tmp_path: Path, fmt: str) -> None:
    assert ia.export(run, tmp_path / "rows.parquet", format=fmt) == ia.export(run, tmp_path / "rows.jsonl", format=fmt)
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == lines
    card = json.loads((tmp_path / "rows.parquet.card.json").read_text())
    assert card["rows"] == len(lines)


def test_datasets_reads_it(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    written = ia.export(run, tmp_path / "rows.parquet", format="dpo")
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "c"))
    assert len(rows["train"]) == written


def test_a_name_in_capitals_says_the_same(run: Path, tmp_path: Path) -> None:
    ia.export(run, tmp_path / "ROWS.PARQUET", format="dpo")
    assert pq.read_table(tmp_path / "ROWS.PARQUET").num_rows > 0


def test_no_rows_are_an_empty_file(run: Path, tmp_path: Path) -> None:
    assert ia.export(run, tmp_path / "none.parquet", format="dpo", min_margin=9) == 0
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_a_pipe_and_a_run_are_refused(run: Path, tmp_path: Path, cli: Cli) -> None:
    os.mkfifo(tmp_path / "pipe.parquet")
    (tmp_path / "run.parquet").write_bytes(run.read_bytes())
    for name in ("pipe.parquet", "run.parquet"):
        done = cli("export", run, "--format", "dpo", "--out", tmp_path / name)
        assert (done.code, done.err.count("\n")) == (2, 1)
    assert (tmp_path / "run.parquet").read_bytes() == run.read_bytes()
