"""What a command does when the disk, the file, another process or the clock misbehaves: nothing is lost."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import fault_server
import pytest
from conftest import Ended
from exported import data_of
from fault_server import FaultServer, Step
from forks import Forks

INSTALLED = Path(sys.executable).with_name("interalign")
SHAPE = ("--trees", "12", "--turns", "2", "--candidate", "openai:m", "--concurrency", "4")
CANDIDATES_CALLS = 12 * 2 * 2


class Place(NamedTuple):
    """A folder with a run, and the server that the run asks."""

    folder: Path
    server: FaultServer
    forks: Forks

    def simulate(self, run: str | Path = "run.db", *, largest_file: int | None = None) -> Ended:
        """The same command each time, with a limit on the size of files in bytes or without."""
        return self.command("simulate", run, "--base-url", self.server.url, *SHAPE, largest_file=largest_file)

    def command(self, *words: str | Path, largest_file: int | None = None) -> Ended:
        return self.forks.run(self.folder, *words, largest_file=largest_file)

    def data(self, run: str | Path = "run.db") -> dict[str, bytes]:
        """What was said in the run and what came of it, as it is exported."""
        return data_of(self.folder / run)


@pytest.fixture
def place(forks: Forks, tmp_path: Path) -> Iterator[Place]:
    with fault_server.serving() as server:
        yield Place(tmp_path, server, forks)


@pytest.fixture(scope="module")
def finished(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run when nothing happens to it."""
    with fault_server.serving() as server:
        place = Place(tmp_path_factory.mktemp("finished"), server, forks)
        assert place.simulate().code == 0
        assert len(server.asked) == CANDIDATES_CALLS
        return place.folder / "run.db"


@pytest.fixture(scope="module")
def unbroken(finished: Path) -> dict[str, bytes]:
    """The data of that run."""
    return data_of(finished)


def one_line(text: str) -> str:
    (line,) = text.splitlines()
    assert line.startswith("interalign: ")
    assert line.isprintable()
    return line


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def calls_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM calls WHERE role = 'candidate'").fetchone()[0])


# The disk ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kilobytes", [0, 4, 60, 90, 130])
def test_a_file_that_may_not_grow_ends_with_3_and_the_same_command_goes_on(
    kilobytes: int, place: Place, unbroken: dict[str, bytes]
) -> None:
    ended = place.simulate(largest_file=kilobytes * 1024)
    assert (ended.code, ended.out) == (3, "")
    assert "run.db" in one_line(ended.err)
    assert "run the same command again" in ended.err
    assert_the_same_command_goes_on(place, "run.db", unbroken)


def assert_the_same_command_goes_on(place: Place, run: str | Path, unbroken: dict[str, bytes]) -> None:
    path = place.folder / run
    kept, asked = calls_in(path) if path.exists() else 0, len(place.server.asked)
    # Answered and not written any more: four calls in flight, and four that waited for their commit.
    assert asked - 8 <= kept <= asked
    again = place.simulate(run)
    assert (again.code, again.out) == (0, ""), again.err
    assert len(place.server.asked) == asked + CANDIDATES_CALLS - kept
    assert place.data(run) == unbroken


