"""What each engine costs a tree: `python bench/engines.py [--trees 60 240] [--only local workers shards ray]`

Grows the same run of the embedded world in one process, by `--workers 2`, as four shards that are merged, and on Ray
with three tasks (where Ray is installed), with the real commands in fresh processes. What a tree costs is taken
between two sizes, so that what every command costs once (starting programs, Ray above all) stands by itself. The
larger run must export byte for byte as that of one process. CPU is that of the command and of the processes it waited
for; Ray's own are not among them, so that there only the time counts.
"""

# Nothing of interalign is imported here, as in scale.py.
import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

COMMAND = str(Path(sys.executable).with_name("interalign"))
WORKERS, SHARDS, TASKS = 2, 4, 3


class Cost(NamedTuple):
    """What commands took in all."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds, user and system."""


class Figures(NamedTuple):
    """One engine's row."""

    start_wall: float
    start_cpu: float
    """Seconds that do not depend on the trees."""
    wall: float
    cpu: float
    """Milliseconds a tree."""


def took(*commands: Sequence[str]) -> Cost:
    """These commands, one after the other."""
    wall = cpu = 0.0
    for words in commands:
        began = time.monotonic()
        with subprocess.Popen([COMMAND, *words], stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            said = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{' '.join(words)} ended with {process.returncode}: {said[-2000:]}")
        wall += time.monotonic() - began
        cpu += usage.ru_utime + usage.ru_stime
    return Cost(wall, cpu)


def simulate(run: Path, trees: int, turns: int, *more: str) -> list[str]:
    return ["simulate", str(run), "--trees", str(trees), "--turns", str(turns), *more]


def local(run: Path, trees: int, turns: int) -> Cost:
    return took(simulate(run, trees, turns))


def workers(run: Path, trees: int, turns: int) -> Cost:
    return took(simulate(run, trees, turns, "--workers", str(WORKERS)))


def shards(run: Path, trees: int, turns: int) -> Cost:
    files = [run.with_name(f"{run.stem}-{number}.db") for number in range(1, SHARDS + 1)]
    grown = [simulate(file, trees, turns, "--shard", f"{n}/{SHARDS}") for n, file in enumerate(files, start=1)]
    return took(*grown, ["merge", str(run), *map(str, files)])


def ray(run: Path, trees: int, turns: int) -> Cost:
    return took(simulate(run, trees, turns, "--engine", "ray", "--workers", str(TASKS)))


ENGINES: dict[str, Callable[[Path, int, int], Cost]] = {
    "local": local, "workers": workers, "shards": shards, "ray": ray,
}  # fmt: skip
TITLES = {
    "local": "one process", "workers": f"--workers {WORKERS}", "shards": f"{SHARDS} shards in turn, merged",
    "ray": f"Ray, {TASKS} tasks",
}  # fmt: skip


def figures(few: Cost, many: Cost, sizes: tuple[int, int]) -> Figures:
    """What is the same for both sizes, and what a tree more costs."""
    more = sizes[1] - sizes[0]
    wall, cpu = (many.wall - few.wall) / more, (many.cpu - few.cpu) / more
    return Figures(few.wall - wall * sizes[0], few.cpu - cpu * sizes[0], 1e3 * wall, 1e3 * cpu)


def exported(run: Path) -> bytes:
    rows = run.with_suffix(".jsonl")
    took(["export", str(run), "--format", "dpo", "--out", str(rows)])
    return rows.read_bytes()


def table(found: dict[str, Figures], same: dict[str, bool]) -> str:
    """All rows; ratios are to one process."""
    width = max(map(len, TITLES.values()))
    names = ("s to start", "CPU s to start", "ms a tree", "CPU ms a tree", "CPU ratio", "exports as one")
    head = (
        f"| {'':{width}} | {' | '.join(names)} |\n|{'-' * (width + 2)}|{'|'.join('-' * (len(n) + 2) for n in names)}|"
    )
    base = found.get("local")
    lines = []
    for name, one in found.items():
        known = name != "ray"
        cells = [
            f"{one.start_wall:.1f}", f"{one.start_cpu:.1f}" if known else "", f"{one.wall:.1f}",
            f"{one.cpu:.1f}" if known else "", f"{one.cpu / base.cpu:.2f}" if known and base else "",
            "yes" if same[name] else "NO",
        ]  # fmt: skip
        shown = " | ".join(f"{cell:{len(title)}}" for cell, title in zip(cells, names, strict=True))
        lines.append(f"| {TITLES[name]:{width}} | {shown} |")
    return "\n".join([head, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, nargs=2, default=[60, 240], metavar=("FEW", "MANY"))
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=list(ENGINES))
    asked = parser.parse_args()
    few, many = sorted(asked.trees)
    found, same, whole = {}, {}, b""
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.only:
            if name == "ray" and find_spec("ray") is None:
                print("  ray: not installed", file=sys.stderr)
                continue
            costs = [ENGINES[name](Path(folder) / f"{name}-{trees}.db", trees, asked.turns) for trees in (few, many)]
            found[name] = figures(*costs, (few, many))
            made = exported(Path(folder) / f"{name}-{many}.db")
            whole = whole or made
            same[name] = made == whole
            print(f"  {name}: {costs[1].wall:.1f} s for {many} trees", file=sys.stderr, flush=True)
    print(f"{few} and {many} trees of {asked.turns} turns\n\n{table(found, same)}")
    sys.exit(0 if all(same.values()) else 1)


if __name__ == "__main__":
    main()
