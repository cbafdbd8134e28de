"""Killed at random moments, again and again: what is lost, what is asked twice, and is the outcome the same?

    python bench/kills.py [--kills 200] [--trees N] [--turns K] [--concurrency C] [--latency S]
                          [--seed N] [--out FOLDER]

The real `interalign simulate` runs against a fake server (`bench/fake_server.py`) that notes every request. It is
killed (SIGKILL) after a random number of requests and a random pause, sometimes while it still starts, and started anew
by the same command. After every kill the run file is read: what was committed before must still be there, and none of
it may have been asked for again. At the end the exports are compared with those of a run nobody disturbed.
"""

import argparse
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from fake_server import Served, digest, serving

import interalign as ia

COMMAND = str(Path(sys.executable).with_name("interalign"))
FORMATS = ("dpo", "sft")
STARTING = 0.1
"""Share of the kills that fall into the start of the command."""
PATIENCE = 120.0
"""Seconds without a request after which something is wrong."""


@dataclass
class Committed:
    """What a run file holds, read on from where the last look ended."""

    run: Path
    keys: dict[int, bytes] = field(default_factory=dict)
    """Ledger key by the row's number."""
    asked: set[str] = field(default_factory=set)
    """The same calls as the server names them."""
    lost: int = 0
    """Calls that were there at one look and gone at the next."""

    def look(self) -> None:
        """Read what is new and make sure that the old is still there."""
        if not self.run.exists():
            return
        with closing(sqlite3.connect(f"file:{self.run}?mode=ro", uri=True)) as db:
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchone() is None:
                return  # killed before its tables were made
            rows = dict(db.execute("SELECT id, key FROM calls ORDER BY id").fetchall())
            models = dict(db.execute("SELECT calls.id, asked FROM calls JOIN seats ON seats.id = seat").fetchall())
        self.lost += sum(rows.get(number) != key for number, key in self.keys.items())
        with ia.open_run(self.run) as store:
            for number in rows.keys() - self.keys.keys():
                said = [message.model_dump() for message in store.prompt_of(rows[number].hex())]
                self.asked.add(digest(models[number].removeprefix("openai:"), said))
        self.keys = rows


@dataclass
class Tally:
    """What came of the kills."""

    kills: int = 0
    """Of a process that was alive."""
    finished_early: int = 0
    """Commands that were done before their moment came."""
    again: int = 0
    """Requests for what had been committed when the command began."""
    cost: list[int] = field(default_factory=list)
    """By kill: requests sent that were not committed."""
    lost: int = 0
    resumed: int = 0
    """Exit code of the last command."""
    requests: int = 0
    calls: int = 0
    equal: bool = False
    seconds: float = 0.0


def command(run: Path, asked: argparse.Namespace, url: str) -> list[str]:
    """The one command of the run, the same every time."""
    seats = [word for role in ("user", "inducer", "candidate", "judge") for word in (f"--{role}", f"openai:{role}")]
    size = ["--trees", str(asked.trees), "--turns", str(asked.turns), "--concurrency", str(asked.concurrency)]
    return [COMMAND, "simulate", str(run), *seats, *size, "--base-url", url]


def killed(words: Sequence[str], server: Served, requests: int, pause: float) -> bool:
    """Start the command and kill it once it sent so many requests and `pause` seconds passed; False: it was done."""
    until = server.counters()["requests"] + requests
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        began = time.monotonic()
        while requests and process.poll() is None and server.counters()["requests"] < until:
            assert time.monotonic() - began < PATIENCE, "the run does not get anywhere"
            time.sleep(0.001)
        time.sleep(pause)
        process.kill()
        return process.wait() == -signal.SIGKILL


