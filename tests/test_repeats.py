"""`evaluate --repeats N`: every candidate meets every case N times, each time with chance of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import interalign as ia
from interalign import api

Cli = Callable[..., Any]
SETTINGS: dict[str, Any] = {"limit": 3, "turns": 2, "candidate": ["world:blind", "world:oracle"]}


def texts(run: Path) -> dict[str, list[str]]:
    """What was said in each conversation."""
    with ia.open_run(run) as store:
        return {judged.tree.id: [node.text for node in judged.tree.nodes] for judged in store.judged_trees()}


def test_repeats_differ_and_the_first_is_that_of_a_run_without(tmp_path: Path) -> None:
    ia.evaluate(tmp_path / "one.db", **SETTINGS)
    done = ia.evaluate(tmp_path / "three.db", repeats=3, **SETTINGS)
    assert (done.done, done.trees) == (18, 18)
    once, thrice = texts(tmp_path / "one.db"), texts(tmp_path / "three.db")
    assert once.items() <= thrice.items()
    case = next(iter(once))
    assert len({tuple(thrice[name]) for name in (case, f"{case}#2", f"{case}#3")}) == 3
    first = {name: said[0] for name, said in thrice.items()}
    pairs = [(name, name.replace("blind/", "oracle/")) for name in first if name.startswith("blind/")]
    assert all(first[one] == first[other] for one, other in pairs)  # paired: both candidates are asked the same
    report = api.report(tmp_path / "three.db")
    assert (report.n_cases, report.n_profiles) == (9, 1)
    assert report.comparisons[0].n == 9


def test_more_cases_extend_a_run_and_other_repeats_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run.db"
    ia.evaluate(run, repeats=2, **SETTINGS)
    more = ia.evaluate(run, repeats=2, **{**SETTINGS, "limit": 4})
    assert (more.done, more.calls) == (16, 4 * 2 * 3)
    with pytest.raises(ia.ConfigError, match="repeats 2 -> "):
        ia.evaluate(run, **SETTINGS)


def test_a_shard_has_all_repeats_of_its_cases_and_what_is_missing_is_named(tmp_path: Path) -> None:
    files = [tmp_path / f"s{number}.db" for number in (1, 2, 3)]
    for number, file in enumerate(files, start=1):
        ia.evaluate(file, repeats=2, shard=f"{number}/3", **SETTINGS)
    found = api.merge(tmp_path / "part.db", files[:2])
    assert {shard: named.trees for shard, named in found.missing.items()} == {"3/3": 4}
    assert api.merge(tmp_path / "all.db", files).is_whole
    ia.evaluate(tmp_path / "whole.db", repeats=2, **SETTINGS)
    assert texts(tmp_path / "all.db") == texts(tmp_path / "whole.db")


def test_a_dry_run_counts_repeats(tmp_path: Path) -> None:
    once = api.estimate("evaluation", tmp_path / "run.db", **SETTINGS)
    thrice = api.estimate("evaluation", tmp_path / "run.db", repeats=3, **SETTINGS)
    assert thrice.trees == 3 * once.trees


def test_a_case_named_like_a_repeat_is_refused(tmp_path: Path, cli: Cli) -> None:
    cases = tmp_path / "cases.jsonl"
    cli("personas", "generate", "--out", cases, "--n", 1, "--heldout")
    cases.write_text(cases.read_text().replace('"heldout-0000"', '"me#2"'))
    done = cli("evaluate", tmp_path / "e.db", "--cases", cases, "--repeats", 2, "--candidate", "world:blind")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "me#2" in done.err
    assert not (tmp_path / "e.db").exists()
