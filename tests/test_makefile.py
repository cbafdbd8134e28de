"""`make` says what it does: what pip writes goes to a file, and what went wrong is told in a few lines."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# Stands for a Python that installs: `-m venv DIR` makes DIR/bin with itself as its python and a command that says its
# words, `-m pip` says as much as pip does, and ends as FAIL says.
INSTALLS = """#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; printf '#!/bin/sh\\necho "ran $*"\\n' >"$3/bin/interalign"
    chmod +x "$3/bin/interalign" ;;
"-m pip") seq 300 | sed 's/^/Collecting package /'; echo "ERROR: no such constraint" >&2; exit ${FAIL:-0} ;;
"-m pytest") echo "ran pytest" ;;
*) exec REAL "$@" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def program(path: Path, text: str) -> Path:
    path.write_text(text.replace("REAL", sys.executable))
    path.chmod(0o755)
    return path


def make(project: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Not what a make around the tests was told: VENV would be the environment that they run in.
    told = ("VENV", "PYTHON", "BIN")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name not in told}
    command = ["make", "--no-print-directory", *words]
    return subprocess.run(command, cwd=project, env={**plain, **environment}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("target", "extras", "says"), [("demo", "train", "ran demo"), ("test", "train,dev", "ran pytest")]
)
def test_an_install_is_one_line_and_the_rest_is_in_a_file(target: str, extras: str, says: str, project: Path) -> None:
    python = program(project / "python", INSTALLS)
    first = make(project, target, f"PYTHON={python}")
    assert (first.returncode, first.stderr) == (
        0,
        f"installing interalign[{extras}] into .venv, which takes minutes the first time; "
        "pip writes to .venv/install.log\n",
    )
    assert first.stdout.splitlines()[-1] == says
    assert "Collecting" not in first.stdout
    assert (project / ".venv" / "install.log").read_text().count("Collecting") == 300
    again = make(project, target, f"PYTHON={python}")
    assert (again.returncode, again.stderr, again.stdout.splitlines()[-1]) == (0, "", says)


@pytest.mark.parametrize("target", ["demo", "test", "check", "docs"])
def test_an_install_that_fails_shows_the_end_of_the_log_and_names_it(target: str, project: Path) -> None:
    python = program(project / "python", INSTALLS)
    failed = make(project, target, f"PYTHON={python}", "VENV=there", FAIL="1")
    lines = failed.stderr.splitlines()
    assert failed.returncode == 2
    assert len(lines) < 30
    assert "ERROR: no such constraint" in lines
    assert "interalign could not be installed; the whole log is there/install.log" in lines
    assert failed.stdout == ""
    # Nothing is taken to be installed, so the next one tries again.
    assert make(project, "demo", f"PYTHON={python}", "VENV=there").returncode == 0


def test_a_python_that_is_too_old_or_not_there_is_one_line_and_nothing_is_made(project: Path) -> None:
    old = program(project / "old", '#!/bin/sh\nexec REAL -c "import sys; sys.version_info = (3, 9, 1); $2"\n')
    for python, says in (
        (old, f"{old} is 3.9; name another one"),
        ("no-such-python", "there is no no-such-python; name"),
    ):
        ended = make(project, "demo", f"PYTHON={python}")
        said, makes_own = ended.stderr.splitlines()
        assert ended.returncode == 2
        assert said.startswith(f"interalign needs Python 3.11 or newer, and {says}")
        assert said.endswith("make demo PYTHON=python3.12")
        assert makes_own.startswith("make: ***")
        assert not (project / ".venv").exists()


def test_help_lists_every_target(project: Path) -> None:
    lines = make(project, "help").stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["help", "demo", "test", "newest", "check", "docs", "clean"]
