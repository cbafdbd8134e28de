"""A tree that fails: its calls in flight come home first, are replayed later, and all of it can be looked at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import fault_server
import pytest
from calls_seen import calls_of
from fault_server import Plan, Step

import interalign as ia
from interalign import api
from interalign.config import Parameters
from interalign.errors import FailedTreeError, StopError
from interalign.models.base import Reply
from interalign.tree import Message

REFUSED: Step = {"status": 400, "json": {"error": {"message": "this message cannot be taken"}}}
SLOW: Step = {"delay": 0.2}


def refusing(number: int) -> Plan:
    """Refuse the request with this number, from 1, at once; answer all others slowly."""
    count = 0

    def plan(body: dict[str, Any]) -> Step:
        nonlocal count
        count += 1
        return REFUSED if count == number else SLOW

    return plan


def judged_again(path: Path, runtime: ia.Runtime, **settings: Any) -> ia.RunSummary:
    """Trees of the world, judged again."""
    if not path.exists():
        ia.simulate(path, trees=1, **settings)
    return api.judge(path, judge="openai:m", runtime=runtime)


def simulated(path: Path, runtime: ia.Runtime, **settings: Any) -> ia.RunSummary:
    return ia.simulate(path, trees=1, runtime=runtime, **settings)


@pytest.mark.parametrize(
    ("run", "settings", "refused", "beside"),
    [
        (simulated, {"turns": 1, "branch": 3, "candidate": "openai:m"}, 1, 2),
        (simulated, {"turns": 1, "branch": 3, "candidate": "openai:m"}, 3, 2),
        (simulated, {"turns": 2, "policy": "full", "candidate": "openai:m"}, 3, 5),
        (simulated, {"turns": 2, "policy": "full", "user": "openai:m"}, 3, 2),
        (simulated, {"turns": 2, "policy": "beam:2", "inducer": "openai:m"}, 2, 2),
        (simulated, {"turns": 1, "judge": "openai:m"}, 1, 1),
        (simulated, {"turns": 1, "branch": 3, "judge": "openai:m"}, 4, 5),
        (simulated, {"turns": 1, "branch": 4, "judging": "score", "judge": "openai:m"}, 2, 3),
        (judged_again, {"turns": 2}, 1, 3),
        (judged_again, {"turns": 2, "branch": 3, "judging": "score"}, 6, 5),
    ],
)
def test_what_is_in_flight_when_a_tree_fails_comes_home_and_is_not_asked_again(
    run: Any, settings: dict[str, Any], refused: int, beside: int, tmp_path: Path
) -> None:
    path = tmp_path / "run.db"
    with fault_server.serving(refusing(refused)) as server:
        runtime = ia.Runtime(base_url=server.url)
        first = run(path, runtime, **settings)
        assert list(first.failed) == ["t00000"]
        assert len(server.asked) == beside + 1
        assert len(asked_of_the_server(path)) == beside
        again = run(path, runtime, **settings)
        assert (again.done, again.failed) == (1, {})
        assert len(server.asked) == len(asked_of_the_server(path)) + 1  # each reply once, and the refused one


def asked_of_the_server(path: Path) -> list[str]:
    with ia.open_run(path) as run:
        return [call.key for call in run.calls_of("t00000") if call.asked == "openai:m"]


def test_after_the_first_failure_no_call_of_the_tree_begins(tmp_path: Path) -> None:
    with fault_server.serving(refusing(1)) as server:
        runtime = ia.Runtime(base_url=server.url, concurrency=2)
        summary = simulated(tmp_path / "run.db", runtime, turns=1, branch=8, candidate="openai:m")
    assert list(summary.failed) == ["t00000"]
    assert len(server.asked) in (2, 3)  # the slot of the refused one may be taken before the tree knows
    assert len(calls_of(tmp_path / "run.db", "candidate")) == len(server.asked) - 1


def test_a_request_in_flight_of_a_failed_tree_is_not_sent_again(tmp_path: Path) -> None:
    steps = [REFUSED, {"status": 503, "delay": 0.2, "text": "busy"}]
    with fault_server.serving(lambda body: steps.pop(0) if steps else {}) as server:
        runtime = ia.Runtime(base_url=server.url)
        summary = simulated(tmp_path / "run.db", runtime, turns=1, branch=2, candidate="openai:m")
        assert list(summary.failed) == ["t00000"]
        assert len(server.asked) == 2


# The same fault in the first trees ------------------------------------------------------------------


class Refuses:
    """A chat model that refuses some of its calls, told apart by their number."""

    name = "refuses"
    same: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """What is the same about the refusals, in their order; calls after them are answered."""
    asked = 0

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        number = type(self).asked
        type(self).asked += 1
        if number >= len(self.same):
            return Reply(text="That sounds good.", model=self.name)
        error = FailedTreeError(f"the server said: message {number} has no role")
        error.same = self.same[number]
        raise error


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> type[Refuses]:
    monkeypatch.setattr(Refuses, "asked", 0)
    return Refuses


ALIKE = ("http://127.0.0.1/v1", "m", "400", "message has no role")


def test_the_same_refusal_in_the_first_three_trees_stops_the_run_with_the_servers_words(
    refusals: type[Refuses], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "same", (ALIKE,) * 100)
    settings = {"trees": 50, "turns": 1, "branch": 1, "inducer": "none", "candidate": "test_failed_trees:Refuses"}
    one_by_one = ia.Runtime(concurrency=1)
    with pytest.raises(
        StopError, match=r"the first 3 trees failed alike: the server said: message \d+ has no role; mend"
    ):
        ia.simulate(tmp_path / "run.db", runtime=one_by_one, **settings)
    assert refusals.asked <= 4
    with ia.open_run(tmp_path / "run.db") as run:
        assert run.count_trees()["failed"] >= 3
    monkeypatch.setattr(refusals, "same", ())
    assert ia.simulate(tmp_path / "run.db", runtime=one_by_one, **settings).done == 50


@pytest.mark.parametrize(
    "same", [((),) * 3, (ALIKE, (), ALIKE), (ALIKE, ALIKE, (*ALIKE[:3], "too long")), (ALIKE, ALIKE)]
)
def test_refusals_that_are_not_the_same_do_not_stop_the_run(
    same: tuple[tuple[str, ...], ...], refusals: type[Refuses], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "same", same)
    settings = {"trees": 6, "turns": 1, "branch": 1, "inducer": "none", "candidate": "test_failed_trees:Refuses"}
    summary = ia.simulate(tmp_path / "run.db", runtime=ia.Runtime(concurrency=1), **settings)
    assert (summary.done, len(summary.failed)) == (6 - len(same), len(same))


def test_the_same_refusal_of_a_new_judge_in_the_first_three_trees_stops_the_judging(
    refusals: type[Refuses], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ia.simulate(tmp_path / "run.db", trees=20, turns=1)
    monkeypatch.setattr(refusals, "same", (ALIKE,) * 100)
    with pytest.raises(StopError, match="the first 3 trees failed alike: the server said"):
        api.judge(tmp_path / "run.db", judge="test_failed_trees:Refuses", runtime=ia.Runtime(concurrency=1))
    assert refusals.asked < 10


# Told -----------------------------------------------------------------------------------------------


async def fails(ask: ia.CandidateAsk) -> ia.Said:
    """Every third tree is answered; of the others every second one fails for a reason of its own."""
    number = int(ask.at.tree[1:])
    if number % 3:
        raise FailedTreeError("no idea" if number % 3 == 1 else f"tree {number} is too long")
    return ia.Said(text="That sounds good.")


def test_trees_that_failed_for_the_same_reason_are_told_in_one_line(cli: Any) -> None:
    words = ("simulate", "run.db", "--trees", "14", "--turns", "1", "--candidate", "test_failed_trees:fails")
    ended = cli(*words)
    assert ended.code == 1
    lines = ended.err.splitlines()
    assert lines[0].startswith("5 of 14 trees done in run.db; ")
    assert sorted(lines[1:-1]) == [
        "failed: 5 trees: no idea (t00001, t00004, t00007, ...)",
        *(f"failed: t{number:05}: tree {number} is too long" for number in (2, 5, 8, 11)),
    ]
    assert lines[1].startswith("failed: 5 trees: ")
    assert lines[-1] == "9 trees failed; run the same command again to retry just these"


def test_two_trees_with_one_reason_are_both_named(cli: Any) -> None:
    ended = cli("simulate", "run.db", "--trees", "5", "--turns", "1", "--candidate", "test_failed_trees:fails")
    assert "failed: 2 trees: no idea (t00001, t00004)\n" in ended.err
