"""A judge that cannot be read stops the run; what is missing, cut or was asked again is told at the end."""

import json
from collections.abc import Callable
from pathlib import Path

import loopback
import pytest
from calls_seen import calls_of, trees_of
from conftest import Ended

import interalign as ia
from interalign.store import Store

Cli = Callable[..., Ended]
UNREAD = "none of the first 20 questions to the judge"
TALK = ("--candidate", "world:average", "--turns", "5")


def values_of(path: str, judge: str) -> list[object]:
    own = [judged.by_judge(judge) for judged in trees_of(path)]
    said = [order.value for judged in own for verdict in judged.verdicts for order in verdict.orders]
    return [*said, *(score.value for judged in own for score in judged.scores)]


@pytest.mark.parametrize(
    "command",
    [
        ("simulate", "run.db", "--trees", "8", *TALK),
        ("simulate", "run.db", "--trees", "8", "--judging", "score", *TALK),
        ("evaluate", "run.db", "--limit", "16", *TALK),
    ],
)
def test_a_judge_whose_first_answers_cannot_be_read_stops_the_run_and_a_reply_is_shown(
    command: tuple[str, ...], cli: Cli
) -> None:
    whole = (*command, "--judge", "mendable_judges:model", "--concurrency", "2")
    stopped = cli(*whole)
    assert stopped.code == 3
    assert stopped.err.count("\n") == 1
    assert f"{UNREAD} mendable_judges:model had a readable answer; it said 'Both are lovely.'" in stopped.err
    asked = {(call.tree, call.node) for call in calls_of("run.db", "judge")}
    assert 20 <= len(asked) <= 24
    # Not mended: the questions are asked anew, and it stops again.
    again = cli(*whole)
    assert (again.code, UNREAD in again.err) == (3, True)
    # Mended: the same command goes on, and what could not be read is asked anew, not missing.
    Path("MENDED").touch()
    ended = cli(*whole)
    assert ended.code == 0
    assert set(values_of("run.db", "mendable_judges:model")) <= {"A", 4}
    with ia.open_run("run.db") as run:
        assert run.judge_counts("mendable_judges:model").missing == 0


def test_judging_again_stops_likewise_and_once_the_judge_is_mended_asks_anew(cli: Cli) -> None:
    assert cli("simulate", "run.db", "--trees", "8", *TALK).code == 0
    again = ("judge", "run.db", "--judge", "mendable_judges:model", "--concurrency", "2")
    stopped = cli(*again)
    assert (stopped.code, UNREAD in stopped.err) == (3, True)
    Path("MENDED").touch()
    assert cli(*again).code == 0
    assert values_of("run.db", "mendable_judges:model") == ["A"] * 80
    assert [record.status for record in open_trees("run.db")] == ["done"] * 8
    assert "; 0 calls made" in cli(*again).err


def open_trees(path: str) -> list[object]:
    with ia.open_run(path) as run:
        return list(run.trees())


def test_a_run_killed_before_the_twentieth_question_still_stops_there_when_it_goes_on(cli: Cli) -> None:
    whole = ("simulate", "run.db", "--trees", "8", *TALK, "--judge", "mendable_judges:model", "--concurrency", "1")
    assert cli(*whole, "--max-tokens", "6000").code == 3
    before = len({(call.tree, call.node) for call in calls_of("run.db", "judge")})
    assert 0 < before < 20
    stopped = cli(*whole)
    assert (stopped.code, UNREAD in stopped.err) == (3, True)
    assert len({(call.tree, call.node) for call in calls_of("run.db", "judge")}) <= 22


def test_one_readable_answer_in_twenty_is_enough(cli: Cli) -> None:
    judge = ("--judge", "mendable_judges:ReadsTheTwentieth", "--concurrency", "1")
    ended = cli("simulate", "run.db", "--trees", "8", *TALK, *judge)
    assert ended.code == 0
    assert "79 of 80 answers of judge mendable_judges:ReadsTheTwentieth are missing" in ended.err


def test_fewer_questions_than_twenty_are_too_few_to_tell_and_are_counted_as_missing(cli: Cli) -> None:
    judge = ("--judge", "world:blind", "--turns", "3")
    ended = cli("simulate", "run.db", "--trees", "3", *judge)
    assert ended.code == 0
    assert ended.err.splitlines()[1] == "18 of 18 answers of judge world:blind are missing; asked again: judge 18"


def test_a_judge_that_says_nothing_at_all_is_told_so(cli: Cli) -> None:
    stopped = cli("simulate", "run.db", "--trees", "8", *TALK, "--judge", "mendable_judges:Silent")
    assert (stopped.code, "had a readable answer; it said nothing at all." in stopped.err) == (3, True)


def test_a_judge_that_had_readable_answers_before_is_not_stopped_when_the_run_goes_on(cli: Cli) -> None:
    Path("MENDED").touch()
    few = ("simulate", "run.db", *TALK, "--judge", "mendable_judges:model")
    assert cli(*few, "--trees", "1").code == 0
    Path("MENDED").unlink()
    more = cli(*few, "--trees", "4")
    assert more.code == 0
    assert "30 of 40 answers of judge mendable_judges:model are missing" in more.err


# Whose verdicts count


