"""Shards and their merge, killed at any moment and run again, come out as the run that was never divided."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_kill import SEATS, Runner, runner  # noqa: F401  (a fixture)
from test_merge import calls, dumped, exported

import interalign as ia
from interalign import api

SETTINGS = ("--trees", "15", "--turns", "3", *SEATS, "--concurrency", "4")


@pytest.mark.slow
def test_twenty_kills_over_three_shards_and_their_merge_leave_no_trace(runner) -> None:  # noqa: F811
    whole: Runner = runner("whole")
    whole.start("simulate", "run.db", *SETTINGS)
    assert whole.end() == 0
    rng = random.Random(1916)
    shards = {number: runner(f"shard{number}") for number in (1, 2, 3)}
    files = [shard.run for shard in shards.values()]
    words = {number: ("simulate", "run.db", *SETTINGS, "--shard", f"{number}/3") for number in shards}
    out = whole.run.parent / "merged" / "run.db"
    out.parent.mkdir()
    for kill in range(20):
        number = kill % 3 + 1
        shard = shards[number]
        more = rng.randrange(2, 12)
        calls_then = min(len(shard.begun()) + more, len(whole.begun()) // 3 - 10)
        assert shard.signal_after(calls_then, rng.uniform(0, 0.02), signal.SIGKILL, *words[number]) in (
            -signal.SIGKILL,
            0,
        )
        if kill in (9, 15):  # whatever is there can be merged
            there = [file for file in files if file.exists()]
            assert not api.merge(out, there).is_whole
    for number, shard in shards.items():
        shard.start(*words[number])
        assert shard.end() == 0
    assert api.merge(out, files).is_whole
    assert exported(out) == {**exported(whole.run), "report": exported(out)["report"]}
    assert calls(out) == calls(whole.run)
    fresh = out.with_name("fresh.db")
    assert api.merge(fresh, files).is_whole
    assert calls(fresh) == calls(whole.run)


def merged(partial: Path) -> int:
    """Trees in an unfinished merge."""
    try:
        with api.open_run(partial) as run:
            return sum(run.count_trees().values())
    except (ia.InteralignError, OSError):  # not there yet, or moved to its place at this moment
        return 0


def test_a_merge_killed_again_and_again_makes_the_same_file(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        api.simulate(tmp_path / f"s{number}.db", trees=240, turns=1, shard=f"{number}/3")
    files = [f"s{number}.db" for number in (1, 2, 3)]
    api.merge(tmp_path / "whole.db", [tmp_path / file for file in files])
    partial = tmp_path / "out.db.merging"
    command = [Path(sys.executable).with_name("interalign"), "merge", "out.db", *files]
    sizes, rng = [0], random.Random(7)
    for _ in range(6):
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, env=os.environ) as process:
            while process.poll() is None and merged(partial) <= sizes[-1]:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.01))
            process.kill()
        if not partial.exists():
            break
        assert not (tmp_path / "out.db").exists()
        sizes.append(merged(partial))
        assert sizes[-1] > sizes[-2]
    assert len(sizes) > 2
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    assert not partial.exists()
    one, other = dumped(tmp_path / "out.db"), dumped(tmp_path / "whole.db")
    assert one.pop("runs")[0][2:] == other.pop("runs")[0][2:]
    assert one == other


@pytest.mark.slow
def test_a_limit_that_shards_share_holds_over_twenty_kills_and_what_was_leased_comes_back(tmp_path: Path) -> None:
    limit, rng, killed = 150_000, random.Random(11), 0
    command = [Path(sys.executable).with_name("interalign"), "simulate"]
    words = ["--trees", "400", "--turns", "2", "--max-tokens", str(limit), "--concurrency", "4"]

    def tokens() -> int:
        total = 0
        for file in tmp_path.glob("s?.db"):
            try:
                with api.open_run(file) as run:
                    total += sum(used.prompt_tokens + used.completion_tokens for used in run.usage().values())
            except ia.ConfigError:  # a shard that got nothing of the limit took its file away again
                assert not file.exists()
        return total

    def start(number: int) -> "subprocess.Popen[bytes]":
        shard = [f"s{number}.db", "--shard", f"{number}/4"]
        return subprocess.Popen([*command, *shard, *words], cwd=tmp_path, stderr=subprocess.DEVNULL)

    while killed < 20:
        processes = [start(number) for number in range(1, 5)]
        try:
            then = min(tokens() + rng.randrange(1000, 8000), limit - 30_000)
            while any(process.poll() is None for process in processes) and tokens() < then:
                time.sleep(0.005)
        finally:  # whatever fails here, nothing goes on running beside the tests that come after
            for process in processes:
                process.kill()
                process.wait()
                killed += 1
        assert tokens() <= limit
    processes = [start(number) for number in range(1, 5)]
    assert [process.wait() for process in processes] == [3] * 4
    assert 0.9 * limit < tokens() <= limit
