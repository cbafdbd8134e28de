"""Does memory stay flat, and is a finished run recognised at once? `python bench/scale.py [--sizes 1000 10000]`

Grows a run of each size with the real command `interalign simulate`, in a fresh process, on the embedded world, and
takes the process's peak memory (resident set size). Then the same command again: the largest run is done, so that it
must end at once and without a call. One turn a tree keeps it short: 10,000 trees take a few minutes.
"""

# Nothing of interalign is imported here: a child's peak memory, as the kernel counts it, begins with its parent's.
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

COMMAND = str(Path(sys.executable).with_name("interalign"))
GROWTH, RESUME = 1.1, 5.0
"""Goals: most memory of the largest run relative to the smallest; seconds to resume a run that is done."""


class Ran(NamedTuple):
    """What one command took."""

    trees: int
    wall: float
    """Seconds."""
    cpu: float
    """Seconds, user and system."""
    peak: float
    """MB."""
    calls: int
    """Model calls made."""


def ran(run: Path, trees: int, asked: argparse.Namespace) -> Ran:
    """The command, in a process of its own."""
    words = [COMMAND, "simulate", str(run), "--trees", str(trees), "--turns", str(asked.turns)]
    began = time.monotonic()
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said) as process,
    ):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - began
        said.seek(0)
        text = said.read()
    found = re.search(rf"{trees} of {trees} trees done .*?(\d[\d,]*) calls made", text)
    if process.returncode != 0 or found is None:
        sys.exit(f"{' '.join(words)} ended with {process.returncode}: {text[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return Ran(trees, wall, cpu, usage.ru_maxrss / 1024, int(found[1].replace(",", "")))


def table(grown: list[Ran], resumed: Ran) -> tuple[str, bool]:
    """The table, and whether everything holds."""
    first, last = grown[0], grown[-1]
    growth = last.peak / first.peak
    rows = [
        (f"peak memory, {last.trees:,} / {first.trees:,} trees", f"{growth:.3f}", f"<= {GROWTH}", growth <= GROWTH),
        *((f"  peak memory, {one.trees:,} trees, MB", f"{one.peak:.0f}", "", None) for one in grown),
        *((f"  CPU ms a tree, {one.trees:,} trees", f"{1e3 * one.cpu / one.trees:.1f}", "", None) for one in grown),
        (f"resume of {resumed.trees:,} trees, s", f"{resumed.wall:.2f}", f"<= {RESUME:g}", resumed.wall <= RESUME),
        ("  calls made", f"{resumed.calls}", "0", resumed.calls == 0),
        ("  CPU s", f"{resumed.cpu:.2f}", "", None),
        ("  peak memory, MB", f"{resumed.peak:.0f}", "", None),
    ]
    shown = {True: "yes", False: "NO", None: ""}
    width = max(len(name) for name, *_ in rows)
    head = f"| {'':{width}} | found   | goal   | holds |\n|{'-' * (width + 2)}|---------|--------|-------|"
    lines = [f"| {name:{width}} | {found:7} | {goal:6} | {shown[holds]:5} |" for name, found, goal, holds in rows]
    return "\n".join([head, *lines]), all(holds is not False for *_, holds in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000], help="trees, rising")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all figures to this file, too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        grown = []
        for trees in sorted(asked.sizes):
            grown.append(ran(Path(folder) / f"{trees}.db", trees, asked))
            print(f"  {trees:,} trees: {grown[-1].wall:.0f} s, {grown[-1].peak:.0f} MB", file=sys.stderr, flush=True)
        resumed = ran(Path(folder) / f"{grown[-1].trees}.db", grown[-1].trees, asked)
    shown, holds = table(grown, resumed)
    print(f"{asked.turns} turn(s) a tree\n\n{shown}")
    if asked.json:
        found = {"grown": [one._asdict() for one in grown], "resumed": resumed._asdict()}
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