def broken_run(run: Path, asked: argparse.Namespace, server: Served, calls: int) -> Tally:
    """Kill the run again and again, then let it finish."""
    tally, committed, rng = Tally(), Committed(run), random.Random(asked.seed)
    words = command(run, asked, server.url)
    for _ in range(asked.kills):
        before, since = set(committed.asked), len(server.asked())
        # Spread over the run, with room for every kill: the last ones must not find it done.
        most = max(1, min(2 * calls // asked.kills, (calls - len(committed.keys)) // 2))
        starting = rng.random() < STARTING
        requests, pause = (0, rng.uniform(0, 1.5)) if starting else (rng.randint(1, most), rng.uniform(0, 0.02))
        if killed(words, server, requests, pause):
            tally.kills += 1
        else:
            tally.finished_early += 1
        committed.look()
        sent = server.asked()[since:]
        tally.again += sum(request in before for request in sent)
        tally.cost.append(len(set(sent) - committed.asked))
        tell(tally, committed, asked.kills)
    before, since = set(committed.asked), len(server.asked())
    tally.resumed = subprocess.run(words, capture_output=True).returncode
    committed.look()
    requests = server.asked()
    tally.again += sum(request in before for request in requests[since:])
    tally.lost, tally.requests, tally.calls = committed.lost, len(requests), len(committed.keys)
    return tally


def tell(tally: Tally, committed: Committed, kills: int) -> None:
    done = tally.kills + tally.finished_early
    if done % 10 == 0:
        print(f"  {done} of {kills} kills, {len(committed.keys)} calls committed", file=sys.stderr, flush=True)


def exports(run: Path) -> list[bytes]:
    """The run's training rows, byte for byte."""
    found = []
    for name in FORMATS:
        out = run.with_suffix(f".{name}.jsonl")
        rows = ia.export(run, out, format=name)
        assert rows > 0, f"nothing to compare: {run} has no {name} rows"
        found.append(out.read_bytes())
    return found


def measured(folder: Path, asked: argparse.Namespace) -> Tally:
    """An unbroken run, a broken one, and what differs."""
    began = time.monotonic()
    with serving("--latency", str(asked.latency), "--remember") as server:
        whole, broken = folder / "whole.db", folder / "broken.db"
        subprocess.run(command(whole, asked, server.url), check=True, capture_output=True)
        once = server.asked()
        assert len(set(once)) == len(once), "two calls of the run are alike, so a repetition could not be told"
        server.reset()
        tally = broken_run(broken, asked, server, len(once))
    tally.equal = tally.calls == len(once) and exports(whole) == exports(broken)
    tally.seconds = time.monotonic() - began
    return tally


def table(tally: Tally, concurrency: int) -> tuple[str, bool]:
    """The table, and whether everything holds."""
    most, bound = max(tally.cost, default=0), 2 * concurrency
    repeated = tally.requests - tally.calls
    rows = [
        ("committed calls lost", f"{tally.lost}", "0", tally.lost == 0),
        ("requests for what was committed", f"{tally.again}", "0", tally.again == 0),
        ("asked again, at most after one kill", f"{most}", f"<= {bound}", most <= bound),
        ("asked again, all in all", f"{repeated}", f"<= {bound * tally.kills}", repeated <= bound * tally.kills),
        ("asked again per kill, on average", f"{repeated / max(1, tally.kills):.1f}", "", None),
        ("exit code of the last command", f"{tally.resumed}", "0", tally.resumed == 0),
        ("exports equal an unbroken run's", "yes" if tally.equal else "no", "yes", tally.equal),
    ]
    head = (
        f"{tally.kills} kills (and {tally.finished_early} commands done before theirs), {tally.calls} calls, "
        f"{tally.seconds:.0f} s\n\n| {'':35} | found  | goal    | holds |\n|{'-' * 37}|--------|---------|-------|"
    )
    shown = {True: "yes", False: "NO", None: ""}
    lines = [f"| {name:35} | {found:6} | {goal:7} | {shown[holds]:5} |" for name, found, goal, holds in rows]
    return "\n".join([head, *lines]), all(holds is not False for *_, holds in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--latency", type=float, default=0.005, help="seconds of the fake server")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="keep the runs in this folder")
    asked = parser.parse_args()
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        shown, holds = table(measured(asked.out or Path(folder), asked), asked.concurrency)
    print(shown)
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
