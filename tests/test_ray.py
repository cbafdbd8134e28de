"""`--engine ray`: what is refused, what a task does, and runs on a real Ray of this machine, where it is installed."""

import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from calls_seen import calls_of
from test_merge import SIMULATION, calls, exported
from test_workers import WORDS, begun, one_process, started, until_begun

import interalign as ia
from interalign.config import Runtime, SimulationSettings
from interalign.config.engines import check_engine, ray_address
from interalign.errors import ConfigError, StopError
from interalign.records import TreeRecord
from interalign.run.ray_engine import RayTasks, batches
from interalign.run.ray_task import batch_orders, grow_batch, packed, unpacked
from interalign.run.session import open_session
from interalign.run.tree_work import growing
from interalign.run.worker_orders import WorkerEnding, carry_out_orders, orders_for
from interalign.store import Store
from interalign.store.worker_files import folder_of, gather, gather_one, split_one
from interalign.version import __version__

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (the extra `scale`)")
TREES = {**SIMULATION, "trees": 7}


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever Python finds here, no Ray is among it."""
    kept = [each for each in sys.path if not (Path(each) / "ray").exists()]
    monkeypatch.setattr(sys, "path", kept)


def installed(version: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Python find the record of a Ray of this version."""
    record = folder / f"ray-{version}.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ray\nVersion: {version}\n")
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("spark", "no engine 'spark': there are local, ray and ray://HOST:PORT"),
        ("Ray", "no engine 'Ray': there are local, ray and ray://HOST:PORT; did you mean ray?"),
        ("rya", "no engine 'rya': there are local, ray and ray://HOST:PORT; did you mean ray?"),
        ("locl", "no engine 'locl': there are local, ray and ray://HOST:PORT; did you mean local?"),
        ("local://x:1", "no engine 'local://x:1'"),
        ("rays://x:1", "no engine 'rays://x:1': there are local, ray and ray://HOST:PORT; did you mean ray?"),
        ("", "no engine ''"),
        ("ray://", "'ray://': expected the address of a Ray Client server, such as ray://10.0.0.1:10001"),
        ("ray://head", "'ray://head': expected the address of a Ray Client server"),
        ("ray://head:port", "'ray://head:port': expected the address"),
        ("ray://user:secret@head:1", "expected the address"),
        ("ray://head:1/path", "expected the address"),
        ("ray:head:1", "no engine 'ray:head:1'"),
    ],
)
def test_what_is_no_engine_is_refused_in_one_line_and_leaves_no_file(
    engine: str, says: str, cli, tmp_path: Path
) -> None:
    for words in (("simulate", "run.db"), ("evaluate", "run.db", "--candidate", "world:average")):
        ended = cli(*words, "--engine", engine)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert says in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["ray", "ray://10.0.0.1:10001"])
