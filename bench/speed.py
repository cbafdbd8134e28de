"""How fast, how cheap, how full: interalign beside a bare AsyncOpenAI loop and plain LangGraph + ChatOpenAI.

    python bench/speed.py [--conversations N] [--turns K] [--repeats R] [--latency S] [--concurrency C]
                          [--only cpu persistence rate busy] [--json FILE]

Every program runs the same conversations (`bench/peers.py`) against a server in a process of its own
(`bench/fake_server.py`), each time in a fresh process, in turn over the repeats. A ratio is taken within a repeat; what
is printed is the median of the repeats with the smallest and the largest. Figures of one run belong together: a machine
that is busy is busy for all of them.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from fake_server import serving

PEERS = Path(__file__).with_name("peers.py")
FEW = 16
"""The goals' smaller concurrency."""

Took = dict[str, Any]
"""What `peers.py` prints for one program."""
Repeat = dict[str, Took]
"""One repeat: by the program's name."""


class Row(NamedTuple):
    """One figure with its goal."""

    name: str
    values: list[float]
    """One a repeat."""
    goal: str
    holds: bool | None
    """None: shown beside the others, no goal."""

    @property
    def shown(self) -> str:
        """Median and range."""
        ranged = f" ({min(self.values):.2f} to {max(self.values):.2f})" if len(self.values) > 1 else ""
        return f"{median(self.values):.2f}{ranged}"


def at_most(goal: float, name: str, values: list[float]) -> Row:
    return Row(name, values, f"<= {goal:g}", median(values) <= goal)


def at_least(goal: float, name: str, values: list[float]) -> Row:
    return Row(name, values, f">= {goal:g}", median(values) >= goal)


def beside(name: str, values: list[float]) -> Row:
    return Row(name, values, "", None)


def took(name: str, asked: argparse.Namespace, concurrency: int, latency: float, cap: int | None = None) -> Took:
    """One program in a fresh process, against a fresh server."""
    options = ["--latency", str(latency), "--words", str(asked.words), *(["--cap", str(cap)] if cap else [])]
    with serving(*options) as server:
        words = [sys.executable, str(PEERS), name, "--url", server.url, "--concurrency", str(concurrency)]
        words += ["--conversations", str(asked.conversations), "--turns", str(asked.turns)]
        done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def repeated(part: "Part", asked: argparse.Namespace) -> list[Repeat]:
    """All programs in turn, time and again; the order goes round, so that none is always first."""
    found, names = [], part.programs
    for repeat in range(asked.repeats):
        order = [names[(repeat + place) % len(names)] for place in range(len(names))]
        done = {name: part.run(name, asked) for name in order}
        check_same_work(done)
        found.append({name: done[name] for name in names})
        print(f"  repeat {repeat + 1}: {told(found[-1])}", file=sys.stderr, flush=True)
    return found


def check_same_work(by_name: Repeat) -> None:
    """The server has seen the same prompts from everybody."""
    if len(by_name) == 1:
        return
    work = {(took["calls"], took["server"]["prompts"]) for took in by_name.values()}
    assert len(work) == 1, f"not the same conversations: {by_name}"


def told(by_name: Repeat) -> str:
    if "persistence" in by_name:
        return str({name: [round(cpu, 2) for cpu in rounds] for name, rounds in by_name["persistence"].items()})
    return ", ".join(
        f"{name} {1e3 * took['cpu'] / took['calls']:.2f} CPU ms a call and {took['calls'] / took['wall']:.0f} calls/s"
        for name, took in by_name.items()
    )


def ratios(repeats: Sequence[Repeat], a: str, b: str, value: Callable[[Took], float]) -> list[float]:
    """`value` of program a divided by that of program b, for each repeat."""
    return [value(repeat[a]) / value(repeat[b]) for repeat in repeats]


def cpu_per_call(took: Took) -> float:
    return took["cpu"] / took["calls"]


def calls_per_second(took: Took) -> float:
    return took["calls"] / took["wall"]


