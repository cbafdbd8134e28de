"""What is published holds everything: each package, prompt and template, importable from there alone."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOT_FOLDERS = ("agents", "graphs", "training", "eval")


def tracked() -> list[str]:
    """Files that belong to the project: tracked, or new and not ignored."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout, so what belongs to the project is not known")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def packaged() -> set[str]:
    """Every file of the package, named as the wheel must name it."""
    names = set()
    for name in tracked():
        folder, _, rest = name.partition("/")
        if name.startswith("src/interalign/") and not (ROOT / name).is_symlink():
            names.add(name.removeprefix("src/"))
        elif folder in ROOT_FOLDERS:
            names.add(f"interalign/{folder}/{rest}")
    return names


def build(tree: Path, out: Path, kind: str) -> Path:
    """Build a wheel or an sdist with the setuptools that is installed: nothing is downloaded."""
    words = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, tree]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a clean copy of the project's own files."""
    tree = tmp_path_factory.mktemp("copy")
    for name in tracked():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            (tree / name).symlink_to((ROOT / name).readlink())
        else:
            (tree / name).write_bytes((ROOT / name).read_bytes())
    return build(tree, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the unpacked sdist, so that the sdist is shown to be complete too."""
    tree = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(tree, filter="data")
    (unpacked,) = tree.iterdir()
    return build(unpacked, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel]
    subprocess.run(words, check=True, capture_output=True)
    return folder


def run_installed(installed: Path, code: str, cwd: Path) -> list[str]:
    """Lines that a new Python prints which finds interalign in the installed folder only."""
    # -I keeps this checkout off the path, but an editable install may still be on it: the installed folder goes first.
    start = f"import sys; sys.path.insert(0, {str(installed)!r})\n{code}"
    done = subprocess.run([sys.executable, "-I", "-c", start], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = packaged()
    assert {
        "interalign/py.typed",
        "interalign/agents/prompts/v1/user.jinja",
        "interalign/eval/view/__init__.py",
    } <= expected
    assert held == expected


def test_nothing_in_the_wheel_lies_at_the_top_beside_interalign(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {PurePosixPath(name).parts[0] for name in archive.namelist()}
    assert tops == {"interalign", "interalign-0.1.0.dist-info"}


def test_the_wheel_names_its_command_licence_and_extras(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = "interalign-0.1.0.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        assert archive.read(f"{info}/entry_points.txt").decode().split("\n")[:2] == [
            "[console_scripts]",
            "interalign = interalign.cli:main",
        ]
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Provides-Extra: train" in metadata
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert "Requires-Dist: langgraph>=1.1" in needed
    assert [line for line in needed if "torch" in line or "transformers" in line] == []


def test_every_module_is_importable_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    names = sorted(
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in packaged()
        if name.endswith(".py")
    )
    code = f"import importlib\nfor name in {names!r}: print(importlib.import_module(name).__file__)"
    files = run_installed(installed, code, tmp_path)
    assert len(files) == len(names)
    assert [file for file in files if not file.startswith(str(installed))] == []


def test_prompts_are_read_and_a_run_is_made_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import interalign, pathlib\n"
        "done = interalign.simulate(pathlib.Path('run.db'), trees=1, turns=2)\n"
        "print(interalign.__file__)\n"
        "print(done.done, 'of', done.trees)\n"
    )
    assert run_installed(installed, code, tmp_path) == [str(installed / "interalign" / "__init__.py"), "1 of 1"]


def test_the_sdist_holds_what_the_project_is_built_from(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    sources = {f"src/{name}" for name in packaged()}  # what the symlinks show is copied as what they show
    assert {"pyproject.toml", "README.md", "LICENSE"} | sources <= held
