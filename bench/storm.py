"""A run through a storm: 30 % 429 with Retry-After, 5 % resets, 2 % hangs, then a server that is well again.

    python bench/storm.py [--trees 300] [--requests 1000] [--latency 0.2] [--concurrency 16] [--deadline 120]

The server, with its clock, is a process of its own; it is the one that tests/test_faults.py uses. Prints how many trees
were done, whether the data are those of a calm run, and how many seconds after the storm's end the server got 80 % of
the requests a second that it got in the calm run (goal: within 10 s). Ends with 1 if a goal is missed.
"""

import argparse
import logging
import multiprocessing
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import interalign as ia

TESTS = Path(__file__).resolve().parent.parent / "tests"
WINDOW = 2.0
"""Seconds over which a rate is taken."""


class Came(NamedTuple):
    """What came of a run, the server's part by its own clock."""

    done: int
    failed: int
    seconds: float
    times: list[float]
    """When the requests came, from the first one on."""
    struck: dict[str, int]
    most: int
    """Requests in flight at once."""
    data: bytes


def serve(pipe: Connection, requests: int, latency: float) -> None:
    """The server's process: says its address, and what it saw when it is told to end."""
    sys.path.insert(0, str(TESTS))
    from fault_server import Storm, serving

    with serving() as server:
        weather = Storm(server, requests, latency)
        server.plan = weather
        pipe.send(server.url)
        pipe.recv()
        pipe.send((server.times, dict(weather.struck), server.most_in_flight))


def run(path: Path, asked: argparse.Namespace, requests: int) -> Came:
    """Simulate on a server that storms for so many requests."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, requests, asked.latency))
    process.start()
    runtime = ia.Runtime(base_url=ours.recv(), concurrency=asked.concurrency, deadline=asked.deadline)
    began = monotonic()
    summary = ia.simulate(path, runtime=runtime, trees=asked.trees, turns=2, candidate="openai:m")
    seconds = monotonic() - began
    ours.send("end")
    times, struck, most = ours.recv()
    process.join()
    out = path.with_suffix(".jsonl")
    ia.export(path, out, format="messages")
    since = [time - times[0] for time in times]
    return Came(summary.done, len(summary.failed), seconds, since, struck, most, out.read_bytes())


def rate_at(times: Sequence[float], moment: float) -> float:
    """Requests a second in the window that ends at this moment."""
    return (bisect_left(times, moment) - bisect_left(times, moment - WINDOW)) / WINDOW


def calm_rate(times: Sequence[float]) -> float:
    """Requests a second in the middle half of a run, where nothing begins and nothing ends."""
    first, last = len(times) // 4, 3 * len(times) // 4
    return (last - first) / (times[last] - times[first])


def recovery(times: Sequence[float], storm: int, goal: float) -> float | None:
    """Seconds from the storm's end until a window has this rate; None if none has."""
    over = times[storm]
    return next((time - over for time in times[storm:] if time >= over + WINDOW and rate_at(times, time) >= goal), None)


def report(asked: argparse.Namespace, calm: Came, storm: Came) -> bool:
    """Print the figures; whether all goals hold."""
    usual = calm_rate(calm.times)
    back = recovery(storm.times, asked.requests, 0.8 * usual) if len(storm.times) > asked.requests else None
    rows: list[tuple[str, Any, str, bool]] = [
        ("requests struck, by what", storm.struck, "", True),
        ("trees done", f"{storm.done} of {asked.trees}", "all", storm.done == asked.trees),
        ("data equal to the calm run's", storm.data == calm.data, "yes", storm.data == calm.data),
        ("requests in flight, at most", storm.most, f"<= {asked.concurrency}", storm.most <= asked.concurrency),
        ("requests a second, calm", f"{usual:.1f}", "", True),
        ("80 % of them again, s after the storm", back and f"{back:.1f}", "<= 10", back is not None and back <= 10),
        ("seconds, storm and calm run", f"{storm.seconds:.1f}, {calm.seconds:.1f}", "", True),
    ]
    print("| | measured | goal | |\n|---|---|---|---|")
    for name, measured, goal, holds in rows:
        print(f"| {name} | {measured} | {goal} | {'' if not goal else 'holds' if holds else 'MISSED'} |")
    return all(holds for *_, holds in rows)


def main() -> int:
    """Parse, run twice, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--requests", type=int, default=1000, help="how long the storm lasts")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds of an answer after the storm")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--deadline", type=float, default=120.0)
    asked = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        calm = run(Path(folder) / "calm.db", asked, 0)
        storm = run(Path(folder) / "storm.db", asked, asked.requests)
    return 0 if report(asked, calm, storm) else 1


if __name__ == "__main__":
    sys.exit(main())
