"""What every test gets: no network, no keys, one thread, and the command line as a fixture."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from forks import Forks

_GUARD = Path(__file__).parent / "network_guard"

# Before anything heavy is imported, and inherited by every process a test starts.
for name in [name for name in os.environ if name.startswith(("OPENAI_", "LANGSMITH_", "LANGCHAIN_", "ANTHROPIC_"))]:
    del os.environ[name]
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    LANGSMITH_TRACING="false",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    PYTHONPATH=os.pathsep.join([str(_GUARD), *filter(None, [os.environ.get("PYTHONPATH")])]),
)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each of those processes would compile the package anew
sys.path.insert(0, str(_GUARD))
sys.modules.pop("sitecustomize", None)  # the interpreter's own, if it has one

import sitecustomize as network_guard  # noqa: E402

_known_modules = 0


def pytest_runtest_setup() -> None:
    """Spare the garbage collector what libraries brought along: it stays to the end, and every training begins with a
    full collection, which takes a second where torch, TRL and transformers are loaded."""
    global _known_modules
    if len(sys.modules) - _known_modules > 100:
        gc.collect()  # so that no garbage is kept
        gc.freeze()
        _known_modules = len(sys.modules)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    """Standard output."""
    err: str
    """Standard error."""


@pytest.fixture(autouse=True)
def no_network() -> Iterator[list[str]]:
    """Connections leave this machine for no test; one that was tried fails the test even if the error was swallowed."""
    network_guard.attempts.clear()
    yield network_guard.attempts
    assert network_guard.attempts == [], "the test tried to reach the network"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that only itself vouches for, and its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([program, *request, *names, "-keyout", key, "-out", chain], check=True, capture_output=True)
    return chain, key


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run a command line in this process, in the test's own folder: `cli("export", "run.db", ...)`."""
    from typer.testing import CliRunner

    from interalign.cli import app

    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path, stdin: str | None = None) -> Ended:
        result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Ended]:
    """Run the installed `interalign` as a process of its own in the test's folder, as a user does."""
    installed = Path(sys.executable).with_name("interalign")

    def run(*words: str | Path, env: Mapping[str, str] | None = None) -> Ended:
        done = subprocess.run(
            [installed, *words],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that trainings begin with, and only read; its input and output embeddings are one tensor."""
    from tiny import tiny_model

    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def forks() -> "Iterator[Forks]":
    """Commands in processes of their own that start at once: `forks.run(folder, "simulate", ...)`."""
    from forks import forking

    with forking() as opened:
        yield opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where training is required (CI), a skipped training test is a failed one."""
    report = yield
    if report.skipped and item.get_closest_marker("train") and not hasattr(report, "wasxfail"):
        _fail_where_training_is_required(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file skipped as a whole may hold training tests, so it fails there too."""
    report = yield
    if report.skipped:
        _fail_where_training_is_required(report)
    return report


def _fail_where_training_is_required(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("INTERALIGN_REQUIRE_TRAINING") == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"training is required here (INTERALIGN_REQUIRE_TRAINING=1), but: {reason}"
