"""Rules that hold for the whole package: imports, sizes, names, and the tests' own network guard."""

import ast
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("src/interalign", "agents", "graphs", "training", "eval")
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "langgraph",
    "langchain",
    "matplotlib",
    "uvicorn",
    "google",
)
SQL = re.compile(r"\b(SELECT\b.+\bFROM|INSERT (OR \w+ )?INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE|PRAGMA \w+)\b")
LOADED = "loaded now:"
PRINTING = {"src/interalign/cli/app.py", "eval/report.py"}


def sources() -> dict[str, ast.Module]:
    """Every module of the package by its path from the root; each package once, not again through its symlink."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    own = [path for path in paths if path.resolve() == path]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in own}


SOURCES = sources()
PRIVATE_WORDS = re.compile(
    r"(?<![a-z])(houses?|rooms?|desks?|lanes?|heirs?|heed(?:s|ed)?|bury|buried|ill|neediest|rested)(?![a-z])",
    re.IGNORECASE,
)
"""Metaphors that say nothing to who searches for the standard term."""
ORDINARY_USES = ("make room", "room for", "room to spare")
"""Where one of these words has its ordinary meaning."""
WORLD = "src/interalign/models/world/"
"""Its English sentences speak of rooms and houses."""
OUTSIDE_PAGES = re.compile(r"\b(PAPER|DESIGN)\.md\b")
SAME_NAME: set[str] = {"Message"}
"""Public class names that may occur twice: `tree.Message`, and the user's message split by `agents.ending`."""


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, module in SOURCES.items():
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}:{node.lineno} {node.name}", node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring not counted."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def loaded_after(*steps: str) -> list[set[str]]:
    """Top-level names in sys.modules of a new Python that runs these steps in turn, as they are after each of them."""
    report = f"print({LOADED!r}, json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    code = "\n".join(["import json, sys", *(line for step in steps for line in (step, report))])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(json.loads(line[len(LOADED) :])) for line in done.stdout.splitlines() if line.startswith(LOADED)]


def words_of(source: str) -> Iterator[tuple[int, str]]:
    """Names, comments and docstrings of a module, each with its line; other strings are data."""
    module = ast.parse(source)
    bodies = [node for node in ast.walk(module) if isinstance(getattr(node, "body", None), list)]
    docs = {
        statement.value
        for node in bodies
        for statement in node.body  # type: ignore[attr-defined]
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    }
    yield from ((doc.lineno, str(doc.value)) for doc in docs)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NAME, tokenize.COMMENT):
            yield token.start[0], token.string


def private_words(source: str) -> list[tuple[int, str]]:
    """Lines and words of a module that only this project would understand."""
    return [(line, word) for line, text in words_of(source) for word in private_words_in(text)]


def private_words_in(text: str) -> list[str]:
    plain = re.sub("|".join(ORDINARY_USES), "", text, flags=re.IGNORECASE)
    return [match[1] for match in PRIVATE_WORDS.finditer(plain.replace("_", " "))]


def texts_of(source: str) -> list[str]:
    """The string literals of a module, those within an f-string included; docstrings as well."""
    nodes = ast.walk(ast.parse(source))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


PROMPTS = ROOT / "agents" / "prompts"
"""v1 is released and never edited again."""
PAGES = [
    *(path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    *(path for path in sorted(PROMPTS.rglob("*.*")) if "v1" not in path.parts and path.suffix != ".pyc"),
]
"""What is read by people and models. The changelog keeps the names that were in use."""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class Lane: pass", [(1, "Lane")]),
        ("self._is_ill = 1", [(1, "ill")]),
        ("def f():\n    # the heirs of this layer", [(2, "heirs")]),
        ('def f():\n    """Every room of it."""', [(2, "room")]),
        ('x = 1\n"""Nobody heeds it."""', [(2, "heeds")]),
        ("still = {'advice': 'leave the house'}", []),
        ("# make room on the disk; plane, skill and until hold no such word", []),
    ],
)
def test_a_private_metaphor_is_found_in_names_comments_and_docstrings(
    source: str, found: list[tuple[int, str]]
) -> None:
    assert private_words(source if "def f" not in source else f"{source}\n    pass") == found