def test_without_ray_the_engine_says_what_to_install(engine: str, no_ray: None, cli, tmp_path: Path) -> None:
    ended = cli("simulate", "run.db", "--engine", engine)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "interalign: --engine: Ray is not installed: pip install 'interalign[scale]'\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "is_taken"), [("2.51.9", False), ("1.13.0", False), ("2.52.0", True), ("3.0", True)]
)
def test_a_ray_without_token_authentication_is_too_old(
    version: str, is_taken: bool, no_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(version, tmp_path, monkeypatch)
    if is_taken:
        check_engine("ray")
        return
    with pytest.raises(ConfigError, match=f"Ray {version} is too old, 2.52 is the first that will do"):
        check_engine("ray")


def test_an_address_is_passed_on_as_ray_writes_it() -> None:
    assert [ray_address(engine) for engine in ("ray", "ray://[::1]:10001")] == [None, "ray://[::1]:10001"]


def unfinished(run: Path, tokens: int = 0) -> Path:
    """A run that a limit stopped."""
    with pytest.raises(StopError, match="--max-tokens"):
        ia.simulate(run, **TREES, runtime=Runtime(max_tokens=tokens, concurrency=4))
    return run


def test_batches_have_every_unfinished_tree_once_whatever_is_merged_meanwhile(tmp_path: Path) -> None:
    with Store.create_or_open(unfinished(tmp_path / "run.db", 9000)) as store:
        left = [tree.id for tree in store.walk_trees("planned")]
        walked, seen = waiting(store, 3), list[list[str]]()
        for number, batch in enumerate(walked, start=1):
            seen.append([tree.id for tree in batch])
            gather_one(store, split_one(store, number, batch))
        assert seen == [left[:3], left[3:6], left[6:]]
        assert [tree.id for tree in store.walk_trees("planned")] == left
    assert ia.simulate(tmp_path / "run.db", **TREES).done == 7


def waiting(run: Store, size: int) -> Iterator[list[TreeRecord]]:
    return batches(run.walk_trees("planned", "failed"), size)


def told_about(file: Path, budget: str | None = None) -> dict[str, Any]:
    runtime = Runtime(budget=budget, max_tokens=10**6 if budget else None)
    settings = SimulationSettings(**TREES, engine="local").model_dump(mode="json")
    orders = {"kind": "SimulationSettings", "settings": settings, "trusted": []}
    return batch_orders(orders_for(file, orders, runtime), f"{file.stem}-{os.getpid()}")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where batches of other machines are kept."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"interalign-ray-{os.getuid()}"


@pytest.mark.parametrize("is_here", [True, False])
def test_a_batch_grown_here_or_on_another_machine_is_that_of_one_process(
    is_here: bool, tmp_path: Path, scratch: Path
) -> None:
    whole = tmp_path / "whole" / "run.db"
    whole.parent.mkdir()
    ia.simulate(whole, **TREES)
    with Store.create_or_open(unfinished(tmp_path / "run.db", 9000)) as run:
        for number, batch in enumerate(waiting(run, 4), start=1):
            file = split_one(run, number, batch)
            told, content = told_about(file), packed(file)
            if not is_here:
                told["machine"] = "another"
            grown = grow_batch(told, content)
            assert grown.ending == WorkerEnding(None, 0)
            assert grown.summary is not None
            assert (grown.summary["done"], grown.content is None) == (len(batch), is_here)
            if grown.content is not None:
                file.write_bytes(unpacked(grown.content))
            gather_one(run, file)
    assert exported(tmp_path / "run.db") == exported(whole)
    assert calls(tmp_path / "run.db") == calls(whole)
    assert scratch.exists() == (not is_here)
    assert list(scratch.glob("*")) == []


def test_a_second_attempt_on_another_machine_replays_what_the_first_one_committed(
    tmp_path: Path, scratch: Path
) -> None:
    with Store.create_or_open(unfinished(tmp_path / "run.db")) as run:
        batch = next(waiting(run, 2))
        file = split_one(run, 1, batch)
        told = {**told_about(file), "machine": "another"}
        content, left = packed(file), scratch / f"{told['name']}.db"
        scratch.mkdir()
        left.write_bytes(unpacked(content))
        stopped = {**told, "runtime": {**told["runtime"], "max_tokens": 3000}}
        assert carry_out_orders(stopped, left, lambda summary: None).code == 3  # with calls on record, as after a kill
        grown = grow_batch(told, content)
        assert grown.summary is not None
        assert (grown.ending.code, grown.summary["done"], grown.summary["replayed"] > 0) == (0, 2, True)
    assert list(scratch.glob("*")) == []


def test_another_version_and_a_limit_on_another_machine_are_refused(tmp_path: Path, scratch: Path) -> None:
    with Store.create_or_open(unfinished(tmp_path / "run.db")) as run:
        file = split_one(run, 1, next(waiting(run, 2)))
        old = {**told_about(file), "version": "0.0.1"}
        far = {**told_about(file, budget=str(tmp_path / "b")), "machine": "another"}
        assert grow_batch(old, b"").ending == WorkerEnding(
            f"a Ray worker has interalign {__version__} and not 0.0.1; install the same everywhere", 2
        )
        ended = grow_batch(far, b"")
        assert (ended.ending.code, "hold on one machine" in str(ended.ending.reason)) == (2, True)
        gather_one(run, file)
    assert ia.simulate(tmp_path / "run.db", **TREES).done == 7


class Errors:
    """Ray's exceptions."""

    class RayError(Exception): ...

    class RayTaskError(RayError): ...

    class RuntimeEnvSetupError(RayError): ...

    class LocalRayletDiedError(RayError): ...

    class TaskCancelledError(RayError): ...

    class WorkerCrashedError(RayError): ...

    class NodeDiedError(RayError): ...

    class OutOfMemoryError(RayError): ...

    class ObjectLostError(RayError): ...


class Reference(NamedTuple):
    """To what a task will have as its result."""

    future: Callable[[], Future[Any]]


class OneByOne:
    """What of Ray is used for tasks, in a thread. Attempts end with these errors first, after their work or before."""

    exceptions = Errors

    def __init__(self, *ends: Exception | None, after: bool = False) -> None:
        self._ends, self._after = list(ends), after
        self._pool = ThreadPoolExecutor(1)
        self.begun: list[str] = []

    def remote(self, **options: object) -> Callable[[Callable[..., Any]], Any]:
        assert options == {"num_cpus": 1, "max_retries": 0}
        return lambda function: SimpleNamespace(remote=partial(self._submit, function))

    def cancel(self, ref: object, *, force: bool) -> None:
        assert not force

    def _submit(self, function: Callable[..., Any], told: dict[str, Any], content: bytes) -> Any:
        self.begun.append(Path(told["file"]).stem)
        ends = self._ends.pop(0) if self._ends else None

        def work() -> Any:
            grown = function(told, content) if ends is None or self._after else None
            if ends is not None:
                raise ends
            return grown

        future = self._pool.submit(work)
        return Reference(lambda: future)


def grown_by(ray: OneByOne, run: Path, at_once: int = 2, limit: int | None = None) -> ia.RunSummary:
    """What came of growing the rest of a run."""

    async def grow() -> ia.RunSummary:
        async with open_session(run, Runtime(concurrency=4, max_tokens=limit), None) as session:
            session.count()
            try:
                await RayTasks(session, growing(session, SimulationSettings(**TREES)), ray, at_once).work_on_all()
            finally:
                gather(session.store)
            return session.summary()

    return asyncio.run(grow())


LOST = (Errors.WorkerCrashedError(), Errors.NodeDiedError(), Errors.OutOfMemoryError(), Errors.ObjectLostError())


@pytest.mark.parametrize("after", [False, True])
def test_a_batch_whose_worker_is_lost_is_begun_again_and_goes_on(after: bool, tmp_path: Path) -> None:
    ia.simulate(tmp_path / "whole.db", **TREES)
    ray = OneByOne(*LOST, after=after)
    summary = grown_by(ray, unfinished(tmp_path / "run.db"))
    assert (summary.done, summary.failed) == (7, {})
    assert len(ray.begun) - len(set(ray.begun)) == len(LOST)
    assert calls(tmp_path / "run.db") == calls(tmp_path / "whole.db")
    if after:  # all that was committed before the worker was lost is replayed
        assert summary.calls < len(calls(tmp_path / "whole.db"))


def test_a_batch_that_loses_every_worker_stops_the_run_which_can_go_on(tmp_path: Path) -> None:
    ray = OneByOne(*[Errors.OutOfMemoryError()] * 5)
    with pytest.raises(
        StopError, match=r"5 Ray workers in a row were lost over the batch that begins with tree t00000"
    ):
        grown_by(ray, unfinished(tmp_path / "run.db"), at_once=1)
    assert ray.begun == ["1"] * 5
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]
    assert ia.simulate(tmp_path / "run.db", **TREES).done == 7


