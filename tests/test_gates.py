"""A report as Markdown and CSV, as a gate of a build, and evaluations compared across files."""

import csv
import json
from pathlib import Path

import pytest

from interalign import api
from interalign.errors import ConfigError

SMALL = {"turns": 3, "limit": 10}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three evaluations of the same cases, and a simulation."""
    folder = tmp_path_factory.mktemp("runs")
    api.evaluate(folder / "good.db", candidate="mine=world:oracle", **SMALL)
    api.evaluate(folder / "bad.db", candidate="mine=world:blind", **SMALL)
    api.evaluate(folder / "both.db", candidate=["mine=world:oracle", "other=world:blind"], **SMALL)
    api.evaluate(folder / "others.db", candidate="mine=world:oracle", turns=3, limit=10, seed=7)
    api.evaluate(folder / "long.db", candidate="mine=world:oracle", turns=4, limit=10)
    api.simulate(folder / "trees.db", trees=2, turns=2)
    api.personas_generate(folder / "people.jsonl", n=5, heldout=False, seed=1)
    api.evaluate(folder / "none.db", candidate="mine=world:oracle", turns=3, cases=str(folder / "people.jsonl"))
    return folder


@pytest.mark.parametrize(
    ("limits", "missed"),
    [
        (["al=1"], []),
        (["al=4.9"], ["mine: mean AL is ", "other: mean AL is "]),
        (["al=3"], ["other: mean AL is "]),
        (["ir=9", "al=1"], ["mine: IR is ", "other: IR is "]),
    ],
)
def test_every_candidate_under_a_limit_is_named_and_the_exit_code_is_1(runs: Path, limits, missed, cli) -> None:
    words = [word for limit in limits for word in ("--fail-under", limit)]
    ended = cli("report", str(runs / "both.db"), "--json", *words)
    assert ended.code == (1 if missed else 0), ended.err
    assert json.loads(ended.out)["kind"] == "evaluation"
    lines = [line.removeprefix("gate missed: ") for line in ended.err.splitlines()]
    assert [line.startswith(start) for line, start in zip(lines, missed, strict=True)] == [True] * len(missed)


def test_a_figure_that_is_missing_is_under_every_limit(tmp_path: Path, cli) -> None:
    api.evaluate(tmp_path / "run.db", candidate="world:oracle", turns=1, limit=2)
    ended = cli("report", "run.db", "--fail-under", "ir=-5")
    assert (ended.code, ended.err) == (1, "gate missed: oracle: IR is missing, under -5\n")


@pytest.mark.parametrize("limit", ["al", "al=", "al=high", "r2=1", "al=nan", "=3", "al=inf"])
def test_a_limit_that_is_none_is_refused(runs: Path, limit: str, cli) -> None:
    ended = cli("report", str(runs / "both.db"), "--fail-under", limit)
    assert (ended.code, ended.out) == (2, "")
    assert "expected al=X or ir=X with a number, such as al=3.5" in ended.err


def test_an_evaluation_is_held_against_an_earlier_one_by_its_interval(runs: Path, cli) -> None:
    worse = cli("report", str(runs / "bad.db"), "--md", "bad.md", "--no-worse-than", str(runs / "good.db"))
    assert worse.code == 1
    assert worse.err.splitlines()[-1].startswith("gate missed: mine: mean AL -")
    for better, base in (("good", "bad"), ("good", "good")):
        assert cli("report", str(runs / f"{better}.db"), "--no-worse-than", str(runs / f"{base}.db")).code == 0


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("trees.db", "trees.db is no evaluation"),
        ("others.db", "of mine is another person than that of mine before"),
        ("none.db", "have no case in common"),
        ("long.db", "the evaluations differ in --turns"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(runs: Path, base: str, said: str, cli) -> None:
    ended = cli("report", str(runs / "good.db"), "--no-worse-than", str(runs / base))
    assert (ended.code, ended.err.count("\n"), said in ended.err) == (2, 1, True), ended.err


def test_candidates_without_a_namesake_cannot_be_held_against_each_other(runs: Path, tmp_path: Path) -> None:
    api.evaluate(tmp_path / "two.db", candidate=["a=world:oracle", "b=world:blind"], **SMALL)
    with pytest.raises(ConfigError, match="have no candidate of one name"):
        api.missed_gates(tmp_path / "two.db", api.report(tmp_path / "two.db"), no_worse_than=runs / "both.db")


def test_compare_pairs_the_candidates_of_all_files_by_case(runs: Path, cli) -> None:
    ended = cli("compare", str(runs / "good.db"), str(runs / "bad.db"), "--json")
    assert ended.code == 0, ended.err
    (pair,) = json.loads(ended.out)
    assert (pair["a"], pair["b"], pair["n"]) == ("good:mine", "bad:mine", 10)
    (within,) = api.report(runs / "both.db").comparisons
    assert (pair["delta_al"], tuple(pair["ci"])) == (within.delta_al, within.ci)
    table = cli("compare", str(runs / "good.db"), str(runs / "bad.db")).out.splitlines()
    assert table[2].startswith("| good:mine - bad:mine | +")


def test_markdown_and_csv_hold_the_figures_of_the_report(runs: Path, tmp_path: Path, cli) -> None:
    ended = cli("report", str(runs / "both.db"), "--md", "report.md", "--csv", "report.csv")
    assert (ended.code, ended.out) == (0, "")
    found = api.report(runs / "both.db")
    lines = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert [line["measure"] for line in lines] == [*["AL"] * 3, "mean AL", "IR"] * 2 + ["delta mean AL"]
    assert float(lines[3]["value"]) == found.candidates[0].al_mean
    assert [float(lines[3][end]) for end in ("low", "high")] == list(found.candidates[0].al_ci or ())
    page = (tmp_path / "report.md").read_text()
    assert f"| mine | {found.candidates[0].al_mean:.2f} | " in page
    assert "| mine - other | +" in page
    assert "validate the pipeline" in page


def test_no_two_reports_are_written_into_one_file(runs: Path, cli) -> None:
    ended = cli("report", str(runs / "both.db"), "--md", "same", "--csv", "same")
    assert (ended.code, "are one file" in ended.err) == (2, True)
