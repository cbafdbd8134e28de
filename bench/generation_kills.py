"""A persona pool by self-generation, killed at random moments and resumed: are its bytes those of an unbroken one?

    python bench/generation_kills.py [--n 3310] [--kills 20] [--seed 0]

The real `interalign personas generate --model world:personas` writes a pool, timed; then the same command is killed
(SIGKILL) again and again, a third of the times at a random moment of its start, else when a few more calls are on
record, and at last let finish. A command that was done before its moment begins another pool. All pools must be equal
byte by byte, and the number of calls too. Exit code 1 if not.
"""

import argparse
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from interalign.errors import ConfigError
from interalign.store import Store

COMMAND = str(Path(sys.executable).with_name("interalign"))
STARTING = 1 / 3


def generate(out: Path, n: int) -> list[str]:
    return [COMMAND, "personas", "generate", "--model", "world:personas", "--n", str(n), "--out", str(out)]


def calls_in(run: Path) -> int:
    """The calls on record; 0 while there is no run file."""
    with suppress(ConfigError), Store.open(run) as store:
        return sum(used.calls for used in store.usage().values())
    return 0


def killed(words: list[str], run: Path, more: int, pause: float) -> bool:
    """Start the command and kill it `pause` seconds after `more` calls were added; False: it was done before."""
    until = calls_in(run) + more
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while more and process.poll() is None and calls_in(run) < until:
            time.sleep(0.002)
        time.sleep(pause)
        process.kill()
        return process.wait() == -signal.SIGKILL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=3310)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = Path(folder) / "whole.jsonl", Path(folder) / "broken.jsonl"
        runs = [Path(f"{out}.db") for out in (whole, broken)]
        began = time.monotonic()
        subprocess.run(generate(whole, asked.n), check=True, capture_output=True)
        wall, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        most = max(1, calls_in(runs[0]) // 4)
        hit, done, equal = 0, 0, True
        while hit < asked.kills and done < 4 * asked.kills:
            starts = rng.random() < STARTING
            more, pause = (0, rng.uniform(0, 2 * wall / 3)) if starts else (rng.randint(1, most), rng.uniform(0, 0.02))
            if killed(generate(broken, asked.n), runs[1], more, pause):
                hit += 1
            else:  # it was done before its moment: another pool is begun
                done += 1
                equal = equal and whole.read_bytes() == broken.read_bytes()
                for left in (broken, *runs[1].parent.glob(f"{runs[1].name}*")):
                    left.unlink()
            print(f"  kill {hit} of {asked.kills}, {calls_in(runs[1])} calls on record", file=sys.stderr, flush=True)
        last = subprocess.run(generate(broken, asked.n), capture_output=True, text=True)
        if last.returncode:
            sys.exit(f"the last command ended with exit code {last.returncode}: {last.stderr}")
        calls = [calls_in(run) for run in runs]
        equal = equal and whole.read_bytes() == broken.read_bytes()
    print(f"{asked.n} personas, {calls[0]} calls: {wall:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of CPU, unbroken")
    print(f"{hit} kills (and {done} commands done before theirs): {calls[1]} calls on record at the end")
    print(f"pools equal byte by byte: {'yes' if equal else 'NO'}")
    sys.exit(0 if equal and calls[0] == calls[1] else 1)


if __name__ == "__main__":
    main()
