"""Write docs/modules.md from the first line of every module: `make docs`. A test fails when the page is stale."""

import ast
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).with_name("modules.md")
ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "interalign"
HEAD = """\
# Modules

Every file of the package with the first line of its docstring, written by `make docs`.
[architecture.md](architecture.md) says how the packages hang together.
"""


def page() -> str:
    """The whole page: a section a folder, the modules outside of any package first."""
    return HEAD + "".join(
        f"\n## {folder}\n\n" + "".join(f"- `{name}`: {line}\n" for name, line in lines) for folder, lines in folders()
    )


def folders() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each folder with its modules and what they are for, those that are empty or without a docstring left out."""
    below = sorted(path for path in _walked(PACKAGE) if path.is_dir())
    for folder in (PACKAGE, *below):
        said = [(path.stem, _first_line(path)) for path in sorted(folder.glob("*.py"))]
        lines = [(("(the package)" if name == "__init__" else name), line) for name, line in said if line]
        if lines:
            yield f"interalign/{folder.relative_to(PACKAGE)}/".replace("/./", "/"), lines


def _walked(folder: Path) -> Iterator[Path]:
    """Everything below; the four packages at the root are links, which `rglob` does not follow."""
    for path in folder.iterdir():
        if path.name != "__pycache__":
            yield path
            if path.is_dir():
                yield from _walked(path)


def _first_line(path: Path) -> str:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(said.partition("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
