"""`hf:` models in worker processes: the same replies, and what happens when a process or its memory ends.

Starting a worker takes seconds (it imports torch), so most tests share two of them.
"""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from exported import data_of
from tiny import CHAT_TEMPLATE, tiny_model

import interalign as ia
from interalign.config import Runtime, SimulationSettings, with_addresses
from interalign.errors import ConfigError, FailedTreeError, InteralignError, StopError
from interalign.model_spec import ModelSpec
from interalign.models.base import Parameters
from interalign.models.local import LocalModel, LocalOptions, hf_model
from interalign.models.local.batch_queue import assign
from interalign.models.resolve import resolve_model
from interalign.records import Reply
from interalign.tree import Message

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

Call = tuple[list[Message], Parameters, int]
SHORT = Parameters(temperature=1.0, max_tokens=6)
LONG = Parameters(temperature=1.0, max_tokens=900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose every token takes half a megabyte while it is read (float64, between the two halves of a layer)."""
    path = tiny_model(tmp_path_factory.mktemp("wide"), positions=1024)
    torch.manual_seed(0)
    wide = transformers.LlamaConfig.from_pretrained(path, intermediate_size=16384)
    transformers.LlamaForCausalLM(wide).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def workers(folder: Path) -> Iterator[LocalModel]:
    """The model in two processes, which the tests of this file share."""
    model = hf_model(f"hf:{folder}?dtype=float64&workers=2&max_batch=8")
    model.load()
    yield model
    model.close()


@pytest.fixture(scope="module")
def in_process(folder: Path) -> LocalModel:
    return hf_model(f"hf:{folder}?dtype=float64")


def talk(*texts: str) -> list[Message]:
    return [Message(role=("user", "assistant")[place % 2], content=text) for place, text in enumerate(texts)]


def ask_all(model: LocalModel, calls: list[Call]) -> list[object]:
    """Every reply, and of errors their class and what they say and hold."""

    async def at_once() -> list[Reply | BaseException]:
        return await asyncio.gather(*(model(*call) for call in calls), return_exceptions=True)

    answers = asyncio.run(at_once())
    return [a if isinstance(a, Reply) else (type(a), str(a), getattr(a, "tokens", None)) for a in answers]


def pids(model: LocalModel) -> list[int]:
    return [queue.engine._child.process.pid for queue in model._queues]


def children(pid: int) -> set[int]:
    """The processes that this one started and that are not over."""
    found: set[int] = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found |= {int(child) for child in (thread / "children").read_text().split()}
    return {child for child in found if runs(child)}


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def wait_until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not so():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextlib.contextmanager
def when_answering(act: Callable[[int], None], *, nth: int = 1) -> Iterator[None]:
    """Do something with the process that begins the nth batch, as soon as it says that it has."""

    class Watch(logging.Handler):
        seen = 0

        def emit(self, record: logging.LogRecord) -> None:
            if str(record.msg).endswith("answers %d calls"):
                self.seen += 1
                if self.seen == nth:
                    act(record.args[1])

    logger, watch = logging.getLogger("interalign.models.local.workers.handle"), Watch()
    logger.addHandler(watch)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(watch)
        logger.setLevel(logging.NOTSET)
    assert watch.seen >= nth


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


# Replies


def test_replies_through_workers_are_those_of_the_model_in_process(workers: LocalModel, in_process: LocalModel) -> None:
    openings = ["hello", "two\nlines", "lone \ud800 surrogate", "\x00\x1b[31m", "unicode \u2028 \U0001f600", "a" * 300]
    calls = [(talk(text, "and", text[::-1]), SHORT, seed) for text in openings for seed in range(4)]
    calls += [(talk("greedy"), Parameters(temperature=0.0, top_p=0.5, max_tokens=20), 0), (talk("b" * 2000), SHORT, 0)]
    calls += [(talk(text), Parameters(temperature=5.0, max_tokens=1), seed) for text in openings for seed in range(9)]
    through_workers = ask_all(workers, calls)
    assert through_workers == ask_all(in_process, calls)
    kinds = {type(answer) if isinstance(answer, Reply) else answer[0].__name__ for answer in through_workers}
    assert kinds == {Reply, "BadContentError", "FailedTreeError"}
    with pytest.raises(ConfigError, match="top_k"):
        asyncio.run(workers(talk("hello"), Parameters(extra_body={"top_k": 5}), 0))


def test_workers_have_the_template_of_the_name_and_the_arguments_of_the_seat_and_say_once_what_all_would_say(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, file = tiny_model(tmp_path / "model"), tmp_path / "own.jinja"
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    file.write_text(refuses + "{{ preface }}" + CHAT_TEMPLATE)
    parameters = Parameters(max_tokens=4, extra_body={"chat_template_kwargs": {"preface": "Well.", "voice": "low"}})
    persona = Message(role="system", content="Be kind.")
    calls = [([persona, *talk(f"{number} hello")], parameters, number) for number in range(16)]
    name = f"hf:{folder}?chat_template={file}&dtype=float64"
    expected = ask_all(hf_model(name), calls)
    assert len(caplog.records) == 2
    model = hf_model(f"{name}&workers=2&max_batch=4")
    try:
        assert ask_all(model, calls) == expected
    finally:
        model.close()
    said = [record.getMessage() for record in caplog.records]
    assert said[2:] in (said[:2], said[:2][::-1])


def test_signals_for_the_run_do_not_end_its_workers(workers: LocalModel, in_process: LocalModel) -> None:
    before = pids(workers)
    for pid in before:
        assert os.getpgid(pid) != os.getpgid(0)  # Ctrl-C reaches the whole group of the run
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    calls = [(talk(word), SHORT, 0) for word in "abcdefgh"]
    assert ask_all(workers, calls) == ask_all(in_process, calls)
    assert pids(workers) == before


def batch_queue(calls: int, ready: bool = True) -> SimpleNamespace:
    return SimpleNamespace(calls=calls, ready=ready)


def test_a_conversation_stays_with_its_worker_whatever_a_role_adds_to_its_prompt() -> None:
    queues = [batch_queue(0), batch_queue(0), batch_queue(0)]
    for number in range(20):
        opening, rules = f"opening {number}", Message(role="system", content=f"persona {number}")
        own = assign(queues, talk(opening))
        assert assign(queues, talk(f"{opening}\n\n[for the assistant only]\nA hint.")) is own
        assert assign(queues, talk(opening, "reply", "more")) is own
        assert assign(queues, [rules, *talk("begin")]) is assign(queues, [rules, *talk("begin", "a", "b")])
    taken = [assign(queues, talk(f"opening {number}")) for number in range(300)]
    assert all(60 < sum(one is other for other in taken) < 140 for one in queues)


def test_a_worker_that_has_clearly_more_to_do_or_is_being_replaced_is_passed_over() -> None:
    queues = [batch_queue(0), batch_queue(0), batch_queue(0)]
    own = assign(queues, talk("hello"))
    own.calls = 4
    assert assign(queues, talk("hello")) is own
    own.calls = 5
    assert assign(queues, talk("hello")) is not own
    own.calls, own.ready = 0, False
    others = [assign(queues, talk(str(number))) for number in range(30)]
    assert own not in others
    own.ready = True
    # The others stayed where they were.
    moved = [assign(queues, talk(str(number))) is not other for number, other in enumerate(others)]
    assert moved == [assign(queues, talk(str(number))) is own for number in range(30)]


# Memory


@contextlib.contextmanager
def memory_limit(model: LocalModel, megabytes: int) -> Iterator[None]:
    """Let the kernel refuse the workers more than so much beside what they have (the address space, as `ulimit -v`)."""
    for pid in pids(model):
        has = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(pid, resource.RLIMIT_AS, (has + (megabytes << 20), resource.RLIM_INFINITY))
    yield
    for pid in pids(model):
        resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_worker_without_memory_for_a_batch_answers_it_in_halves_and_only_a_call_too_large_alone_fails(
    workers: LocalModel, in_process: LocalModel, caplog: pytest.LogCaptureFixture
) -> None:
    before = pids(workers)
    calls = [(talk(f"{number} what shall we do today"), SHORT, number) for number in range(32)]
    calls.insert(7, (talk("z" * 1000), SHORT, 0))
    expected = ask_all(in_process, calls)
    with memory_limit(workers, 80):
        answers = ask_all(workers, calls)
    kind, said, _ = answers.pop(7)
    del expected[7]
    assert kind is FailedTreeError
    assert "ran out of memory on one call alone, a prompt of 1003 tokens and a reply of up to 6 (" in said
    assert answers == expected
    assert pids(workers) == before
    assert "what it had kept is dropped, and the batch tried in halves" in caplog.text


# The end of a worker


def test_a_worker_that_dies_idle_is_replaced_by_itself_and_no_call_fails(
    workers: LocalModel, in_process: LocalModel
) -> None:
    first, second = pids(workers)
    kill(first)
    wait_until(lambda: not runs(first))
    calls = [(talk(f"{number} hello"), SHORT, number) for number in range(12)]
    assert ask_all(workers, calls) == ask_all(in_process, calls)
    wait_until(lambda: workers._queues[0].ready)
    assert pids(workers)[0] != first
    assert pids(workers)[1] == second


def test_calls_that_a_dying_worker_had_not_begun_are_answered_by_others(
    workers: LocalModel, in_process: LocalModel
) -> None:
    # One long prompt for each worker, which is answered first: no reply of 30 tokens has room beside it.
    calls = [(talk(f"{number} {'z' * 996}"), Parameters(max_tokens=20), number) for number in range(2)]
    calls += [(talk(f"{number} hello"), Parameters(max_tokens=30), number) for number in range(2, 28)]
    expected = ask_all(in_process, calls)
    with when_answering(kill):
        answers = ask_all(workers, calls)
    failed = [place for place, answer in enumerate(answers) if answer != expected[place]]
    # The others waited, in the worker and outside.
    assert len(failed) == 1
    for place in failed:
        assert place in (0, 1)
        assert answers[place][0] is FailedTreeError
        assert "was killed by SIGKILL" in answers[place][1]
    wait_until(lambda: all(one.ready for one in workers._queues))
    assert ask_all(workers, calls) == expected


def test_closing_ends_the_workers_in_the_middle_of_a_reply_and_leaves_no_process(workers: LocalModel) -> None:
    before = set(pids(workers))
    assert before <= children(os.getpid())

    started: Future[int] = Future()

    async def close_amidst() -> list[object]:
        with when_answering(lambda pid: started.set_result(pid)):
            calls = [asyncio.ensure_future(workers(talk(word), LONG, 0)) for word in "ab"]
            await asyncio.wrap_future(started)
        workers.close()
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(close_amidst())
    assert {type(answer) for answer in answers} <= {StopError, asyncio.CancelledError}
    assert any("was closed" in str(answer) for answer in answers)
    assert before & children(os.getpid()) == set()
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)  # nor a zombie
    with pytest.raises(StopError, match="closed"):
        asyncio.run(workers(talk("hello"), SHORT, 0))


def test_a_worker_killed_in_the_middle_of_a_batch_fails_those_trees_and_the_same_run_makes_up_for_it_without_workers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny_model(tmp_path / "tiny", positions=2048)
    settings = {"trees": 6, "turns": 2, "parameters": {"candidate": {"temperature": 1.0, "max_tokens": 40}}}
    runtime = ia.Runtime(concurrency=4)
    model = f"m=hf:{folder}?dtype=float64"
    with when_answering(kill, nth=2):
        broken = ia.simulate(
            tmp_path / "run.db", candidate=f"{model}&workers=2&cache_mb=64", runtime=runtime, **settings
        )
    assert 0 < len(broken.failed) <= 4
    assert broken.done == 6 - len(broken.failed)
    for reason in broken.failed.values():
        assert "the worker process that was answering was killed by SIGKILL" in reason
        assert "if memory ran out, lower ?max_batch=, ?cache_mb= or ?workers=" in reason
        assert reason.isprintable()
    assert "a worker process was killed by SIGKILL and is replaced" in caplog.text
    # Without workers, and with another batch: how a model is run is no part of a run.
    again = ia.simulate(tmp_path / "run.db", candidate=f"{model}&max_batch=3", runtime=runtime, **settings)
    assert (again.done, again.failed) == (6, {})
    unbroken = ia.simulate(tmp_path / "calm.db", candidate=model, runtime=runtime, **settings)
    assert again.usage == unbroken.usage
    assert again.calls + broken.calls == unbroken.calls
    assert data_of(tmp_path / "run.db") == data_of(tmp_path / "calm.db")


PARENT = """\
import asyncio, logging, sys
from interalign.models.base import Parameters
from interalign.models.local import hf_model
from interalign.tree import Message
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(message)s")
model = hf_model(sys.argv[1])
model.load()
print("torch" in sys.modules, flush=True)

async def minutes() -> None:
    calls = [([Message(role="user", content=f"hello {seed}")], Parameters(max_tokens=900), seed) for seed in range(128)]
    await asyncio.gather(*(model(*call) for call in calls))

asyncio.run(minutes())
"""


def test_a_run_that_is_killed_leaves_no_worker_behind_and_never_loads_torch_itself(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    # Files in the current folder stand in for nothing in a worker.
    here = tmp_path / "here"
    here.mkdir()
    for name in ("json.py", "torch.py"):
        (here / name).write_text("raise SystemExit('not this one')")
    words = [sys.executable, tmp_path / "parent.py", f"hf:{folder}?dtype=float64&workers=1&max_batch=128"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=here) as parent:
        assert parent.stdout is not None
        said = []
        for line in parent.stdout:
            said.append(line.strip())
            if line.endswith("answers 128 calls\n"):
                break
        [worker] = children(parent.pid)
        parent.kill()
    assert "False" in said, said
    wait_until(lambda: not runs(worker))


# Loading


@pytest.fixture
def torch_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have workers find a torch that does this when it is imported."""

    def does(code: str) -> None:
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "torch.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'lib'}{os.pathsep}{os.environ['PYTHONPATH']}")

    return does