def cpu_rows(found: Sequence[Repeat], asked: argparse.Namespace) -> Iterator[Row]:
    where = f"no delay, concurrency {FEW}"
    yield at_most(
        0.75, f"CPU per call, {where}, recorded / bare AsyncOpenAI", ratios(found, "interalign", "bare", cpu_per_call)
    )
    yield beside("  the same / LangGraph + ChatOpenAI", ratios(found, "interalign", "langgraph", cpu_per_call))
    yield beside("  LangGraph + ChatOpenAI / bare AsyncOpenAI", ratios(found, "langgraph", "bare", cpu_per_call))
    for name in found[0]:
        yield beside(f"  CPU ms per call, {name}", [1e3 * cpu_per_call(repeat[name]) for repeat in found])
    disk = [repeat["interalign"]["disk"] / asked.conversations / 1e3 for repeat in found]
    calls = found[0]["interalign"]["calls"] / asked.conversations
    yield at_most(80, f"disk per conversation of {asked.turns} turns, {calls:.0f} calls, kB", disk)


def persistence_rows(found: Sequence[Repeat], asked: argparse.Namespace) -> Iterator[Row]:
    took = [repeat["persistence"] for repeat in found]
    in_turn = [median(a / b for a, b in zip(one["recorded"], one["unrecorded"], strict=True)) for one in took]
    yield at_most(1.15, "CPU of persistence: recorded / unrecorded, median of rounds in turn", in_turn)
    least = [min(one["recorded"]) / min(one["unrecorded"]) for one in took]
    yield beside("  the same, the cheapest round of each", least)


def rate_rows(found: Sequence[Repeat], asked: argparse.Namespace) -> Iterator[Row]:
    where = f"{1e3 * asked.latency:g} ms latency, concurrency {asked.concurrency}"
    rate = ratios(found, "interalign", "bare", calls_per_second)
    yield at_least(1.0, f"calls/s, {where}, recorded / bare AsyncOpenAI", rate)
    yield beside("  the same / LangGraph + ChatOpenAI", ratios(found, "interalign", "langgraph", calls_per_second))
    for name in found[0]:
        yield beside(f"  calls/s, {name}", [calls_per_second(repeat[name]) for repeat in found])
    yield beside("  calls/s, all slots busy all the time", [asked.concurrency / asked.latency])


def busy_rows(found: Sequence[Repeat], asked: argparse.Namespace) -> Iterator[Row]:
    seen = {name: [repeat[name]["server"] for repeat in found] for name in found[0]}
    where = f"{1e3 * asked.latency:g} ms latency, concurrency {FEW}"
    shares = {name: [one["steady_in_flight"] / FEW for one in seen[name]] for name in seen}
    yield at_least(0.88, f"share of the cap kept busy, {where}, steady", shares["interalign"])
    yield beside("  the same, bare AsyncOpenAI", shares["bare"])
    yield beside("  first request to last reply", [one["mean_in_flight"] / FEW for one in seen["interalign"]])
    over = [float(one["refused"]) for one in seen["interalign"]]
    yield Row("requests above the cap", over, "0", max(over) == 0)


class Part(NamedTuple):
    """One set of runs and what is read off them."""

    programs: tuple[str, ...]
    run: Callable[[str, argparse.Namespace], Took]
    rows: Callable[[Sequence[Repeat], argparse.Namespace], Iterator[Row]]


PARTS = {
    "cpu": Part(("bare", "langgraph", "interalign"), lambda name, asked: took(name, asked, FEW, 0.0), cpu_rows),
    "persistence": Part(("persistence",), lambda name, asked: took(name, asked, FEW, 0.0), persistence_rows),
    "rate": Part(
        ("bare", "langgraph", "interalign"),
        lambda name, asked: took(name, asked, asked.concurrency, asked.latency),
        rate_rows,
    ),
    "busy": Part(("bare", "interalign"), lambda name, asked: took(name, asked, FEW, asked.latency, cap=FEW), busy_rows),
}


def table(rows: Sequence[Row]) -> str:
    width = max(len(row.name) for row in rows)
    lines = [f"| {'':{width}} | median (range)          | goal    | holds |"]
    lines.append(f"|{'-' * (width + 2)}|-------------------------|---------|-------|")
    for row in rows:
        holds = {True: "yes", False: "NO", None: ""}[row.holds]
        lines.append(f"| {row.name:{width}} | {row.shown:23} | {row.goal:7} | {holds:5} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=64)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds, for calls/s and the share of the cap")
    parser.add_argument("--concurrency", type=int, default=64, help="for calls/s")
    parser.add_argument("--words", type=int, default=40, help="words of a reply, on average")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path, help="write all figures to this file, too")
    asked = parser.parse_args()
    rows = [row for name in asked.only for row in PARTS[name].rows(repeated(PARTS[name], asked), asked)]
    print(f"{asked.conversations} conversations of {asked.turns} turns, {asked.repeats} repeats\n\n{table(rows)}")
    if asked.json:
        asked.json.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
