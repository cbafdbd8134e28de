"""`judge` and `audit` with `--workers` or on Ray: the run is, byte for byte, that of one process, also after kills."""

import asyncio
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from calls_seen import calls_of, trees_of
from conftest import Ended
from test_merge import calls, exported
from test_ray import LOST, OneByOne
from test_workers import begun, started, until_begun
from until import until

import interalign as ia
from interalign import api
from interalign.config import Runtime, SimulationSettings
from interalign.errors import StopError
from interalign.people import load_personas
from interalign.records import AUDITED, FINDING
from interalign.rounds import Rounds
from interalign.run.audit import audit_by_judge
from interalign.run.ray_engine import RayTasks
from interalign.run.session import open_session
from interalign.run.tree_work import growing, judging
from interalign.run.worker_orders import WorkerEnding, carry_out_orders, orders_for
from interalign.store import Store
from interalign.store.lock import is_locked
from interalign.store.worker_files import gather, split_to_judge
from interalign.tree import Annotation

Cli = Callable[..., Ended]
NOISY = "world:judge?noise=0.4"
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def imported(run: Path) -> None:
    """Conversations of which one has no persona."""
    people = list(load_personas("world", split="train", n=3, seed=0))
    (run.parent / "people.jsonl").write_text("".join(each.model_dump_json() + "\n" for each in people))
    rows = [{"messages": TALK, "persona": each.id} for each in people] + [{"messages": TALK}]
    (run.parent / "talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    api.import_conversations(run.parent / "talks.jsonl", run, personas=run.parent / "people.jsonl")


GROWN: dict[str, Callable[[Path], object]] = {
    "simulation": lambda run: ia.simulate(run, trees=4, turns=2, seed=3),
    "listed": lambda run: ia.simulate(run, trees=2, turns=1, branch=3, judging="list", system="Be kind."),
    "panel": lambda run: ia.simulate(run, trees=2, turns=1, judge=["world:judge", "world:judge?noise=0.3"]),
    "evaluation": lambda run: ia.evaluate(run, candidate=["world:average", "b=world:blind"], limit=2, turns=1),
    "import": imported,
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for a run of each kind that is asked for; nobody changes one."""
    return tmp_path_factory.mktemp("grown")


def copies(grown: Path, folder: Path, kind: str = "simulation") -> tuple[Path, Path]:
    """Two copies of a run, of the same name so that they export the same."""
    made = folder / "one" / "run.db", folder / "several" / "run.db"
    if not (grown / f"{kind}.db").exists():
        GROWN[kind](grown / f"{kind}.db")
    for run in made:
        run.parent.mkdir()
        shutil.copy(grown / f"{kind}.db", run)
    return made


def in_parts(run: Path, judge: str, kind: str = "judge", trusted: tuple[str, ...] = ()) -> list[WorkerEnding]:
    """What two workers do, one after the other, and this process instead of them."""
    with Store.create_or_open(run) as store:
        files = split_to_judge(store, 2, partial(store.walk_trees, "done"))
        orders = {"kind": kind, "judge": judge, "trusted": trusted}
        ends = [carry_out_orders(orders_for(file, orders, Runtime()), file, lambda stood: None) for file in files]
        gather(store)
    return ends


def everything(run: Path) -> list[Any]:
    """All that the file holds of its trees, in the order of the plan."""
    with ia.open_run(run) as store:
        return [list(store.judged_trees()), store.usage_by_model(), store.judges(), list(store.trees())]


@pytest.mark.parametrize("kind", GROWN)
def test_trees_judged_in_parts_are_those_judged_by_one_process(kind: str, grown: Path, tmp_path: Path) -> None:
    one, several = copies(grown, tmp_path, kind)
    api.judge(one, judge=NOISY)
    assert in_parts(several, NOISY) == [WorkerEnding(None, 0)] * 2
    assert everything(several) == everything(one)
    assert calls(several) == calls(one)
    if kind != "import":
        assert exported(several) == exported(one)


def test_aspects_that_are_scored_in_parts_take_the_place_of_older_ones(grown: Path, tmp_path: Path) -> None:
    run = tmp_path / "one.db"
    ia.simulate(run, trees=2, turns=1, judging="score", aspects=True)
    shutil.copy(run, tmp_path / "two.db")
    api.judge(run, judge=NOISY)
    in_parts(tmp_path / "two.db", NOISY)
    in_parts(tmp_path / "two.db", NOISY)  # replays every call, and says the same again
    scores = [[tree.scores for tree in trees_of(path)] for path in (run, tmp_path / "two.db")]
    assert scores[0] == scores[1]
    assert all(score.aspects for tree in scores[1] for score in tree)
    assert calls(run) == calls(tmp_path / "two.db")


def test_an_answer_that_was_missing_is_replaced_and_asked_with_new_samples(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, several = copies(grown, tmp_path)
    for run in (one, several):
        api.judge(run, judge="mendable_judges:model")  # fewer questions than 20: all are missing
    assert in_parts(several, "mendable_judges:model", trusted=("mendable_judges:model",)) == [WorkerEnding(None, 0)] * 2
    assert calls(several) == calls(one)
    with Store.create_or_open(one) as store:
        asyncio.run(store.allow_more_samples(["t00000", "t00002"]))
    shutil.copy(one, several)
    (tmp_path / "MENDED").touch()
    in_parts(several, "mendable_judges:model")
    api.judge(one, judge="mendable_judges:model")
    assert everything(several) == everything(one)
    read = {tree.tree.id: tree.by_judge("mendable_judges:model").is_readable for tree in trees_of(several)}
    assert read == {"t00000": True, "t00001": False, "t00002": True, "t00003": False}


def test_a_broken_judge_stops_a_part_and_is_asked_anew_later_unless_it_was_readable_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ia.simulate(tmp_path / "run.db", trees=12, turns=2)
    trusted = tmp_path / "trusted.db"
    shutil.copy(tmp_path / "run.db", trusted)
    stopped, _ = in_parts(tmp_path / "run.db", "mendable_judges:model")
    assert (stopped.code, "none of the first 20 questions" in str(stopped.reason)) == (3, True)
    (tmp_path / "MENDED").touch()
    again = api.judge(tmp_path / "run.db", judge="mendable_judges:model")
    assert (again.done, again.calls) == (12, 48)  # of no question the old answer is replayed
    (tmp_path / "MENDED").unlink()
    assert in_parts(trusted, "mendable_judges:model", trusted=("mendable_judges:model",))[0] == WorkerEnding(None, 0)


def test_workers_know_which_judges_the_run_has_readable_answers_of(grown: Path, tmp_path: Path) -> None:
    _, run = copies(grown, tmp_path)

    async def orders() -> list[list[str]]:
        async with open_session(run, Runtime(), None) as session:
            trees = partial(session.store.walk_trees, "done")
            grows = growing(session, SimulationSettings(judge=("world:judge", NOISY)))
            works = [judging(session, "judge", name, trees) for name in ("world:judge", NOISY)]
            return [work.orders["trusted"] for work in (*works, grows)]

    assert asyncio.run(orders()) == [["world:judge"], [], ["world:judge"]]


def test_findings_of_an_audit_in_parts_replace_those_of_the_one_before(grown: Path, tmp_path: Path) -> None:
    one, several = copies(grown, tmp_path)
    summary = asyncio.run(audit_by_judge(one, "world:judge", Runtime()))
    stale = Annotation(node="u", name=FINDING, by="world:judge", value=[{"kind": "stalls", "evidence": "x"}])
    with Store.create_or_open(several) as store:
        first = next(iter(store.judged_trees())).tree
        notes = [stale.model_copy(update={"node": node.id}) for node in first.nodes if node.role == "user"]
        asyncio.run(store.replace_annotations(first.id, (AUDITED, FINDING), "world:judge", notes))
    assert in_parts(several, "world:judge", "audit") == [WorkerEnding(None, 0)] * 2
    assert everything(several) == everything(one)
    assert calls(several) == calls(one)
    assert summary.calls == len(calls_of(several, "judge")) - len(calls_of(grown / "simulation.db", "judge"))


def on_ray(run: Path, judge: str, ray: OneByOne, limit: int | None = None) -> ia.RunSummary:
    """Judge a run in tasks of a tree each, one at a time."""

    async def judged() -> ia.RunSummary:
        async with open_session(run, Runtime(concurrency=2, max_tokens=limit), None) as session:
            session.count_to_judge()
            work = judging(session, "judge", judge, partial(session.store.walk_trees, "done"))
            try:
                await RayTasks(session, work, ray, 1).work_on_all()
            finally:
                gather(session.store)
            return session.summary()

    return asyncio.run(judged())


def test_tasks_judge_as_one_process_does_also_when_workers_are_lost(grown: Path, tmp_path: Path) -> None:
    one, several = copies(grown, tmp_path)
    whole = api.judge(one, judge=NOISY)
    ray = OneByOne(*LOST, after=True)
    summary = on_ray(several, NOISY, ray)
    assert (summary.done, summary.failed, len(ray.begun)) == (4, {}, 4 + len(LOST))
    assert (everything(several), calls(several)) == (everything(one), calls(one))
    assert summary.calls < whole.calls  # what was committed before a worker was lost is replayed


def test_calls_that_are_on_record_already_count_once_in_a_limit_over_all_tasks(grown: Path, tmp_path: Path) -> None:
    one, several = copies(grown, tmp_path)
    api.judge(one, judge=NOISY)

    def tokens(run: Path) -> int:
        with ia.open_run(run) as store:
            return sum(used.prompt_tokens + used.completion_tokens for used in store.usage_by_model().values())

    all_of_it = tokens(one)
    with pytest.raises(StopError, match="raise --max-tokens"):
        on_ray(several, NOISY, OneByOne(), limit=(tokens(several) + all_of_it) // 2)
    assert tokens(several) < all_of_it
    assert on_ray(several, NOISY, OneByOne(), limit=all_of_it + 2000).done == 4
    assert tokens(several) == all_of_it


def test_workers_judge_and_say_what_one_process_does(
    grown: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, several = copies(grown, tmp_path, "import")
    words = ("judge", "run.db", "--judge", NOISY)
    monkeypatch.chdir(one.parent)
    expected = cli(*words)
    monkeypatch.chdir(several.parent)
    ended = cli(*words, "--workers", "2")
    assert (ended.code, ended.out, ended.err) == (1, expected.out, expected.err)
    assert "3 of 4 trees done in run.db; 3 calls made" in ended.err
    assert "not judged: a judge needs the persona" in ended.err
    assert (everything(several), calls(several)) == (everything(one), calls(one))
    assert [path.name for path in several.parent.iterdir()] == ["run.db"]
    again = cli(*words, "--workers", "2")  # only the tree without a persona is tried again
    assert (again.code, "3 of 4 trees done in run.db; 0 calls made" in again.err) == (1, True)


@pytest.mark.slow
def test_an_audit_by_workers_that_was_killed_goes_on_in_one_process(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, several = copies(grown, tmp_path)
    monkeypatch.setenv("CALL_LOG", str(tmp_path / "one.log"))
    api.audit(one, judge="scripted_roles:judge")
    words = ("audit", "run.db", "--judge", "scripted_roles:judge", "--workers", "2", "--concurrency", "4")
    with started(several.parent, *words) as process:
        until_begun(several.parent, 4, process)
        process.kill()
        process.wait()
    files = list(several.with_name("run.db.workers").glob("*.db"))
    assert len(files) == 2
    asyncio.run(until(lambda: not any(map(is_locked, files))))  # workers leave by themselves, a moment later
    monkeypatch.setenv("CALL_LOG", str(several.parent / "log"))
    found = api.audit(several, judge="scripted_roles:judge")
    assert (found.unread, found.failed) == (0, {})
    assert (everything(several), calls(several)) == (everything(one), calls(one))
    assert not several.with_name("run.db.workers").exists()
    assert begun(several.parent) - begun_in(tmp_path / "one.log") <= 2 * 4


def begun_in(log: Path) -> int:
    return log.read_text().count("\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--workers", "0"), "workers"),
        (("--workers", "257"), "workers"),
        (("--engine", "spark"), "no engine 'spark': there are local, ray and ray://HOST:PORT"),
    ],
)
@pytest.mark.parametrize("name", ["judge", "audit"])
def test_what_no_engine_can_be_is_refused_in_one_line(
    name: str, words: tuple[str, ...], says: str, grown: Path, tmp_path: Path, cli: Cli
) -> None:
    run = copies(grown, tmp_path)[0]
    before = run.read_bytes()
    ended = cli(name, run, "--judge", NOISY, *words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert says in ended.err
    assert run.read_bytes() == before


def steps_of(out: Path, **settings: Any) -> dict[str, Any]:
    return Rounds(out, model="hf:m", **settings).engine


def test_the_runs_of_rounds_get_the_engine_that_was_asked_for_and_else_the_default(tmp_path: Path) -> None:
    assert steps_of(tmp_path / "a") == {}  # --engine ray then takes all CPUs, which --workers 1 would not
    assert steps_of(tmp_path / "b", workers=3) == {"workers": 3}
    assert steps_of(tmp_path / "c", engine="local") == {"engine": "local"}