def test_a_limit_holds_over_all_tasks_also_when_workers_are_lost(tmp_path: Path) -> None:
    run = unfinished(tmp_path / "run.db")
    with pytest.raises(StopError, match="--max-tokens 9,000"):
        grown_by(OneByOne(*LOST, after=True), run, limit=9000)
    with ia.open_run(run) as opened:
        spent = sum(used.prompt_tokens + used.completion_tokens for used in opened.usage().values())
    assert 5000 < spent <= 9000
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]
    assert grown_by(OneByOne(), run, limit=10**6).done == 7


def test_a_task_that_cannot_begin_is_told_in_one_line(tmp_path: Path) -> None:
    missing = Errors.RayTaskError("Traceback\n  File x\nModuleNotFoundError: No module named 'interalign'\n")
    with pytest.raises(
        ConfigError, match=r"No module named 'interalign'.*install the same interalign on every machine"
    ):
        grown_by(OneByOne(missing), unfinished(tmp_path / "run.db"))
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]


@pytest.mark.parametrize("said", ["The task's local raylet died. Check raylet.out for more information.", ""])
def test_a_ray_that_is_gone_stops_the_run_which_can_go_on(said: str, tmp_path: Path) -> None:
    run = unfinished(tmp_path / "run.db")
    with pytest.raises(StopError, match=rf"Ray failed \({said or 'LocalRayletDiedError'}\); what was finished is kept"):
        grown_by(OneByOne(None, Errors.LocalRayletDiedError(said)), run, at_once=1)
    with ia.open_run(run) as opened:
        assert [tree.id for tree in opened.trees("done")] == ["t00000", "t00001"]
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]


