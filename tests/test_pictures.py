"""The script that makes the README's pictures runs, and makes just those that the project shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from view_pages import with_a_browser

ROOT = Path(__file__).parents[1]


@with_a_browser
@pytest.mark.slow
def test_the_pictures_of_the_readme_are_made_by_the_script(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "make_pictures.py", tmp_path], check=True, timeout=300)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {path.name for path in (ROOT / "docs").glob("view-*.png")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
    shown = set(re.findall(r"docs/(view-[\w-]+\.png)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert shown <= made
