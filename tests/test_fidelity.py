"""`interalign fidelity`: equal users are not told apart, another manner is, and shown by what."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import interalign as ia
from interalign import api

Cli = Callable[..., Any]


async def curt(ask: Any) -> ia.Said:
    """A user in lower case, without end marks."""
    return ia.Said(text=f"any idea for dinner number {ask.turn}, dont care how")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fidelity")
    users = {"world": {}, "other": {"seed": 3}, "curt": {"user": "test_fidelity:curt"}}
    for name, settings in users.items():
        ia.simulate(folder / f"{name}.db", trees=25, turns=3, branch=1, inducer="none", **settings)
    return {name: folder / f"{name}.db" for name in users}


def test_users_of_one_kind_are_hardly_told_apart(runs: dict[str, Path]) -> None:
    found = api.fidelity(runs["world"], real=runs["other"])
    assert found.auc is not None
    assert found.auc_ci is not None
    assert found.auc < 0.7
    assert sum(one.apart for one in found.measures.values()) <= 2
    assert (found.conversations, found.messages) == ((25, 25), (75, 75))


def test_another_manner_is_told_apart_and_shown(runs: dict[str, Path], cli: Cli) -> None:
    done = cli("fidelity", runs["curt"], "--real", runs["world"], "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["auc"] > 0.99
    assert (found["measures"]["lower-case start"]["simulated"], found["measures"]["no end mark"]["real"]) == (1.0, 0.0)
    assert found["measures"]["slips"]["apart"]
    assert all(each["text"].startswith("any idea") for each in found["told_apart"])
    assert "lower-case start" in cli("fidelity", runs["curt"], "--real", runs["world"]).out


def test_few_conversations_are_measured_without_a_classifier(tmp_path: Path, runs: dict[str, Path], cli: Cli) -> None:
    few = tmp_path / "few.db"
    ia.simulate(few, trees=2, turns=1, branch=1, inducer="none")
    done = cli("fidelity", few, "--real", runs["world"])
    assert done.code == 0
    assert "not tried with fewer than 10 conversations" in done.out


def test_a_file_without_messages_is_refused(tmp_path: Path, runs: dict[str, Path], cli: Cli) -> None:
    done = cli("fidelity", runs["world"], "--real", tmp_path / "no.db")
    assert (done.code, done.err.count("\n")) == (2, 1)