@pytest.fixture
def small_disk(place: Place) -> Iterator[Path]:
    """A file system of its own."""
    folder = place.folder / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def mount(*words: str | Path) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    if subprocess.run(["mount", *words], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")


@pytest.mark.parametrize("kilobytes", [0, 40, 150, 300])
def test_a_full_disk_ends_with_3_and_once_there_is_room_the_same_command_goes_on(
    kilobytes: int, place: Place, small_disk: Path, unbroken: dict[str, bytes]
) -> None:
    fill(small_disk / "others", leaving=kilobytes * 1024)
    ended = place.simulate("disk/run.db")
    assert (ended.code, ended.out) == (3, "")
    assert "disk/run.db cannot be written" in one_line(ended.err)
    assert "run the same command again" in ended.err
    (small_disk / "others").unlink()
    assert_the_same_command_goes_on(place, "disk/run.db", unbroken)


def fill(path: Path, leaving: int) -> None:
    """Take all room on a disk but this many bytes."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    os.truncate(path, path.stat().st_size - leaving)


def test_an_export_that_does_not_fit_on_the_disk_leaves_nothing_half_written(
    place: Place, small_disk: Path, finished: Path
) -> None:
    shutil.copy(finished, place.folder)
    fill(small_disk / "others", leaving=8 * 1024)
    for words in (
        ("export", "run.db", "--format", "messages", "--out", "disk/o"),
        ("view", "run.db", "--export", "disk/o"),
    ):
        ended = place.command(*words)
        assert (ended.code, ended.out) == (2, "")
        assert "disk/o" in one_line(ended.err)
        assert [path.name for path in small_disk.iterdir()] == ["others"]


# Read-only -----------------------------------------------------------------------------------------------------------


def test_a_read_only_disk_is_refused_for_writing_and_good_for_reading(
    place: Place, small_disk: Path, finished: Path, unbroken: dict[str, bytes]
) -> None:
    shutil.copy(finished, small_disk)
    before = contents(small_disk)
    mount("-o", "remount,ro", small_disk)
    for words in (
        ("simulate", "disk/run.db", *SHAPE, "--base-url", place.server.url),
        ("simulate", "disk/new.db", *SHAPE, "--base-url", place.server.url),
        ("judge", "disk/run.db", "--judge", "world:judge?noise=0.2"),
        ("export", "disk/run.db", "--format", "sft", "--out", "disk/o.jsonl"),
        ("view", "disk/run.db", "--export", "disk/o.html"),
    ):
        ended = place.command(*words)
        assert (ended.code, ended.out) == (2, ""), words
        assert "disk/" in one_line(ended.err)
        assert "read-only" in ended.err.lower()
    assert place.server.asked == []
    assert contents(small_disk) == before
    assert place.data("disk/run.db") == unbroken


def test_a_read_only_file_is_refused_for_writing_and_good_for_reading(
    place: Place, finished: Path, unbroken: dict[str, bytes]
) -> None:
    path = shutil.copy(finished, place.folder / "run.db")
    path.chmod(0o444)
    is_mounted = os.geteuid() == 0  # whom no mode of a file stops
    if is_mounted:
        mount("--bind", path, path)
    try:
        if is_mounted:
            mount("-o", "remount,bind,ro", path)
        ended = place.simulate()
        assert (ended.code, ended.out) == (2, "")
        assert "run.db is read-only; make it writable or copy it to another place" in one_line(ended.err)
        assert place.data() == unbroken
    finally:
        if is_mounted:
            subprocess.run(["umount", path], check=True)


# Damage --------------------------------------------------------------------------------------------------------------


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def garbage_at(place: float, size: int) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(int(path.stat().st_size * place))
            file.write(b"\xa5" * size)

    return spoil


def made_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def padded_and_spoilt(path: Path) -> None:
    """Too large to be checked page by page when it is opened: what is broken is found on the way."""
    with closing(sqlite3.connect(path)) as db:
        size = path.stat().st_size
        db.execute("CREATE TABLE padding (zeros BLOB)")
        db.execute("INSERT INTO padding VALUES (zeroblob(17 * 1024 * 1024))")
        (table,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'calls'").fetchone()
        (width,) = db.execute("PRAGMA page_size").fetchone()
        db.commit()
    with path.open("r+b") as file:
        for page in range(table - 1, size // width):
            file.seek(page * width)
            file.write(b"\xa5" * width)


DAMAGE = {
    "cut short": (cut_short, "is damaged"),
    "a spoilt header": (garbage_at(0.0, 100), "is not a run file (not SQLite)"),
    "a spoilt page": (garbage_at(0.5, 8192), "is damaged"),
    "from a newer version": (made_newer, "was written by a newer interalign"),
}


@pytest.mark.parametrize(("spoil", "said"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_run_is_refused_by_every_command_and_left_as_it_is(
    spoil: Callable[[Path], None], said: str, place: Place, cli: Callable[..., Ended], finished: Path
) -> None:
    shutil.copy(finished, place.folder)
    spoil(place.folder / "run.db")
    before = contents(place.folder)
    for ended in every_command(place, cli):
        assert (ended.code, ended.out) == (2, ""), ended.err
        assert f"run.db {said}" in one_line(ended.err)
        assert contents(place.folder) == before
    assert place.server.asked == []


def every_command(place: Place, cli: Callable[..., Ended]) -> Iterator[Ended]:
    more = ("--trees", "13", *SHAPE[2:], "--base-url", place.server.url)
    yield place.command("simulate", "run.db", *more)
    yield cli("simulate", "run.db", *more, "--fork", "new.db")
    yield cli("judge", "run.db", "--judge", "world:judge?noise=0.2")
    yield cli("export", "run.db", "--format", "messages", "--out", "o.jsonl")
    yield cli("report", "run.db")
    yield cli("view", "run.db", "--export", "o.html")


def test_damage_in_a_file_too_large_to_be_checked_at_once_is_named_where_it_is_met(
    place: Place, cli: Callable[..., Ended], finished: Path
) -> None:
    path = Path(shutil.copy(finished, place.folder / "run.db"))
    padded_and_spoilt(path)
    for ended in every_command(place, cli):
        assert (ended.code, ended.out) == (2, ""), ended.err
        assert "run.db is damaged" in one_line(ended.err)
        assert [file.name for file in place.folder.iterdir()] == ["run.db"]
    assert path.read_bytes().count(b"\xa5" * 4096) > 10


# Others, and the clock -----------------------------------------------------------------------------------------------


def test_a_second_command_ends_with_3_names_the_first_and_does_not_disturb_it(
    place: Place, unbroken: dict[str, bytes]
) -> None:
    place.server.plan = lambda body: {"delay": 0.05}
    words = [INSTALLED, "simulate", "run.db", "--base-url", place.server.url, *SHAPE]
    with subprocess.Popen(words, cwd=place.folder, stderr=subprocess.PIPE, text=True) as first:
        wait_until(lambda: len(place.server.asked) > 0)
        first.send_signal(signal.SIGSTOP)  # it would be done before the others have started
        second = place.simulate()
        judging = place.command("judge", "run.db", "--judge", "world:judge?noise=0.2")
        first.send_signal(signal.SIGCONT)
        said = first.communicate()[1]
    assert first.returncode == 0, said
    for ended in (second, judging):
        assert (ended.code, ended.out) == (3, "")
        assert f"run.db is being written by process {first.pid}; " in one_line(ended.err)
    assert len(place.server.asked) == CANDIDATES_CALLS
    assert place.data() == unbroken


def wait_until(true: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < 60
        time.sleep(0.01)


JUMPY = """
import itertools, sys, time
real, jumps = time.time, itertools.cycle([0.0, -3e8, 86400.0, -7.0])
time.time = lambda: real() + next(jumps)
time.time_ns = lambda: int(time.time() * 1e9)
from interalign.cli import main
sys.argv[0] = "interalign"
main()
"""


def test_a_clock_that_jumps_to_and_fro_changes_nothing(place: Place, unbroken: dict[str, bytes]) -> None:
    """Not even while the server asks to wait, and between two commands on one run."""
    steps: Iterator[Step] = iter(
        [{}, {"status": 429, "headers": {"Retry-After": "0.2"}, "text": "wait"}, {"hang": True}]
    )
    place.server.plan = lambda body: next(steps, {})
    for trees in ("6", "12"):
        words = ("simulate", "run.db", *SHAPE, "--trees", trees, "--deadline", "4", "--base-url", place.server.url)
        done = subprocess.run(
            [sys.executable, "-c", JUMPY, *words], cwd=place.folder, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len(place.server.asked) == CANDIDATES_CALLS + 2
    assert place.data() == unbroken
