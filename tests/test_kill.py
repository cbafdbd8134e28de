"""Killed at any moment, a run goes on with the same command as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from calls_seen import calls_of, trees_of
from forks import Forks
from scripted_roles import marks_in, request_hash

import interalign as ia

CONCURRENCY = 4
KILLS = 10
SEATS = ("--user", "scripted_roles:user", "--inducer", "scripted_roles:inducer")
SEATS = (*SEATS, "--candidate", "scripted_roles:candidate", "--judge", "scripted_roles:judge")
SHAPES = {
    "caterpillar, compared": ("--trees", "20", "--turns", "4"),
    "beam, scored": ("--trees", "10", "--turns", "4", "--policy", "beam:2", "--judging", "score"),
}


class Runner:
    """Commands in processes of their own, all in one folder, with a log of every model call that was begun."""

    def __init__(self, forks: Forks, folder: Path) -> None:
        folder.mkdir()
        self._forks = forks
        self._folder = folder
        self.run = folder / "run.db"

    def start(self, *words: str) -> int:
        """Process id of the command."""
        with (self._folder / "messages").open("a") as said:
            streams = {"out": said.fileno(), "err": said.fileno()}
            return self._forks.start(self._folder, *words, **streams, env={"CALL_LOG": str(self._folder / "log")})

    def end(self) -> int:
        """How the command ended: its exit code, or minus the signal's number."""
        return self._forks.end()

    def begun(self) -> list[str]:
        """Calls that were begun so far, by all commands together, `ROLE HASH` each."""
        return [" ".join(line.split()[:2]) for line in self._lines()]

    def seen(self) -> set[str]:
        """Marks of the replies that any role was shown so far."""
        return {mark for line in self._lines() for mark in line.split()[2:]}

    def _lines(self) -> list[str]:
        log = self._folder / "log"
        return log.read_text().split("\n")[:-1] if log.exists() else []

    def messages(self) -> str:
        """What the commands have said."""
        return (self._folder / "messages").read_text()

    def signal_after(self, calls: int, pause: float, number: signal.Signals, *words: str) -> int:
        """Send the signal once so many calls were begun and `pause` seconds have passed; how the command ended."""
        pid = self.start(*words)
        waited = time.monotonic()
        while len(self.begun()) < calls:
            assert time.monotonic() - waited < 60, "the run does not get anywhere"
            time.sleep(0.001)
        time.sleep(pause)
        os.kill(pid, number)
        return self.end()


@pytest.fixture
def runner(forks: Forks, tmp_path: Path) -> Callable[[str], Runner]:
    """Makes a runner in a folder of the test's."""
    return lambda name: Runner(forks, tmp_path / name)


def exports(run: Path) -> list[bytes]:
    written = []
    for name in ("sft", "dpo", "messages"):
        ia.export(run, run.with_suffix(f".{name}.jsonl"), format=name)
        written.append(run.with_suffix(f".{name}.jsonl").read_bytes())
    return written


class Kept(NamedTuple):
    """What is in the file."""

    calls: set[str]
    """Named as in the log."""
    marks: set[str]
    """Of their replies."""


def committed(run: Path) -> Kept:
    calls = calls_of(run) if run.exists() else []
    replies = [ia.Message(role="assistant", content=call.reply) for call in calls if call.role in ("user", "candidate")]
    return Kept({f"{call.role} {request_hash(call.messages)}" for call in calls}, set(marks_in(replies)))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_after_ten_kills_the_exports_are_those_of_an_unbroken_run_and_no_committed_reply_was_asked_for_again(
    shape, runner
) -> None:
    whole = runner("whole")
    settings = ("simulate", "run.db", *shape, *SEATS, "--concurrency", str(CONCURRENCY))
    whole.start(*settings)
    assert whole.end() == 0
    calls = whole.begun()
    assert len(set(calls)) == len(calls) > 400

    broken = runner("broken")
    rng = random.Random(2026)
    moments = sorted(rng.randrange(len(calls) - 20) for _ in range(KILLS - 2))
    begun_before = 0
    committed_before: set[str] = set()
    for moment in (0, 0, *moments):  # the first two fall into the making of the file
        pause = rng.uniform(0, 0.02)
        assert broken.signal_after(moment, pause, signal.SIGKILL, *settings) == -signal.SIGKILL
        begun, (kept, marks) = broken.begun(), committed(broken.run)
        assert committed_before <= kept
        new = begun[begun_before:]
        assert committed_before.isdisjoint(new)
        # What the kill has cost: begun, perhaps paid for, and not kept.
        assert len(set(new) - kept) <= 2 * CONCURRENCY
        # A reply is in the file before anybody sees it.
        assert broken.seen() <= marks
        begun_before, committed_before = len(begun), kept

    broken.start(*settings)
    assert broken.end() == 0
    assert committed_before.isdisjoint(broken.begun()[begun_before:])
    assert set(broken.begun()) == set(calls)
    assert len(broken.begun()) - len(calls) <= KILLS * 2 * CONCURRENCY
    assert exports(broken.run) == exports(whole.run)
    assert trees_of(broken.run) == trees_of(whole.run)


def test_an_interrupt_ends_with_exit_code_3_and_one_line_and_the_same_command_goes_on(runner) -> None:
    stopped = runner("interrupted")
    settings = ("simulate", "run.db", "--trees", "12", "--turns", "4", *SEATS, "--concurrency", str(CONCURRENCY))
    assert stopped.signal_after(100, 0.0, signal.SIGINT, *settings) == 3
    # What runs for more than 20 s, on a busy machine, also says how to look at it.
    assert [line for line in stopped.messages().splitlines() if "shows it as it grows" not in line] == [
        "interalign: interrupted; what was finished is kept, run the same command again to go on"
    ]
    kept = committed(stopped.run).calls
    assert len(kept) >= 100 - 2 * CONCURRENCY
    begun = len(stopped.begun())
    stopped.start(*settings)
    assert stopped.end() == 0
    assert kept.isdisjoint(stopped.begun()[begun:])
    whole = runner("whole")
    whole.start(*settings)
    assert whole.end() == 0
    assert exports(stopped.run) == exports(whole.run)


def test_the_installed_command_killed_and_run_again_comes_out_the_same(tmp_path: Path, command, runner) -> None:
    """Once with the real command from its very start, not a fork of something that is already warm."""
    log = tmp_path / "log"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])
    env = {"CALL_LOG": str(log), "PYTHONPATH": path}
    words = ["simulate", "run.db", "--trees", "8", "--turns", "3", *SEATS]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("interalign"), *words], cwd=tmp_path, env={**os.environ, **env}
    )
    while not log.exists() or log.read_text().count("\n") < 40:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    ended = command(*words, env=env)
    assert ended.code == 0
    assert ended.err.startswith("8 of 8 trees done in run.db; ")
    whole = runner("whole")
    whole.start(*words)
    assert whole.end() == 0
    assert exports(tmp_path / "run.db") == exports(whole.run)