def test_the_judge_of_report_view_and_export_is_the_newest_that_could_be_read(cli: Cli) -> None:
    assert cli("simulate", "run.db", "--trees", "4", *TALK).code == 0
    assert cli("export", "run.db", "--format", "dpo", "--out", "before.jsonl").code == 0
    assert cli("judge", "run.db", "--judge", "world:blind").code == 3
    with ia.open_run("run.db") as run:
        assert (run.judges()[0], run.newest_judge()) == ("world:judge", "world:judge")
        assert run.readable_judges() == ["world:judge"]
    assert cli("export", "run.db", "--format", "dpo", "--out", "after.jsonl").code == 0
    assert Path("after.jsonl").read_bytes() == Path("before.jsonl").read_bytes() != b""
    assert json.loads(cli("report", "run.db", "--json").out)["judge"]["name"] == "world:judge"
    assert cli("view", "run.db", "--export", "run.html").code == 0
    assert cli("judge", "run.db", "--judge", "world:judge?noise=0.5").code == 0
    with ia.open_run("run.db") as run:
        assert run.newest_judge() == "world:judge?noise=0.5"


def test_the_only_judge_is_the_newest_whether_it_could_be_read_or_not(cli: Cli) -> None:
    cli("simulate", "run.db", "--trees", "1", "--turns", "1", "--judge", "world:blind")
    with ia.open_run("run.db") as run:
        assert (run.newest_judge(), run.readable_judges()) == ("world:blind", ["world:blind"])
        assert run.has_readable("world:blind") is False
    assert json.loads(cli("report", "run.db", "--json").out)["judge"]["name"] == "world:blind"


def test_of_two_judges_that_could_not_be_read_the_last_counts(cli: Cli) -> None:
    cli("simulate", "run.db", "--trees", "1", "--turns", "1", "--judge", "world:blind")
    cli("judge", "run.db", "--judge", "world:average")
    with Store.open(Path("run.db")) as run:
        assert run.newest_judge() == "world:average"


# Counts


def cut(text: str) -> tuple[int, dict[str, object]]:
    status, body = loopback.completion(text)
    return status, {**body, "choices": [{**body["choices"][0], "finish_reason": "length"}]}


def test_cut_replies_are_counted_by_role_at_the_end_of_a_run_in_the_report_and_at_an_export(cli: Cli) -> None:
    def answer(body: dict[str, object]) -> tuple[int, dict[str, object]]:
        return cut("I would, becau") if body["model"] == "cut" else cut("Reason.\nVerdict: A")

    with loopback.serving(answer) as server:
        seats = ("--candidate", "openai:cut", "--judge", "openai:j", "--base-url", server.url)
        ended = cli("simulate", "run.db", "--trees", "2", "--turns", "2", *seats)
    assert ended.code == 0
    assert ended.err.splitlines()[-1] == "cut at the length limit: candidate 8, judge 8"
    report = json.loads(cli("report", "run.db", "--json").out)
    assert report["replies"]["candidate"] == {"asked_again": 0, "cut": 8}
    assert report["replies"]["judge"] == {"asked_again": 0, "cut": 8}
    assert report["replies"]["user"] == {"asked_again": 0, "cut": 0}
    assert ", 8 cut at the length limit" in cli("report", "run.db").out
    exported = cli("export", "run.db", "--format", "messages", "--out", "out.jsonl")
    assert exported.err.splitlines()[1:] == ["cut at the length limit: candidate 8, judge 8"]


def test_an_export_says_how_many_answers_of_its_judge_are_missing(cli: Cli) -> None:
    cli("simulate", "run.db", "--trees", "2", "--turns", "2")
    cli("judge", "run.db", "--judge", "world:blind")
    plain = cli("export", "run.db", "--format", "dpo", "--out", "out.jsonl")
    assert plain.err.splitlines()[1:] == ["asked again: judge 8"]
    blind = cli("export", "run.db", "--format", "dpo", "--out", "out.jsonl", "--judge", "world:blind")
    assert blind.err.splitlines()[1] == "8 of 8 answers of judge world:blind are missing; asked again: judge 8"


def test_a_run_in_which_nothing_fell_short_says_nothing_of_it(cli: Cli) -> None:
    ended = cli("simulate", "run.db", "--trees", "1", "--turns", "1")
    assert ended.err == (
        "1 of 1 trees done in run.db; 6 calls made, 0 answered from the ledger; `interalign view run.db` shows them\n"
    )
    assert cli("export", "run.db", "--format", "messages", "--out", "out.jsonl").err.count("\n") == 1


def test_machines_are_told_the_counts_of_every_run(cli: Cli) -> None:
    ended = cli("evaluate", "run.db", "--candidate", "world:average", "--limit", "1", "--turns", "2", "--log-json")
    last = json.loads(ended.err.splitlines()[-1])
    assert (last["event"], last["done"]) == ("end", 1)
    assert last["shortfalls"]["judge"] == {"judge": "world:judge", "asked": 2, "missing": 0}
    assert last["shortfalls"]["replies"]["candidate"] == {"asked_again": 0, "cut": 0}


def test_the_summary_of_a_run_holds_the_counts(tmp_path: Path) -> None:
    summary = ia.simulate(tmp_path / "run.db", trees=1, turns=2, judge="world:blind", judging="score")
    assert summary.shortfalls is not None
    assert summary.shortfalls.judge is not None
    assert (summary.shortfalls.judge.asked, summary.shortfalls.judge.missing) == (4, 4)
    assert summary.shortfalls.replies["judge"].asked_again == 4