@pytest.mark.parametrize("path", [path for path in SOURCES if not path.startswith(WORLD)])
def test_the_package_speaks_in_standard_terms(path: str) -> None:
    assert private_words((ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [path for path in SOURCES if not path.startswith(WORLD)])
def test_the_packages_messages_speak_in_standard_terms(path: str) -> None:
    texts = texts_of((ROOT / path).read_text(encoding="utf-8"))
    assert [text for text in texts if private_words_in(text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_documentation_and_the_prompts_speak_in_standard_terms(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if private_words_in(line)] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('x = f"{name} rests: it is ill"', ["ill"]),
        ('raise ConfigError("no desk left")', ["desk"]),
        ('x = "Make room on the disk, or name another folder; still, fill it"', []),
    ],
)
def test_a_private_metaphor_is_found_in_a_message(source: str, found: list[str]) -> None:
    assert [word for text in texts_of(source) for word in private_words_in(text)] == found


def test_the_pages_that_are_checked_are_the_documentation_and_the_newest_prompts() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert names >= {"README.md", "CONTRIBUTING.md", "docs/architecture.md", "agents/prompts/v2/inducer.jinja"}


def test_a_runs_identity_is_read_by_its_type_and_not_probed() -> None:
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in SOURCES}
    assert [path for path, text in texts.items() if re.search(r"run\.identity(\[|\.get\()", text)] == []


def test_no_public_class_name_is_defined_twice() -> None:
    where: dict[str, list[str]] = {}
    for path, module in SOURCES.items():
        for node in module.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(path)
    assert {name: paths for name, paths in where.items() if len(paths) > 1 and name not in SAME_NAME} == {}


def test_no_module_refers_to_a_page_that_is_not_in_the_project() -> None:
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in SOURCES}
    assert [path for path, text in texts.items() if OUTSIDE_PAGES.search(text)] == []


def test_every_folder_of_the_package_is_checked_here() -> None:
    assert {path.rpartition("/")[0] for path in SOURCES} >= {*PACKAGES, "src/interalign/models", "eval/view"}


def test_imports_go_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


def test_importing_interalign_and_asking_its_command_line_for_help_load_nothing_heavy() -> None:
    asked = [["--help"], ["simulate", "--help"], ["train", "--help"], ["--version"]]
    main = "from interalign.cli import main\ntry: main()\nexcept SystemExit: pass"
    imported, *helped = loaded_after("import interalign", *(f"sys.argv[1:] = {words!r}\n{main}" for words in asked))
    assert "interalign" in imported
    assert [("typer" in loaded, loaded & set(HEAVY)) for loaded in helped] == [(True, set())] * 4
    assert imported & set(HEAVY) == set()


NOT_FOR_A_RUN = (
    "pandas", "pyarrow", "sqlite_utils", "numpy", "scipy", "sklearn", "aiohttp", "langchain", "langchain_openai",
    "matplotlib", "uvicorn", "starlette", "torch", "transformers", "trl", "peft", "datasets", "google",
)  # fmt: skip
"""What `simulate` with models of the world needs nothing of; the first three came with the migrations."""


def test_a_run_of_world_models_in_a_new_file_and_in_one_that_is_there_loads_no_library_that_it_does_not_use(
    tmp_path: Path,
) -> None:
    if importlib.util.find_spec("pandas") is None:  # which sqlite-utils imports wherever it is installed
        pytest.skip("needs pandas")
    words = ["simulate", str(tmp_path / "run.db"), "--trees", "1", "--turns", "1"]
    code = f"from interalign.cli import app; app({words!r}, standalone_mode=False)"
    in_a_new_file, again = loaded_after(code, code)
    assert "langgraph" in in_a_new_file
    assert in_a_new_file & set(NOT_FOR_A_RUN) == set()
    assert again & set(NOT_FOR_A_RUN) == set()


def test_a_typical_function_fits_in_one_look() -> None:
    assert median(length(function) for _, function in functions()) <= 12


def test_no_function_is_longer_than_80_lines() -> None:
    assert [name for name, function in functions() if length(function) > 80] == []


# ruff's D1 wants a docstring on every public name, ANN every annotation, and `make check` runs it; these two tests hold
# that neither is switched off for a file of the package.
def test_ruff_wants_docstrings_and_annotations_of_every_file_of_the_package() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert {"D1", "ANN", "T20", "TID"} <= set(lint["select"])
    excused = {
        path: rules
        for path, rules in lint["per-file-ignores"].items()
        if not path.startswith(("tests/", "bench/", "examples/", "docs/"))
    }
    assert excused == {"src/interalign/cli/**": ["T20"]}


def test_no_file_opts_out_of_docstrings_and_annotations() -> None:
    opting_out = re.compile(r"#\s*(ruff|flake8):\s*noqa|#\s*noqa(?!:)|noqa:.*\b(D1|ANN)")
    assert [path for path in SOURCES if opting_out.search((ROOT / path).read_text(encoding="utf-8"))] == []


