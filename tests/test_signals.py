"""Ctrl-C and `kill`: the first one lets the calls in flight finish, the second one leaves at once."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fault_server
import pytest
from calls_seen import calls_of

import interalign as ia

SHAPE = ("--trees", "12", "--turns", "2", "--candidate", "openai:m", "--concurrency", "4")
STOPPED = "interalign: interrupted; what was finished is kept, run the same command again to go on\n"
LEFT = "interalign: left at once; run the same command again to go on\n"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Start the installed command on `run.db` in the test's folder."""
    processes = []

    def start(url: str, *more: str) -> "subprocess.Popen[str]":
        words = [Path(sys.executable).with_name("interalign"), "simulate", "run.db", *SHAPE, "--base-url", url, *more]
        process = subprocess.Popen(
            words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # which `nohup` lets the tests ignore
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def wait_for(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(0.005)


def exported(run: Path) -> bytes:
    ia.export(run, run.with_suffix(".jsonl"), format="messages")
    return run.with_suffix(".jsonl").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_lets_what_is_in_flight_finish_and_puts_it_on_record(
    number: signal.Signals, started: Any, tmp_path: Path
) -> None:
    with fault_server.serving(lambda body: {"delay": 0.6}) as server:
        process = started(server.url)
        wait_for(lambda: len(server.asked) == 8)  # four are answered, four are in flight
        process.send_signal(number)
        _, said = process.communicate()
        assert (process.returncode, said) == (3, STOPPED)
        assert len(server.asked) == 8
        assert server.dropped == 0
    assert len(calls_of(tmp_path / "run.db", "candidate")) == 8
    with fault_server.serving() as server:
        again = started(server.url)
        again.communicate()
        assert again.returncode == 0
        assert len(server.asked) == 48 - 8
        whole = tmp_path / "whole.db"
        ia.simulate(whole, trees=12, turns=2, candidate="openai:m", runtime=ia.Runtime(base_url=server.url))
    assert exported(tmp_path / "run.db") == exported(whole)


def test_the_second_signal_leaves_at_once_and_the_same_command_goes_on(started: Any, tmp_path: Path) -> None:
    hanging = {"first": 4}

    def plan(body: dict[str, Any]) -> fault_server.Step:
        hanging["first"] -= 1
        return {} if hanging["first"] >= 0 else {"hang": True}

    with fault_server.serving(plan) as server:
        process = started(server.url)
        wait_for(lambda: len(server.asked) == 8)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert process.poll() is None  # it waits for the four in flight
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        assert (process.returncode, said) == (3, LEFT)
    with fault_server.serving() as server:
        again = started(server.url)
        _, said = again.communicate()
        assert (again.returncode, said.partition(" trees")[0]) == (0, "12 of 12")
        assert len(server.asked) == 48 - 4


def test_with_log_json_the_last_line_of_a_process_that_leaves_at_once_is_json_too(started: Any) -> None:
    with fault_server.serving(lambda body: {"hang": True}) as server:
        process = started(server.url, "--log-json")
        wait_for(lambda: len(server.asked) == 4)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGHUP)  # says nothing new: a shell sends it after the terminal did
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    last = [json.loads(line) for line in said.splitlines()][-1]
    assert (process.returncode, last["event"], last["exit"]) == (3, "error", 3)
    assert last["message"] == "left at once; run the same command again to go on"


def test_somebody_at_a_terminal_is_told_at_once_that_the_run_is_stopping(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with fault_server.serving(lambda body: {"delay": 1.0}) as server, os.fdopen(slave, "w") as stream:
        words = [Path(sys.executable).with_name("interalign"), "simulate", "run.db", *SHAPE, "--base-url", server.url]
        process = subprocess.Popen(words, cwd=tmp_path, stderr=stream, env=os.environ)
        wait_for(lambda: len(server.asked) == 4)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 3
    said = os.read(master, 1 << 20).decode()
    os.close(master)
    assert said.index("stopping: calls in flight get 10 s to finish") < said.index("interrupted; what was finished")


def test_handlers_of_the_program_around_a_run_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    ia.simulate(tmp_path / "run.db", trees=1, turns=1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_command_that_is_no_run_ends_with_3_at_a_kill_too(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "import interalign.api as api, interalign.cli as cli\n"
        "api.personas_stats = lambda *given, **options: os.kill(os.getpid(), signal.SIGTERM) or {}\n"
        "sys.argv = ['interalign', 'personas', 'stats', 'x']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, STOPPED)
