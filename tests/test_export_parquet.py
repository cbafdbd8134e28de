"""`export --out FILE.parquet`: the same rows as JSON lines, for `datasets`."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import interalign as ia
from interalign.errors import ConfigError
from interalign.training.parquet import write_parquet_shards

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


def test_so_many_rows_a_file_are_named_as_datasets_names_shards(run: Path, tmp_path: Path, cli: Cli) -> None:
    rows = ia.export(run, tmp_path / "rows.jsonl", format="dpo")
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    done = cli("export", run, "--format", "dpo", "--out", "rows", "--rows-per-file", "2")
    assert (done.code, done.err.splitlines()[0]) == (0, f"{rows} dpo rows written to rows")
    files = sorted((tmp_path / "rows").iterdir())
    of = -(-rows // 2)
    assert [file.name for file in files] == [f"train-{number:05}-of-{of:05}.parquet" for number in range(of)]
    assert [pq.read_table(file).num_rows for file in files] == [2] * (rows // 2) + [1] * (rows % 2)
    assert [row for file in files for row in pq.read_table(file).to_pylist()] == lines
    card = json.loads((tmp_path / "rows.card.json").read_text())
    assert (card["rows"], list(card["files"])) == (rows, [file.name for file in files])


def test_datasets_reads_the_folder_as_one_split(run: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    written = ia.export(run, tmp_path / "rows", format="dpo", rows_per_file=2)
    rows = datasets.load_dataset(str(tmp_path / "rows"), cache_dir=str(tmp_path / "c"))
    assert {split: len(of) for split, of in rows.items()} == {"train": written}


@pytest.mark.parametrize(
    ("rows", "per_file", "files"), [(0, 3, 1), (3, 3, 1), (4, 3, 2), (2500, 1000, 3), (2500, 5000, 1)]
)
def test_files_are_full_but_the_last(rows: int, per_file: int, files: int, tmp_path: Path) -> None:
    found = ({"number": number} for number in range(rows))
    assert write_parquet_shards(found, tmp_path / "rows", per_file) == rows
    made = [pq.read_table(file) for file in sorted((tmp_path / "rows").iterdir())]
    assert len(made) == files
    assert [row["number"] for table in made for row in table.to_pylist()] == list(range(rows))
    assert all(table.num_rows == per_file for table in made[:-1])


def test_an_error_on_the_way_leaves_no_folder(tmp_path: Path) -> None:
    def failing() -> Iterator[dict[str, int]]:
        yield from ({"number": number} for number in range(1500))
        raise ConfigError("no more")

    (tmp_path / "rows").mkdir()
    with pytest.raises(ConfigError, match="no more"):
        write_parquet_shards(failing(), tmp_path / "rows", 700)
    assert [(path.name, list(path.iterdir())) for path in tmp_path.iterdir()] == [("rows", [])]


@pytest.mark.parametrize(
    ("out", "rows", "says"),
    [
        ("full", "2", "full has something in it; remove it, or name another folder"),
        ("full/file", "2", "full/file is no folder; name a folder to write into"),
        ("run.db", "2", "run.db is read by this command and would be overwritten"),
        ("run.db-wal", "2", "is a name that the run file run.db uses for itself"),
        ("absent/rows", "2", "its folder must exist"),
        ("rows", "0", "--rows-per-file"),
    ],
)
def test_what_is_no_new_folder_is_refused(out: str, rows: str, says: str, run: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "run.db").write_bytes(run.read_bytes())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    done = cli("export", "run.db", "--format", "dpo", "--out", out, "--rows-per-file", rows)
    assert done.code == 2
    assert says in done.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "run.db"]
