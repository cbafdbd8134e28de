"""A judge whose own answers show that it should not be trusted is told wherever its answers are used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import interalign as ia
from interalign import api
from interalign.agents.audit import ANSWERS, COPIES, ENDS, REFUSES, REPEATS, THIRD_PERSON
from interalign.judge_warnings import MOST_MARKED, judge_warnings, user_warnings
from interalign.records import JudgeAnswers

Cli = Callable[..., Any]
FINE = JudgeAnswers(asked=200, missing=0, pairs=100, agreed=90, named=180, named_first=95)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, None),
        ({"named_first": 126}, "prefers the first reply 70% of the time (n 180)"),
        ({"named_first": 40}, "prefers the second reply 78% of the time (n 180)"),
        ({"named_first": 112}, None),  # 62 %: past the limit by less than a standard error
        ({"named": 19, "named_first": 19}, None),  # too few
        ({"agreed": 55}, "keeps to its answer in 55% of 100 comparisons"),
        ({"agreed": 68}, None),
        ({"missing": 11}, "no readable answer to 6% of 200 questions"),
        ({"missing": 10}, None),
    ],
)
def test_limits(changed: dict[str, int], says: str | None) -> None:
    found = list(judge_warnings("j", FINE._replace(**changed), {"c": "other"}))
    assert len(found) == (says is not None)
    assert says is None or says in found[0]


@pytest.mark.parametrize(
    ("marked", "messages", "says"),
    [
        ({}, 100, None),
        ({ANSWERS: 41}, 100, "the user agent answers as the assistant in 41% of its 100 messages; "),
        ({ANSWERS: 29}, 100, None),  # past the limit by less than a standard error
        ({ANSWERS: 19}, 19, None),  # too few
        ({COPIES: 30, REPEATS: 20}, 100, "the user agent copies the assistant in 30%, repeats itself in 20% of"),
        ({ENDS: 90}, 100, None),  # no fault by itself
    ],
)
def test_a_user_that_does_not_speak_as_one_is_told(marked: dict[str, int], messages: int, says: str | None) -> None:
    found = list(user_warnings(marked, messages))
    assert len(found) == (says is not None)
    assert says is None or found[0].startswith(says)


def test_every_limit_is_one_of_a_mark_that_messages_get() -> None:
    assert set(MOST_MARKED) == {ANSWERS, THIRD_PERSON, REFUSES, COPIES, REPEATS}


async def helpful(ask: ia.UserAsk) -> ia.Said:
    """A user agent that forgets who it is."""
    return ia.Said(text=f"How can I assist you today? Question {ask.turn} of {ask.persona.id}.")


def test_such_a_user_is_told_at_the_end_of_a_run_and_in_its_report(tmp_path: Path, cli: Cli) -> None:
    begun = ["--trees", 10, "--turns", 2, "--user", "test_judge_warnings:helpful"]
    told = "the user agent answers as the assistant in 100% of its 20 messages; `interalign roles probe MODEL`"
    assert f"warning: {told}" in cli("simulate", tmp_path / "run.db", *begun).err
    assert any(told in note for note in api.report(tmp_path / "run.db").notes)


def test_a_judge_that_is_a_candidate_is_told() -> None:
    [found] = judge_warnings("openai:m", FINE, {"mine": "openai:m", "base": "openai:b"})
    assert found.startswith("judge openai:m is the model of candidate mine")


def test_it_is_told_at_the_end_in_the_report_at_an_export_and_in_its_card(tmp_path: Path, cli: Cli) -> None:
    run, out = tmp_path / "run.db", tmp_path / "rows.jsonl"
    begun = ["--trees", 8, "--turns", 3, "--judge", "world:judge?position_bias=0.8"]
    told = "warning: judge world:judge?position_bias=0.8 prefers the first reply"
    assert told in cli("simulate", run, *begun).err
    assert told in cli("export", run, "--format", "dpo", "--out", out).err
    assert len(json.loads(Path(f"{out}.card.json").read_text())["judge_warnings"]) == 2
    assert any("prefers the first reply" in note for note in api.report(run).notes[:2])


def test_a_sound_judge_and_a_panel_of_one_bad_member(tmp_path: Path) -> None:
    judges = ["world:judge", "world:judge?position_bias=0.9"]
    ia.simulate(tmp_path / "run.db", trees=8, turns=3, judge=judges)
    with ia.open_run(tmp_path / "run.db") as store:
        assert list(store.judge_warnings("world:judge")) == []
        assert all("position_bias" in each for each in store.judge_warnings("panel"))
        assert len(list(store.judge_warnings("panel"))) == 2


async def same(ask: ia.CandidateAsk) -> ia.Said:
    """A candidate behind a cache: always the same words."""
    return ia.Said(text="Have a good day.")


def test_siblings_that_say_the_same_are_counted_and_told(tmp_path: Path, cli: Cli) -> None:
    begun = ["--trees", 5, "--turns", 2, "--branch", 3, "--candidate", "test_judge_warnings:same"]
    told = "warning: 20 of 30 replies say word by word what a sibling says"
    ended = cli("simulate", tmp_path / "run.db", *begun, "--inducer", "none")
    assert told in ended.err
    assert "`seed: addressed`" in ended.err
    found = json.loads(cli("report", tmp_path / "run.db", "--json").out)
    assert found["siblings"] == {"replies": 30, "identical": 20}
    assert any("say word by word" in note for note in found["notes"])


def test_a_few_siblings_alike_are_chance(tmp_path: Path, cli: Cli) -> None:
    ended = cli("simulate", tmp_path / "run.db", "--trees", 8, "--turns", 4, "--branch", 3)
    assert "word by word" not in ended.err
