"""CPU seconds (user plus system) that starting costs: `python bench/startup.py [REPEATS]`.

Prints the median of the repeats for a bare Python and for what a user waits for before anything happens. The project's
aim is 0.4 CPU s for `interalign --version`; it is measured here and asserted nowhere, since no test asserts a time.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

COMMAND = str(Path(sys.executable).with_name("interalign"))
STARTS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import interalign": [sys.executable, "-c", "import interalign"],
    "interalign --version": [COMMAND, "--version"],
    "interalign --help": [COMMAND, "--help"],
    "interalign simulate --help": [COMMAND, "simulate", "--help"],
    "interalign roles list": [COMMAND, "roles", "list"],
    "interalign graph": [COMMAND, "graph"],
}


def cpu_seconds(words: list[str]) -> float:
    before = os.times()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for name, words in STARTS.items():
        cpu_seconds(words)  # once to warm the file cache and write the byte code
        print(f"{median(cpu_seconds(words) for _ in range(repeats)):6.2f} CPU s  {name}")


if __name__ == "__main__":
    main()