def test_what_keeps_a_model_from_loading_in_a_worker_is_said_as_in_process(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if "chat_template" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    before, said = children(os.getpid()), []
    for query in ("", "?workers=1"):
        model = hf_model(f"hf:{tmp_path}{query}")
        with pytest.raises(ConfigError, match="has no chat template") as error:
            model.load()
        said.append(str(error.value))
        model.close()
    assert said[0] == said[1]
    assert children(os.getpid()) <= before


def test_a_worker_without_the_training_extra_says_what_to_install(
    tmp_path: Path, torch_that: Callable[[str], None]
) -> None:
    before = children(os.getpid())
    torch_that("raise ImportError('no torch here')")
    model = hf_model(f"hf:{tmp_path}?workers=2")
    with pytest.raises(ConfigError, match=r"pip install 'interalign\[train\]'"):
        asyncio.run(model(talk("hello"), SHORT, 0))
    with pytest.raises(ConfigError, match=r"pip install 'interalign\[train\]'"):
        model.load()
    model.close()
    assert children(os.getpid()) <= before


def test_workers_that_die_three_times_in_a_row_without_a_reply_stop_the_run(
    tmp_path: Path, torch_that: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    torch_that("import os, signal\nprint('libtorch: \\x1b[1mbroken', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
    settings = {"trees": 2, "turns": 1, "candidate": f"m=hf:{tmp_path}?workers=1"}
    before = children(os.getpid())
    with pytest.raises(StopError) as stop:
        ia.simulate(tmp_path / "run.db", **settings)
    assert str(stop.value) == (
        f"hf:{tmp_path}: 3 worker processes ended one after the other without a reply, the last one was killed by "
        "SIGKILL, after saying 'libtorch:  [1mbroken'; if memory ran out, lower ?max_batch=, ?cache_mb= or ?workers="
    )
    assert (caplog.text.count("and is replaced"), caplog.text.count("and its place is given up")) == (2, 1)
    assert children(os.getpid()) <= before


# Names


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("hf:x?workers=2", "hf:x", "workers=2"),
        ("hf:x?workers=2&history=1&cache_mb=512", "hf:x?history=1", "cache_mb=512&workers=2"),
        ("hf:x?dtype=float64", "hf:x?dtype=float64", ""),
        ("hf:x", "hf:x", ""),
        ("world:judge?workers=2", "world:judge?workers=2", ""),
    ],
)
def test_a_model_is_known_without_the_options_that_change_no_reply(spec: str, name: str, options: str) -> None:
    parsed = ModelSpec.parse(spec)
    assert (parsed.known_as, parsed.engine) == (name, options)
    assert ModelSpec.parse(str(parsed)) == parsed
    if spec.startswith("hf:"):
        assert hf_model(spec).name == name


def test_a_run_gives_a_model_its_options_under_the_name_it_is_known_by() -> None:
    given = SimulationSettings(candidate="a=hf:x?workers=3&history=1", judge="hf:x?history=1&workers=3")
    settings, runtime = with_addresses(given, Runtime())
    assert settings == SimulationSettings(candidate="a=hf:x?history=1", judge="hf:x?history=1")
    model = resolve_model(settings.judge, runtime)
    assert isinstance(model, LocalModel)
    assert (model.name, model.options) == ("hf:x?history=1", LocalOptions(history=1, workers=3))
    with pytest.raises(ConfigError, match="hf:x is given two sets of max_batch, cache_mb, workers"):
        with_addresses(SimulationSettings(candidate="hf:x?workers=3", judge="hf:x"), Runtime())
    with pytest.raises(InteralignError, match="workers"):
        hf_model("hf:x?workers=0")
