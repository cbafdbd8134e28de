"""`--workers N`: processes share the trees of a run; the file is that of one process, also after kills."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import fault_server
import pytest
from calls_seen import calls_of
from test_merge import RUNS, SIMULATION, calls, exported

import interalign as ia
from interalign.config import SimulationSettings, identity_of
from interalign.errors import ConfigError, StopError
from interalign.ledger.budget import Budget
from interalign.run.session import open_session
from interalign.run.workers import error_of_worker, runtime_of_one
from interalign.store import Store
from interalign.store.lease_file import LeaseFile
from interalign.store.worker_files import gather, split

USED = {"usage": {"prompt_tokens": 100, "completion_tokens": 20}}


@pytest.mark.parametrize(
    ("kind", "workers"), [("simulation", 2), ("simulation", 3), *((kind, 2) for kind in list(RUNS)[1:])]
)
def test_a_run_by_workers_exports_and_reports_byte_for_byte_as_by_one_process(
    kind: str, workers: int, tmp_path: Path
) -> None:
    grow, settings = RUNS[kind]
    whole, shared = tmp_path / "whole" / "run.db", tmp_path / "shared" / "run.db"
    for path in (whole, shared):
        path.parent.mkdir()
    one = grow(whole, **settings)
    several = grow(shared, workers=workers, **settings)
    assert [path.name for path in shared.parent.iterdir()] == ["run.db"]
    assert several.model_copy(update={"run": whole}) == one
    assert exported(shared) == exported(whole)
    assert calls(shared) == calls(whole)
    again = grow(shared, **settings)
    assert (again.done, again.calls) == (one.done, 0)


def test_workers_go_on_where_one_process_stopped_and_the_other_way_round(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "whole.db", **{**SIMULATION, "trees": 9})
    ia.simulate(tmp_path / "run.db", **{**SIMULATION, "trees": 2})
    second = ia.simulate(tmp_path / "run.db", workers=2, **{**SIMULATION, "trees": 6})
    assert (second.trees, second.done) == (6, 6)
    ia.simulate(tmp_path / "run.db", **{**SIMULATION, "trees": 9})
    assert exported(tmp_path / "run.db")["dpo"] == exported(tmp_path / "whole.db")["dpo"]
    assert calls(tmp_path / "run.db") == calls(tmp_path / "whole.db")


def test_a_shard_may_have_workers(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "one.db", shard="1/2", **SIMULATION)
    ia.simulate(tmp_path / "two.db", shard="1/2", workers=2, **SIMULATION)
    assert calls(tmp_path / "one.db") == calls(tmp_path / "two.db")


def test_neither_workers_nor_engine_is_a_part_of_what_the_run_is() -> None:
    assert identity_of(SimulationSettings(workers=4, engine="local")) == identity_of(SimulationSettings())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--workers", "0"), "workers"),
        (("--workers", "257"), "workers"),
        (("--engine", "spark"), "no engine 'spark': there are local, ray and ray://HOST:PORT"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: tuple[str, ...], says: str, cli, tmp_path: Path) -> None:
    ended = cli("simulate", "run.db", *words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert says in ended.err
    assert list(tmp_path.iterdir()) == []
    assert cli("simulate", "run.db", "--trees", "1", "--turns", "1", "--engine", "local").code == 0


def test_the_limit_holds_over_all_workers_and_more_lets_them_go_on(tmp_path: Path) -> None:
    def run(limit: int, workers: int) -> ia.RunSummary:
        return ia.simulate(
            tmp_path / "run.db", trees=6, turns=2, candidate="openai:m", workers=workers,
            parameters={"candidate": {"max_tokens": 50}},
            runtime=ia.Runtime(base_url=server.url, max_tokens=limit),
        )  # fmt: skip

    def tokens() -> int:
        with ia.open_run(tmp_path / "run.db") as opened:
            return sum(used.prompt_tokens + used.completion_tokens for used in opened.usage().values())

    with fault_server.serving(lambda body: {"top": USED}) as server:
        for workers in (2, 3):
            with pytest.raises(StopError, match="--max-tokens 4,000"):
                run(4000, workers)
            assert 2000 < tokens() <= 4000
        assert run(10**6, 2).done == 6
        assert len(server.asked) == 24
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]


def test_calls_of_unfinished_trees_count_once_in_the_limit_that_workers_share(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with pytest.raises(StopError, match="--max-tokens"):
        ia.simulate(path, trees=4, turns=2, runtime=ia.Runtime(max_tokens=6000, concurrency=4))
    with ia.open_run(path) as stopped:
        spent = sum(used.prompt_tokens + used.completion_tokens for used in stopped.usage().values())
        assert any(stopped.calls_of(tree.id) for tree in stopped.trees("planned"))

    async def leased() -> int:
        async with open_session(path, ia.Runtime(max_tokens=10**6), None) as session:
            files = split(session.store, 2)
            runtime_of_one(session, 2)
            for file in files:  # as a worker begins
                with Store.create_or_open(file) as part:
                    used = [(model, use) for (_, model), use in part.usage_by_model().items()]
                budget = Budget(ia.Runtime(max_tokens=10**6), used)
                budget.share(
                    LeaseFile(session.budget_file, file, max_usd=None, max_tokens=10**6, spent_in=lambda _: None)
                )
            with closing(sqlite3.connect(session.budget_file)) as db:
                (tokens,) = db.execute("SELECT sum(tokens) FROM leases").fetchone()
            gather(session.store)
            return int(tokens)

    assert asyncio.run(leased()) == spent


def test_what_was_left_of_another_run_is_not_taken_up(tmp_path: Path) -> None:
    (tmp_path / "run.db.workers").mkdir()
    with pytest.raises(ConfigError, match="a run that is gone; remove it, or restore the run"):
        ia.simulate(tmp_path / "run.db", **SIMULATION)
    assert [path.name for path in tmp_path.iterdir()] == ["run.db.workers"]


GOES_ON = "what was finished is kept, run the same command again to go on"


@pytest.mark.parametrize(
    ("end", "code", "error"),
    [
        (None, -9, StopError(f"worker 2 ended by signal 9 (out of memory?); {GOES_ON}")),
        (None, -11, StopError(f"worker 2 ended by signal 11; {GOES_ON}")),
        (None, 1, StopError(f"worker 2 ended with exit code 1; {GOES_ON}")),
        ({"end": "no budget", "code": 2}, 0, ConfigError("no budget")),
        ({"end": "unexpected MemoryError: ", "code": 3}, 0, StopError("unexpected MemoryError: ")),
        ({"end": None, "code": 0}, 0, None),
    ],
)
def test_how_a_worker_ended_is_told(end: dict[str, Any] | None, code: int, error: Exception | None) -> None:
    told = error_of_worker(2, end, code)
    assert (type(told), str(told)) == (type(error), str(error))


SEATS = ("--user", "scripted_roles:user", "--inducer", "scripted_roles:inducer")
SEATS = (*SEATS, "--candidate", "scripted_roles:candidate", "--judge", "scripted_roles:judge")
WORDS = ("simulate", "run.db", "--trees", "12", "--turns", "2", "--concurrency", "4", *SEATS)


def started(folder: Path, *words: str) -> "subprocess.Popen[str]":
    path = os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])
    return subprocess.Popen(
        [Path(sys.executable).with_name("interalign"), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "CALL_LOG": str(folder / "log")},
        stderr=subprocess.PIPE,
        text=True,
    )


def begun(folder: Path) -> int:
    """Calls begun so far."""
    log = folder / "log"
    return log.read_text().count("\n") if log.exists() else 0


def until_begun(folder: Path, lines: int, process: "subprocess.Popen[str]") -> None:
    while process.poll() is None and begun(folder) < lines:
        time.sleep(0.002)


def one_process(folder: Path) -> Path:
    folder.mkdir()
    with started(folder, *WORDS) as process:
        assert process.wait() == 0
    return folder / "run.db"


@pytest.mark.slow
def test_after_kills_of_the_command_and_of_its_workers_the_run_is_that_of_one_process(tmp_path: Path) -> None:
    whole = one_process(tmp_path / "whole")
    total = len(calls_of(whole))
    folder = tmp_path / "broken"
    folder.mkdir()
    rng = random.Random(16)
    for kill in range(8):
        with started(folder, *WORDS, "--workers", "2") as process:
            until_begun(folder, begun(folder) + rng.randrange(5, 30), process)
            if kill % 2:
                children = list[str]()
                with suppress(FileNotFoundError):  # it has just ended
                    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                if children:
                    os.kill(int(rng.choice(children)), signal.SIGKILL)
                assert process.wait() in (0, 3)
            else:
                process.kill()
                process.wait()
    ended = 3
    while ended == 3:  # a worker whose command was killed leaves by itself, a moment later
        with started(folder, *WORDS, "--workers", "2") as process:
            ended = process.wait()
    assert ended == 0
    assert exported(folder / "run.db") == exported(whole)
    assert calls(folder / "run.db") == calls(whole)
    assert not (folder / "run.db.workers").exists()
    assert begun(folder) - total <= 8 * 2 * 4 * 2


def test_an_interrupt_stops_all_workers_and_what_they_have_grown_is_in_the_run(tmp_path: Path) -> None:
    whole = one_process(tmp_path / "whole")
    folder = tmp_path / "stopped"
    folder.mkdir()
    with started(folder, *WORDS, "--workers", "2") as process:
        until_begun(folder, 40, process)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 3
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1] == (
            "interalign: interrupted; what was finished is kept, run the same command again to go on"
        )
    assert not (folder / "run.db.workers").exists()
    assert len(calls_of(folder / "run.db")) >= 40 - 2 * 4
    with started(folder, *WORDS) as process:
        assert process.wait() == 0
    assert calls(folder / "run.db") == calls(whole)
