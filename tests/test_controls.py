"""The wrong-persona control: what a reply loses under another persona is its personal fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import interalign as ia
from interalign import api

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("controls") / "run.db"
    ia.evaluate(made, limit=30, turns=4, candidate=["world:oracle", "world:blind"])
    return made


def test_a_candidate_that_learns_about_its_user_loses_under_another_one(run: Path, cli: Cli) -> None:
    first = api.judge(run, judge="world:judge", controls=8)
    assert (first.done, first.calls) == (16, 16 * 4)
    more = api.judge(run, judge="world:judge", controls=12)
    assert (more.calls, more.replayed) == (4 * 2 * 4, 16 * 4)  # more cases extend the sample
    oracle, blind = json.loads(cli("report", run, "--json").out)["controls"]
    assert (oracle["candidate"], blind["candidate"], oracle["n"], blind["n"]) == ("oracle", "blind", 48, 48)
    assert oracle["fit"] > 0.5
    assert oracle["ci"][0] > 0
    assert abs(blind["fit"]) < 0.4
    assert oracle["fit"] == pytest.approx(oracle["own"] - oracle["other"])
    assert "Personal fit of oracle:" in cli("report", run).out


def test_all_candidates_of_a_case_meet_the_same_other_persona_of_another_profile(run: Path) -> None:
    api.judge(run, judge="world:judge", controls=12)
    met: dict[str, set[str]] = {}
    with ia.open_run(run) as store:
        people = store.personas()
        for record in store.trees():
            judged = store.judged_tree(record.id)
            assert judged is not None
            others = {note.value["persona"] for note in judged.annotations if note.name == "control"}
            met.setdefault(record.case or "", set()).update(others)
            assert all(people[other].profile != people[record.persona].profile for other in others)
    assert sorted(map(len, met.values())) == [0] * 18 + [1] * 12


def test_where_nothing_was_scored_or_nobody_else_is_there_it_is_refused(tmp_path: Path, cli: Cli) -> None:
    ia.simulate(tmp_path / "compared.db", trees=2, turns=1)
    ia.evaluate(tmp_path / "one.db", limit=2, turns=1, candidate=["world:blind"])
    for name, says in (("compared", "has no score by world:judge"), ("one", "one profile only")):
        done = cli("judge", tmp_path / f"{name}.db", "--judge", "world:judge", "--controls", 2)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert says in done.err
