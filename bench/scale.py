"""Does memory stay flat, and is a finished run recognised at once? `python bench/scale.py [--sizes 1000 10000]`

Grows a run of each size with the real command `interalign simulate`, in a fresh process, on the embedded world, and
takes the process's peak memory (resident set size). Then the same command again: the largest run is done, so that it
must end at once and without a call. One turn a tree keeps it short: 10,000 trees take a few minutes.

Then each size again as shards, one after the other, which are merged; the merged file's export must be that of the run.
At last the smallest size by `--workers 2`, relative to one process.
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
    size: float
    """MB on disk."""


def ran(run: Path, trees: int, asked: argparse.Namespace, *more: str) -> Ran:
    """The command, in a process of its own."""
    words = [COMMAND, "simulate", str(run), "--trees", str(trees), "--turns", str(asked.turns), *more]
    return measured(words, run, trees)


def merged(out: Path, trees: int, asked: argparse.Namespace) -> Ran:
    """Shards of the run, grown one after the other and merged: what the merge took."""
    files = [out.with_name(f"{out.stem}-{number}.db") for number in range(1, asked.shards + 1)]
    for number, file in enumerate(files, start=1):
        ran(file, trees, asked, "--shard", f"{number}/{asked.shards}")
    return measured([COMMAND, "merge", str(out), *map(str, files)], out, trees)


def exported(run: Path) -> bytes:
    """What `export` writes for the run."""
    rows = run.with_suffix(".jsonl")
    subprocess.run([COMMAND, "export", run, "--format", "dpo", "--out", rows], check=True, stderr=subprocess.DEVNULL)
    return rows.read_bytes()


def measured(words: list[str], run: Path, trees: int) -> Ran:
    """This command, which says at its end how many of so many trees are done."""
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
    found = re.search(r"([\d,]+) of ([\d,]+) trees done (?:.*?(\d[\d,]*) calls made)?", text)
    if process.returncode != 0 or found is None:
        sys.exit(f"{' '.join(words)} ended with {process.returncode}: {text[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    calls = int((found[3] or "0").replace(",", ""))
    return Ran(trees, wall, cpu, usage.ru_maxrss / 1024, calls, run.stat().st_size / 1e6)


def table(grown: list[Ran], resumed: Ran, merges: list[Ran], same: bool, workers: Ran) -> tuple[str, bool]:
    """The table, and whether everything holds."""
    first, last = grown[0], grown[-1]
    growth = last.peak / first.peak
    merging = merges[-1].peak / merges[0].peak
    rows = [
        (f"peak memory, {last.trees:,} / {first.trees:,} trees", f"{growth:.3f}", f"<= {GROWTH}", growth <= GROWTH),
        *((f"  peak memory, {one.trees:,} trees, MB", f"{one.peak:.0f}", "", None) for one in grown),
        *((f"  CPU ms a tree, {one.trees:,} trees", f"{1e3 * one.cpu / one.trees:.1f}", "", None) for one in grown),
        *((f"  kB a tree, {one.trees:,} trees", f"{1e3 * one.size / one.trees:.2f}", "", None) for one in grown),
        (f"merge, peak memory, {last.trees:,} / {first.trees:,}", f"{merging:.3f}", f"<= {GROWTH}", merging <= GROWTH),
        *((f"  merge of {one.trees:,} trees, peak, MB", f"{one.peak:.0f}", "", None) for one in merges),
        *(
            (f"  merge of {one.trees:,} trees, CPU ms a tree", f"{1e3 * one.cpu / one.trees:.1f}", "", None)
            for one in merges
        ),
        *(
            (f"  merged {one.trees:,} trees, kB a tree", f"{1e3 * one.size / one.trees:.2f}", "", None)
            for one in merges
        ),
        ("  merged runs export as the runs", "yes" if same else "no", "yes", same),
        (f"2 workers, {workers.trees:,} trees, CPU", f"{workers.cpu / first.cpu:.2f}", "", None),
        ("  2 workers, time", f"{workers.wall / first.wall:.2f}", "", None),
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
    parser.add_argument("--shards", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        grown = []
        for trees in sorted(asked.sizes):
            grown.append(ran(Path(folder) / f"{trees}.db", trees, asked))
            print(f"  {trees:,} trees: {grown[-1].wall:.0f} s, {grown[-1].peak:.0f} MB", file=sys.stderr, flush=True)
        resumed = ran(Path(folder) / f"{grown[-1].trees}.db", grown[-1].trees, asked)
        merges = [merged(Path(folder) / f"merged-{one.trees}.db", one.trees, asked) for one in grown]
        trees = [one.trees for one in grown]
        same = all(exported(Path(folder) / f"merged-{n}.db") == exported(Path(folder) / f"{n}.db") for n in trees)
        workers = ran(Path(folder) / "workers.db", trees[0], asked, "--workers", "2")
    shown, holds = table(grown, resumed, merges, same, workers)
    print(f"{asked.turns} turn(s) a tree\n\n{shown}")
    if asked.json:
        found = {"grown": [one._asdict() for one in grown], "resumed": resumed._asdict()}
        found |= {"merged": [one._asdict() for one in merges], "workers": workers._asdict()}
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
