"""What the documentation shows, runs: commands, Python examples, settings; and the page of commands is not stale.

Fenced blocks say by their language what happens to them here:

- `bash`: every command is run, in order, in one folder a document (NOT_RUN names what is not, and why);
- `python`: run as a script in that folder, or as a doctest if it shows a prompt (`>>>`);
- any block whose first line is only a comment with a file name (`# sim.yaml`), or whose fence says `file=NAME`, is that
  file and lies in the folder for the commands after it;
- everything else is shown only, but a line in it that begins with `interalign` must name a command and options that are
  there.
"""

import doctest
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = {
    "git clone": "needs the network",
    "cd ": "the test has a folder of its own",
    "make ": "installs; CI runs the same targets",
    "pip install": "installs; CI does it in a fresh environment",
    "python -m venv": "installs; CI does it in a fresh environment",
    "interalign demo": "takes minutes; test_demo.py runs it",
    "interalign view": "serves until it is interrupted; the viewer's tests do it",
}
TRAINING = re.compile(r"^interalign train|\bhf:", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    file: str | None
    """Name of the file it shows, if it shows one."""
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    for fenced in re.finditer(r"^```(.*)\n((?:.*\n)*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE):
        language, _, rest = fenced[1].strip().partition(" ")
        named = re.match(r"file=(\S+)$", rest) or re.match(r"# ([\w./-]+\.\w+)\n", fenced[2])
        line = fenced.string.count("\n", 0, fenced.start()) + 1
        yield Block(language, named and named[1], fenced[2], line)


def commands(block: Block) -> list[str]:
    """The command lines of a block, continuation lines joined, comments and empty lines left out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def runnable() -> Iterator[object]:
    for page in PAGES:
        found = list(blocks(page))
        if any(block.language in ("bash", "python") for block in found):
            trains = any(block.language == "bash" and TRAINING.search(block.text) for block in found)
            yield pytest.param(page, id=page.stem, marks=[pytest.mark.train] if trains else [])


@pytest.mark.parametrize("page", runnable())
def test_what_a_page_shows_runs(page: Path, cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    shown = list(blocks(page))
    if any(block.language == "bash" and TRAINING.search(block.text) for block in shown):
        pytest.importorskip("trl", reason="the page trains, which needs the training extra")
    for block in shown:
        where = f"{page.name}, line {block.line}"
        if block.file:
            (tmp_path / block.file).parent.mkdir(exist_ok=True)
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            run_commands(commands(block), cli, where)
        elif block.language == "python":
            run_python(block.text, tmp_path, where)


def run_commands(lines: list[str], cli: Callable[..., tuple[int, str, str]], where: str) -> None:
    for line in lines:
        if not line.startswith(tuple(NOT_RUN)):
            first, *words = shlex.split(line, comments=True)
            assert first == "interalign", (
                f"{where}: {line!r} is not run by this test: say in NOT_RUN why, or show it as text"
            )
            code, _, err = cli(*words)
            assert code == 0, f"{where}: {line!r} ended with {code}: {err}"


def run_python(text: str, folder: Path, where: str) -> None:
    if text.startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(text, {}, where, where, 0)
        assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0
        return
    done = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{where}: {done.stderr}"


def shown_commands() -> Iterator[object]:
    for page in PAGES:
        for block in blocks(page):
            if block.language not in ("bash", "python"):
                lines = [line for line in block.text.splitlines() if line.startswith("interalign ")]
                yield from (pytest.param(line, id=f"{page.name}: {line[:50]}") for line in lines)


@pytest.mark.parametrize("line", shown_commands())
def test_a_command_that_is_only_shown_exists_with_its_options(
    line: str, cli: Callable[..., tuple[int, str, str]]
) -> None:
    # Options are looked up before the help is shown, and unknown ones refused.
    code, out, err = cli(*shlex.split(line, comments=True)[1:], "--help")
    assert code == 0, err
    assert out.startswith("Usage: interalign ")


def test_the_page_of_commands_is_the_help_of_the_command_line() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["page"]()
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == made, "stale: run `make docs`"


def test_the_page_of_modules_is_made_of_their_first_lines() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_modules.py"))["page"]()
    assert (ROOT / "docs" / "modules.md").read_text(encoding="utf-8") == made, "stale: run `make docs`"
    assert "- `turn`: " in made  # a package at the root, which is a link
    assert "- `unrecorded`: " in made


def test_every_command_has_a_section_there() -> None:
    sections = re.findall(
        r"^## interalign (.+)$", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    contract = set("demo personas simulate judge export train evaluate report view roles graph".split())  # noqa: SIM905
    assert contract <= set(sections)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "commands.md"], ids=lambda page: page.stem)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_a_block_knows_its_language_its_file_and_its_commands(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "Text\n\n```yaml\n# sim.yaml\nturns: 2\n```\n```jsonl file=people.jsonl\n{}\n```\n"
        "```bash\n# not a file name\ninteralign a \\\n  --b 'c d'  # why\n\n```\n"
    )
    first, second, third = blocks(tmp_path / "page.md")
    assert (first.language, first.file, first.line) == ("yaml", "sim.yaml", 3)
    assert (second.language, second.file, second.text) == ("jsonl", "people.jsonl", "{}\n")
    assert (third.language, third.file, len(commands(third))) == ("bash", None, 1)
    assert shlex.split(commands(third)[0], comments=True) == ["interalign", "a", "--b", "c d"]
