"""The pictures of the viewer in the README: `python docs/make_pictures.py` (needs Chromium; takes some seconds).

Runs of the embedded world in a temporary folder, shown by the real server and photographed by a real browser.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
COMMAND = str(Path(sys.executable).with_name("interalign"))
PICTURES = {
    "view-tree.png": ("sim.db", "tree/t00003?node=2%2F1&show=difference"),
    "view-compare.png": ("eval.db", "compare?case=heldout-0022"),
    "view-figures.png": ("eval.db", "eval"),
}
"""File -> the run and the page."""
SIZE = "1280,900"


def run(folder: Path, *words: str) -> None:
    """A command of interalign in this folder."""
    subprocess.run([COMMAND, *words], cwd=folder, check=True, stderr=subprocess.DEVNULL)


def photograph(folder: Path, file: str, page: str, picture: Path) -> None:
    """Serve the run, open the page, keep the picture."""
    command = [COMMAND, "view", file, "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            found = re.search(r"http://\S+/", server.stderr.readline())
            assert found is not None
            browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server"]
            where = ["--hide-scrollbars", f"--user-data-dir={folder / 'browser'}", f"--window-size={SIZE}"]
            where.append(f"--screenshot={picture}")
            subprocess.run([*browser, *where, found[0] + page], check=True, capture_output=True, timeout=90)
        finally:
            server.terminate()


def main(out: Path = DOCS) -> None:
    """Make all pictures in this folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "simulate", "sim.db", "--trees", "5", "--turns", "6")
        who = ("--candidate", "blind=world:blind", "--candidate", "average=world:average")
        run(folder, "evaluate", "eval.db", "--cases", "world", "--limit", "40", "--turns", "8", *who)
        for picture, (file, page) in PICTURES.items():
            photograph(folder, file, page, out / picture)


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:2]))