def test_only_the_command_line_and_the_report_print() -> None:
    printing = {
        path
        for path, module in SOURCES.items()
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing - PRINTING == set()


def test_sql_is_written_only_in_store() -> None:
    strings = {
        (path, node.value)
        for path, module in SOURCES.items()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    speaking_sql = {path for path, text in strings if SQL.search(text)}
    assert "src/interalign/store/store.py" in speaking_sql
    outside = {path for path in speaking_sql if not path.startswith("src/interalign/store/")}
    assert outside == {"src/interalign/files.py"}  # asks SQLite whether a file is a database


def test_nothing_is_pickled() -> None:
    assert [path for path, module in SOURCES.items() if imported(module) & {"pickle", "cloudpickle", "dill"}] == []


def test_no_statement_numbers_its_placeholders() -> None:
    """Some versions of Python 3.12 warn of `?1` with a sequence, and 3.14 was to refuse it."""
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in SOURCES if "/store/" in path}
    assert [path for path, text in texts.items() if re.search(r"[ (]\?\d", text)] == []


def test_langgraph_is_named_only_by_graphs() -> None:
    naming = {path for path, module in SOURCES.items() for name in imported(module) if name == "langgraph"}
    assert "graphs/turn.py" in naming
    outside = {path for path in naming if not path.startswith("graphs/")}
    assert outside == {"agents/agent_state.py"}  # runs somebody's graph from a state


def test_torch_is_named_only_by_training_and_the_local_models_and_only_inside_functions() -> None:
    heavy = {"torch", "transformers", "trl", "peft", "datasets", "accelerate"}
    naming = {path for path, module in SOURCES.items() if imported(module) & heavy}
    assert {path for path in naming if not path.startswith(("training/", "src/interalign/models/local/"))} == set()
    at_import = {path for path, module in SOURCES.items() if imported_on_import(module) & heavy}
    assert at_import == set()


@cache
def imported(module: ast.AST) -> frozenset[str]:
    """Top-level names a module imports anywhere."""
    plain = {alias.name for node in ast.walk(module) if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module or "" for node in ast.walk(module) if isinstance(node, ast.ImportFrom)}
    return frozenset(name.partition(".")[0] for name in plain | named)


def imported_on_import(module: ast.Module) -> set[str]:
    """Top-level names a module imports when it is itself imported, `if TYPE_CHECKING` blocks left out."""
    run = [node for node in module.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))]
    outside = [node for node in run if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    return {name for node in outside for name in imported(node)}


@pytest.mark.parametrize("package", ["agents", "graphs", "training", "eval"])
def test_root_folders_are_never_imported_by_their_bare_names(package: str) -> None:
    assert [path for path, module in SOURCES.items() if package in imported(module)] == []


def test_every_package_and_every_module_outside_of_one_has_its_line_in_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = "".join(line.partition("|")[2].partition("|")[0] for line in page.splitlines() if line.startswith("| `"))
    inside = {path.removeprefix("src/interalign/") for path in SOURCES if path.startswith("src/interalign/")}
    modules = {name for name in inside if "/" not in name} - {"__init__.py"}
    packages = {f"{name.partition('/')[0]}/" for name in inside if "/" in name} | {f"{name}/" for name in PACKAGES[1:]}
    assert "errors.py" in modules
    assert "store/" in packages
    assert {name for name in modules | packages if f"`{name}`" not in rows} == set()


def test_a_test_that_reaches_out_fails_with_the_address(no_network: list[str]) -> None:
    with socket.socket() as outgoing, pytest.raises(AssertionError, match=r"\('192\.0\.2\.1', 80\)"):
        outgoing.connect(("192.0.2.1", 80))
    with pytest.raises(AssertionError, match="example"):
        socket.getaddrinfo("host.example", 443)
    assert len(no_network) == 2
    no_network.clear()


def test_a_test_may_talk_to_its_own_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"


def test_processes_that_a_test_starts_are_kept_off_the_network_too() -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "AssertionError: a test tried to reach ('192.0.2.1', 80)" in done.stderr


def test_no_test_has_a_key_to_a_paid_model() -> None:
    assert [name for name in os.environ if name.startswith("OPENAI_")] == []


@pytest.mark.parametrize(("required", "code", "summary"), [("0", 0, "2 skipped"), ("1", 1, "1 failed, 1 skipped")])
def test_a_skipped_training_test_fails_where_training_is_required(
    tmp_path: Path, required: str, code: int, summary: str
) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    shutil.copytree(
        ROOT / "tests" / "network_guard", tmp_path / "network_guard", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.train\n"
        "def test_training(): pytest.skip('no torch')\n"
        "def test_other(): pytest.skip('no browser')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        env={**os.environ, "INTERALIGN_REQUIRE_TRAINING": required, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, summary in done.stdout) == (code, True), done.stdout
