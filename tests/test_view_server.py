"""`interalign view` as a process, and its pages in a real browser."""

import html
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from conftest import Ended
from view_pages import (
    TURN_1,
    Run,
    assert_inert,
    card,
    fetched,
    listed,
    opened,
    parsed,
    reply,
    score,
    served,
    with_a_browser,
)

from interalign.eval.view import export_html

pytest_plugins = ["view_fixtures"]


def test_the_command_serves_on_a_free_port_until_it_is_interrupted(night: Run) -> None:
    with served(night.path, "--port", "0") as (address, process):
        assert card(fetched(f"{address}tree/t1"), "Green or black?").one("span", class_="badge").text == "chosen"
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(address, data=b"x"))
        assert refused.value.code == 405
        refused.value.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_port_that_is_taken_is_refused_in_one_line(night: Run, cli: Callable[..., Ended]) -> None:
    with served(night.path, "--port", "0") as (address, _):
        port = address.rstrip("/").rpartition(":")[2]
        ended = cli("view", night.path, "--port", port)
    assert ended.code == 2
    assert ended.err == (
        f"interalign: cannot listen on 127.0.0.1 port {port} (Address already in use); "
        "give another --port, or --port 0 for a free one\n"
    )


def test_an_address_that_is_not_ours_is_refused_in_one_line(night: Run, cli: Callable[..., Ended]) -> None:
    ended = cli("view", night.path, "--host", "192.0.2.1")  # reserved for documentation, so no machine has it
    assert ended.code == 2
    assert ended.err == (
        "interalign: cannot listen on 192.0.2.1 port 8321 (Cannot assign requested address); give another --host\n"
    )


def test_something_that_is_no_run_file_is_refused(tmp_path: Path, cli: Callable[..., Ended]) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    ended = cli("view", "notes.txt")
    assert (ended.code, "not a run file" in ended.err) == (2, True)


def test_a_second_file_that_is_no_run_file_is_refused_too_and_an_export_is_of_one(
    night: Run, tmp_path: Path, cli: Callable[..., Ended]
) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    ended = cli("view", night.path, "notes.txt")
    assert (ended.code, "notes.txt is not a run file" in ended.err) == (2, True)
    ended = cli("view", night.path, night.path, "--export", "out.html")
    assert (ended.code, ended.err) == (2, "interalign: --export writes one run file; leave the others out\n")
    assert not (tmp_path / "out.html").exists()


@with_a_browser
def test_a_real_browser_runs_nothing_and_shows_everything(hostile: Run, tmp_path: Path) -> None:
    with served(hostile.path, "--port", "0") as (address, _):
        link = listed(fetched(f"{address}trees"))[0].one("a").attributes["href"]
        browser = opened(f"{address.rstrip('/')}{link}", tmp_path)
    page = parsed(browser.stdout)
    assert_inert(page)
    assert page.one("head").one("title").text.startswith("<script>document.title='owned'</script>")
    assert len(page.every("article", class_="reply")) == 2
    assert len(page.one("svg", class_="tree").every("a")) == 3
    assert "Content Security Policy" not in browser.stderr


@with_a_browser
def test_nothing_of_a_page_is_wider_than_a_telephone(run: Run, tmp_path: Path) -> None:
    run.begin(candidate=[{"name": "a" * 60, "model": "openai:" + "b" * 60}])
    run.plan("t1")
    call = run.call("t1", "1", "candidate", [TURN_1[0].message], "Green.", tokens=123_456_789)
    run.say("t1", [TURN_1[0], reply(TURN_1[0], 1, "g" * 300, call=call)])
    export_html(run.path, tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    # In a frame, since windows are never so narrow; the page around it measures, for ours may run no script.
    frame = f'<iframe width="390" height="800" srcdoc="{html.escape(text)}"></iframe>'
    inner = "document.querySelector('iframe').contentDocument.documentElement"
    script = f"<script>onload = () => {{ document.title = {inner}.scrollWidth - {inner}.clientWidth }}</script>"
    (tmp_path / "frame.html").write_text(frame + script, encoding="utf-8")
    browser = opened(f"file://{tmp_path / 'frame.html'}", tmp_path)
    assert re.findall(r"<title>(\d+)</title>", browser.stdout)[-1] == "0"


def test_pages_load_no_more_than_they_show(run: Run) -> None:
    """numpy and scipy are 90 MB: lists, trees and labels need none of it, the front page no test statistics."""
    run.begin("evaluation")
    run.plan("old/c", "new/c", candidate="old", case="c")
    for tree in ("old/c", "new/c"):
        run.say(tree, [TURN_1[0], TURN_1[1]], scores=[score("1", 3)])
        run.end(tree)
    run.store.close()
    code = """
import sys
from pathlib import Path
from starlette.testclient import TestClient
from interalign.eval.view import create_app
client = TestClient(create_app(Path(sys.argv[1])))
for url in ("/trees", "/tree/old%2Fc", "/label?who=ann", "/"):
    assert client.get(url).status_code == 200
    print(url, [name for name in ("numpy", "scipy.stats", "interalign.models.world") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, run.path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "/trees []",
        "/tree/old%2Fc []",
        "/label?who=ann []",
        "/ ['numpy', 'interalign.models.world']",
    ]
