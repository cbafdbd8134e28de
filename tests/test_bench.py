"""Every bench of the real-models goals runs, at its smallest, and prints its table. No time is asserted."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
TINY = {
    "prefix_cache.py": ["--trees", "2", "--turns", "2", "--words", "0", "20"],
    "scale.py": ["--sizes", "2", "4"],
    "kills.py": ["--kills", "2", "--trees", "4", "--turns", "2", "--latency", "0.05"],
}


def bench(name: str, *options: str | Path) -> str:
    """What the bench prints. Whether its goals hold at this size means nothing: 1 says that one does not."""
    done = subprocess.run([sys.executable, BENCH / name, *options], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def rows(table: str) -> dict[str, list[str]]:
    """The cells of a printed table, by the first one of their row."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in cells}


@pytest.mark.train
@pytest.mark.slow
def test_packed_trees_are_measured_beside_trls_own_pairs() -> None:
    pytest.importorskip("trl")
    found = rows(bench("tree_dpo.py", "--trees", "1", "--width", "16", "--repeats", "1"))
    assert float(found["sorted"][3]) > 6
    assert float(found["default"][3]) > 6


@pytest.mark.slow
def test_speed_runs_all_four_programs_and_prints_every_figure_with_its_goal(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    found = rows(
        bench(
            *("speed.py", "--conversations", "2", "--turns", "1", "--repeats", "1"),
            *("--only", "cpu", "persistence", "--json", out),
        )
    )
    assert {name: cells[1] for name, cells in found.items() if cells[1][:2] in ("<=", ">=")} == {
        "CPU per call, no delay, concurrency 16, recorded / bare AsyncOpenAI": "<= 0.75",
        "CPU of persistence: recorded / unrecorded, median of rounds in turn": "<= 1.15",
        "disk per conversation of 1 turns, 6 calls, kB": "<= 80",
    }
    figures = json.loads(out.read_text())
    assert {figure["name"].strip() for figure in figures} == {name for name in found if name.strip("-")}
    assert all(len(figure["values"]) == 1 and figure["values"][0] > 0 for figure in figures)


def test_ratios_are_taken_within_a_repeat_and_goals_held_by_their_median(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from speed import busy_rows, rate_rows, table

    asked = argparse.Namespace(latency=0.1, concurrency=64)

    def took(seconds: float, in_flight: float = 0.0, refused: int = 0) -> dict[str, Any]:
        server = {"steady_in_flight": in_flight, "mean_in_flight": in_flight, "refused": refused}
        return {"calls": 60, "wall": seconds, "server": server}

    speeds = [(2.0, 4.0, 1.0), (2.0, 4.0, 4.0), (3.0, 3.0, 1.0)]
    found = [{"bare": took(a), "langgraph": took(b), "interalign": took(c)} for a, b, c in speeds]
    told = rows(table(list(rate_rows(found, asked))))
    assert told["calls/s, 100 ms latency, concurrency 64, recorded / bare AsyncOpenAI"] == [
        *("2.00 (0.50 to 3.00)", ">= 1", "yes")
    ]
    assert told["calls/s, interalign"] == ["60.00 (15.00 to 60.00)", "", ""]
    assert told["calls/s, all slots busy all the time"] == ["640.00", "", ""]
    shares = [{"bare": took(1.0, 8.0), "interalign": took(1.0, busy, refused)} for busy, refused in [(12, 0), (16, 1)]]
    told = rows(table(list(busy_rows(shares, asked))))
    assert told["share of the cap kept busy, 100 ms latency, concurrency 16, steady"] == [
        *("0.88 (0.75 to 1.00)", ">= 0.88", "NO")  # 0.875
    ]
    assert told["requests above the cap"] == ["0.50 (0.00 to 1.00)", "0", "NO"]


def test_uncached_tokens_are_fewer_than_all_tokens_in_both_talks() -> None:
    said = bench("prefix_cache.py", *TINY["prefix_cache.py"])
    first, second = said.split("interalign / the paper")[:2]
    for talk in (first, second):
        *by_role, whole, _, without = (cell.split()[0] if cell else "" for cell in rows(talk)["interalign"])
        assert abs(sum(map(int, by_role)) - int(whole)) <= 2  # each is rounded
        assert 0 < int(whole) < int(without)
    assert "1,187" in said


def test_coverage_is_counted_for_every_planted_judge() -> None:
    found = bench("coverage.py", "--evaluations", "2", "--labels", "160")
    assert re.findall(r"^(\S+) \| audit alarms", found, re.MULTILINE) == [
        "sound", "biased", "noisy", "length-loving", "favouring",
    ]  # fmt: skip
    assert "biased | raw mean AL | 0.000" in found


def test_every_panel_is_counted_by_every_way_of_labelling() -> None:
    said = bench("panel.py", "--trees", "2", "--turns", "1")
    assert re.findall(r"^(.+); noise -> weight", said, re.MULTILINE) == [
        "three alike", "three unlike", "five, three of them poor", "one good, four near coins",
    ]  # fmt: skip
    assert set(rows(said)) >= {"best member", "majority", "unweighted answers", "weighted"}
    assert said.count("right, weighted - majority: ") == 4


def test_a_finished_run_is_resumed_without_a_call() -> None:
    found = rows(bench("scale.py", *TINY["scale.py"]))
    assert found["calls made"] == ["0", "0", "yes"]
    assert {"peak memory, 4 / 2 trees", "resume of 4 trees, s"} <= set(found)


@pytest.mark.slow
def test_after_two_kills_nothing_is_lost_and_the_exports_are_those_of_an_unbroken_run() -> None:
    said = bench("kills.py", *TINY["kills.py"])
    assert re.match(r"2 kills \(and 0 commands done before theirs\), 48 calls", said)
    assert {name: cells[-1] for name, cells in rows(said).items() if cells[-1] == "NO"} == {}
    assert rows(said)["exports equal an unbroken run's"] == ["yes", "yes", "yes"]


def test_the_fake_server_refuses_what_is_above_its_cap_and_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import asyncio

    from fake_server import serving
    from openai import APIStatusError, AsyncOpenAI

    async def statuses(url: str) -> list[int]:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            ask = client.chat.completions.create
            asked = [ask(model="m", messages=[{"role": "user", "content": f"word {number}"}]) for number in range(3)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            return sorted(one.status_code if isinstance(one, APIStatusError) else 200 for one in found)

    with serving("--latency", "0.3", "--cap", "2") as server:
        assert asyncio.run(statuses(server.url)) == [200, 200, 429]
        seen = server.counters()
        assert (seen["requests"], seen["most_in_flight"], seen["refused"]) == (3, 3, 1)
        server.reset()
        assert server.counters()["requests"] == 0


@pytest.mark.parametrize(
    ("prompt", "last"),
    [
        ("Reply A:\n| b\n\nReply B:\n| a\n\n... `Verdict: A`", "Verdict: A"),
        ("Reply A:\n| a\n\nReply B:\n| b\n\n... `Verdict: A`", "Verdict: B"),
        ("... `Score: N`", "Score: 3"),
    ],
)
def test_the_fake_server_answers_a_judges_prompt_in_the_contracts_form_and_favours_no_order(
    monkeypatch: pytest.MonkeyPatch, prompt: str, last: str
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from fake_server import reply_to

    assert reply_to(prompt, 12, 10).splitlines()[-1] == last


def test_what_every_command_costs_once_is_told_apart_from_what_a_tree_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from engines import Cost, Figures, figures, table

    one = figures(Cost(wall=3.0, cpu=2.5), Cost(wall=5.0, cpu=4.5), (10, 110))
    two = figures(Cost(wall=4.0, cpu=4.0), Cost(wall=5.0, cpu=6.2), (10, 110))
    assert one == pytest.approx(Figures(2.8, 2.3, 20.0, 20.0))
    assert two == pytest.approx(Figures(3.9, 3.78, 10.0, 22.0))
    found = rows(table({"local": one, "workers": two, "ray": two}, {"local": True, "workers": True, "ray": False}))
    assert found["one process"] == ["2.8", "2.3", "20.0", "20.0", "1.00", "yes"]
    assert found["--workers 2"] == ["3.9", "3.8", "10.0", "22.0", "1.10", "yes"]
    assert found["Ray, 3 tasks"] == ["3.9", "", "10.0", "", "", "NO"]


@pytest.mark.slow
def test_engines_are_measured_beside_one_process_and_export_alike() -> None:
    found = rows(bench("engines.py", "--trees", "2", "4", "--turns", "1", "--only", "local", "workers"))
    assert [cells[-1] for cells in (found["one process"], found["--workers 2"])] == ["yes", "yes"]
