"""A role that asks models itself: on record, within budget and concurrency, replayed, and never in its own way."""

import asyncio
import random
import signal
from pathlib import Path

import loopback
import pytest
import yaml
from calls_seen import calls_of, trees_of
from test_kill import exports, runner  # noqa: F401  (a fixture)

import interalign as ia

SMALL = ("--trees", "2", "--turns", "2")


def critics(body: dict) -> tuple[int, dict]:
    """A critic that writes something, and a decider that takes the first."""
    return loopback.completion("Both are short." if body["model"] == "critic" else "Hm.\nVerdict: A")


@pytest.mark.parametrize("concurrency", ["1", "16"])
def test_a_judge_of_two_steps_runs_at_any_concurrency_and_all_its_calls_are_on_record(
    concurrency: str, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback.serving(critics) as served_here:
        monkeypatch.setenv("ASK_URL", served_here.url)
        words = ("simulate", "run.db", *SMALL, "--judge", "asking_roles:TwoSteps", "--concurrency", concurrency)
        ended = cli(*words)
        assert (ended.code, len(served_here.asked)) == (0, 16)  # 2 trees, 2 turns, 2 orders, 2 steps
        roles = [call.role for call in calls_of("run.db")]
        assert [roles.count(role) for role in ("judge", "judge/critic", "judge/ask")] == [8, 8, 8]
        decider = next(body for body in served_here.asked if body["model"] == "decider")
        assert decider["temperature"] == 0
        assert [message["content"] for message in decider["messages"]] == ["Decide.", "Both are short."]
        assert cli(*words).code == 0
        assert len(served_here.asked) == 16
    assert {verdict.outcome for judged in trees_of("run.db") for verdict in judged.verdicts} == {"tie"}
    with ia.open_run("run.db") as run:
        assert run.usage()["judge/critic"].prompt_tokens == 8 * 7


def test_equal_questions_are_two_samples_and_the_same_ones_at_any_concurrency(cli) -> None:
    for concurrency in ("1", "32"):
        words = (f"{concurrency}.db", *SMALL, "--candidate", "asking_roles:drafts", "--concurrency", concurrency)
        assert cli("simulate", *words).code == 0
    asked = {call.key for call in calls_of("1.db", "candidate/ask")}
    assert len(asked) == 2 * 2 * 2 * 3  # trees, turns, replies, drafts
    assert asked == {call.key for call in calls_of("32.db", "candidate/ask")}
    assert exports(Path("1.db")) == exports(Path("32.db"))


def test_a_graph_and_a_hook_ask_too(tmp_path: Path, cli) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"hooks": {"after_user": ["asking_roles:asked_note"]}}))
    words = ("simulate", "run.db", *SMALL, "--candidate", "asking_roles:agent", "--config", file, "--concurrency", "1")
    assert cli(*words, "--max-tokens", "1000000").code == 0
    roles = [call.role for call in calls_of("run.db")]
    assert (roles.count("candidate/ask"), roles.count("after_user/ask")) == (8, 4)


def test_tokens_of_a_roles_own_questions_count_and_a_budget_that_is_too_small_stops_and_does_not_hang(cli) -> None:
    words = ("simulate", "run.db", *SMALL, "--candidate", "asking_roles:agent", "--concurrency", "4")
    ended = cli(*words, "--max-tokens", "6000")
    assert (ended.code, ended.err.count("\n")) == (3, 1)
    assert "of --max-tokens 6,000 are used or set aside for agents that ask" in ended.err
    assert cli(*words, "--max-tokens", "1000000").code == 0
    assert cli("simulate", "whole.db", *words[2:]).code == 0
    assert exports(Path("run.db")) == exports(Path("whole.db"))


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("nobody", 3, "the candidate asks 'world:nobody': world:nobody: there is no 'nobody' in the world"),
        ("priceless", 3, "--max-usd needs the price of openai:dear@"),
        ("mistyped", 3, "the first 3 trees failed alike: candidate 'asking_roles:mistyped' raised ValidationError"),
    ],
)
def test_a_question_that_cannot_be_asked_is_told_in_one_line(name, code, said, cli, monkeypatch) -> None:
    monkeypatch.setenv("ASK_URL", "http://127.0.0.1:9/v1")
    words = ("simulate", "run.db", "--trees", "3", "--turns", "2", "--candidate", f"asking_roles:{name}")
    ended = cli(*words, "--max-usd", "1")
    assert (ended.code, ended.err.count("\n")) == (code, 1)
    assert said in ended.err


@pytest.mark.parametrize(
    ("replies", "text"),
    [
        (["red"], "red"),
        (["It is red.", "<think>hm</think> blue"], "blue"),
        (["Red!", "", "green"], "none (openai:painter@URL gave nothing usable, asked 3 times, last: no colour: green)"),
    ],
)
def test_a_reply_that_cannot_be_read_is_asked_for_again_and_then_the_role_is_told(
    replies: list[str], text: str, cli, monkeypatch
) -> None:
    def answer(body: dict) -> tuple[int, dict]:
        return loopback.completion(replies[min(len(here.asked), len(replies)) - 1])

    with loopback.serving(answer) as here:
        monkeypatch.setenv("ASK_URL", here.url)
        words = ("--trees", "1", "--turns", "1", "--branch", "1", "--candidate", "asking_roles:says_a_colour")
        assert cli("simulate", "run.db", *words).code == 0
    (judged,) = trees_of("run.db")
    assert judged.tree.nodes[-1].text == text.replace("URL", here.url)
    assert len(here.asked) == len(replies)
    if len(replies) > 1:
        assert "[asked again]" in here.asked[1]["messages"][-1]["content"]


def test_a_role_that_leaves_its_questions_behind_keeps_nobody_from_asking(cli, monkeypatch) -> None:
    with loopback.serving(lambda body: loopback.completion(body["model"])) as here:
        monkeypatch.setenv("ASK_URL", here.url)
        words = ("simulate", "run.db", *SMALL, "--candidate", "asking_roles:impatient", "--concurrency", "1")
        assert cli(*words).code == 0
    assert {node.text for judged in trees_of("run.db") for node in judged.tree.nodes if node.role == "assistant"} == {
        "quick"
    }


def test_outside_of_a_role_there_is_nobody_to_ask() -> None:
    with pytest.raises(ia.ConfigError, match="ask_model works while a role is asked in a run"):
        asyncio.run(ia.ask_model("world:average", "hello"))


@pytest.mark.slow
def test_after_ten_kills_a_role_that_asks_has_asked_the_same_and_nothing_on_record_is_gone(runner) -> None:  # noqa: F811
    settings = ("simulate", "run.db", "--trees", "10", "--turns", "3", "--candidate", "asking_roles:drafts")
    settings = (*settings, "--user", "scripted_roles:user", "--concurrency", "4")
    whole = runner("whole")
    whole.start(*settings)
    assert whole.end() == 0
    broken, rng = runner("broken"), random.Random(7)
    kept: set[str] = set()
    for moment in sorted(rng.randrange(28) for _ in range(10)):
        assert broken.signal_after(moment, rng.uniform(0, 0.02), signal.SIGKILL, *settings) == -signal.SIGKILL
        now = {call.key for call in calls_of(broken.run)} if broken.run.exists() else set()
        assert kept <= now
        kept = now
    broken.start(*settings)
    assert broken.end() == 0
    assert {call.key for call in calls_of(broken.run)} == {call.key for call in calls_of(whole.run)}
    assert (exports(broken.run), trees_of(broken.run)) == (exports(whole.run), trees_of(whole.run))
