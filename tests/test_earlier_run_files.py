"""Run files that version 2390903 wrote: they export and report as they did then, and a killed run goes on in them."""

import json
import shutil
from pathlib import Path

import pytest

import interalign as ia
from interalign import api

THEN = Path(__file__).parent / "data" / "run_2390903"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The three files of then, in a folder that can be written: a simulation, an evaluation, a killed simulation."""
    for file in THEN.glob("*.db"):
        shutil.copy(file, tmp_path)
    return tmp_path


def exported(run: Path, kind: str) -> str:
    ia.export(run, run.with_suffix(".out"), format=kind)
    return run.with_suffix(".out").read_text()


def reported_since(then: object, now: object, at: str = "report") -> None:
    """Every figure of then is there now, with the same value; keys that are new may stand beside it."""
    if isinstance(then, dict):
        for key, value in then.items():
            reported_since(value, now[key], f"{at}.{key}")
    elif isinstance(then, list):
        assert len(then) == len(now), at
        for number, value in enumerate(then):
            reported_since(value, now[number], f"{at}[{number}]")
    else:
        assert now == then, at


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_finished_run_exports_as_it_did(run: Path, kind: str) -> None:
    assert exported(run / "sim.db", kind) == (THEN / f"sim.{kind}.jsonl").read_text()


@pytest.mark.parametrize("name", ["sim", "eval"])
def test_a_finished_run_reports_what_it_did(run: Path, name: str) -> None:
    now = json.loads(api.report_json(api.report(run / f"{name}.db")))
    reported_since(json.loads((THEN / f"{name}.report.json").read_text()), now)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_killed_run_goes_on_and_exports_what_it_would_have(run: Path, kind: str) -> None:
    summary = ia.simulate(run / "killed.db", trees=6, turns=4, seed=3)
    assert (summary.done, summary.calls, summary.replayed) == (6, 110, 34)
    assert exported(run / "killed.db", kind) == (THEN / f"killed.{kind}.jsonl").read_text()


def test_a_finished_run_is_complete_without_another_call(run: Path) -> None:
    settings = {"policy": "beam:2", "candidate": ["world:average", "blind=world:blind"], "seed": 7}
    summary = ia.simulate(run / "sim.db", trees=4, turns=3, **settings)
    assert (summary.done, summary.calls) == (4, 0)