def test_a_new_run_is_kept_when_it_is_refused_with_calls_on_record_that_others_made(tmp_path: Path) -> None:
    whole, run = tmp_path / "whole.db", tmp_path / "run.db"
    ia.simulate(whole, trees=2, turns=1)

    async def refused() -> None:
        async with open_session(run, Runtime(), None) as session:
            with Store.open(whole) as store:
                assert store.run is not None
                session.store.begin_run("run", "simulation", store.run.identity, store.run.version)
            folder_of(run).mkdir()
            shutil.copy(whole, folder_of(run) / "1.db")  # what a worker has grown
            gather(session.store)
            raise ConfigError("another worker cannot be used")

    with pytest.raises(ConfigError, match="another worker"):
        asyncio.run(refused())
    assert calls(run) == calls(whole)


RAY = ("--engine", "ray", "--workers", "3")


def workers_of(process: int) -> list[int]:
    """Ray's worker processes for this command, at work or between two batches; its agents have such titles, too."""
    found = []
    for each in Path("/proc").iterdir():
        with suppress(OSError):
            title = (each / "cmdline").read_bytes()
            if each.name.isdigit() and title.startswith((b"ray::IDLE", b"ray::grow_batch")):
                found.append(int(each.name))
    return [pid for pid in found if process in ancestors(pid)]


def ancestors(pid: int) -> set[int]:
    above = set[int]()
    while pid > 1:
        pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        above.add(pid)
    return above


@needs_ray
@pytest.mark.slow
def test_a_run_on_ray_is_that_of_one_process_also_when_its_workers_are_killed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = one_process(tmp_path / "whole")
    folder = tmp_path / "ray"
    folder.mkdir()
    rng, killed = random.Random(16), 0
    with started(folder, *WORDS, *RAY) as process:
        while process.poll() is None and killed < 3:
            before = begun(folder)
            until_begun(folder, before + 5, process)
            if at_work := workers_of(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(at_work), signal.SIGKILL)
                    killed += 1
        _, err = process.communicate()
    assert (killed, process.returncode, capfd.readouterr().out) == (3, 0, ""), err
    assert not (folder / "run.db.workers").exists()
    assert exported(folder / "run.db") == exported(whole)
    assert calls(folder / "run.db") == calls(whole)


@needs_ray
@pytest.mark.slow
def test_what_ray_had_grown_is_kept_after_an_interrupt_and_after_a_kill_of_the_command(tmp_path: Path) -> None:
    whole = one_process(tmp_path / "whole")
    folder = tmp_path / "ray"
    folder.mkdir()
    with started(folder, *WORDS, *RAY) as process:
        until_begun(folder, 40, process)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 3
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1] == (
            "interalign: interrupted; what was finished is kept, run the same command again to go on"
        )
    assert not (folder / "run.db.workers").exists()
    kept = len(calls_of(folder / "run.db"))
    assert kept >= 40 - 3 * 4
    with started(folder, *WORDS, *RAY) as process:
        until_begun(folder, begun(folder) + 30, process)
        process.kill()
        process.wait()
    ended = 3
    while ended == 3:  # a task whose command was killed leaves by itself, a moment later
        with started(folder, *WORDS) as process:
            ended = process.wait()
    assert ended == 0
    assert begun(folder) - len(calls_of(whole)) <= 2 * 2 * 3 * 4
    assert calls(folder / "run.db") == calls(whole)
