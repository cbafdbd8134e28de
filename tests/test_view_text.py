"""Text on the viewer's pages: whatever it holds comes out as text, seen, and never run."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient
from view_pages import ATTACK, JOINED, Element, Run, assert_inert, listed, parsed, reply, user

from interalign.eval.safe_text import shown
from interalign.eval.view import create_app, export_html

pytest_plugins = ["view_fixtures"]


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("one\n\ttwo", "one\n\ttwo"),
        ("one\r\ntwo", "one\ntwo"),
        ("one\rtwo", "one⟦U+000D⟧two"),
        ("\x1b[31mred\x07", "⟦U+001B⟧[31mred⟦U+0007⟧"),
        ("nul\x00", "nul⟦U+0000⟧"),
        ("\u202egnp.exe\u202c", "⟦U+202E⟧gnp.exe⟦U+202C⟧"),
        ("\u2066a\u2069\u200f", "⟦U+2066⟧a⟦U+2069⟧⟦U+200F⟧"),
        ("in\u200bvisible\ufeff", "in⟦U+200B⟧visible⟦U+FEFF⟧"),
        ("\U000e0041tag", "⟦U+E0041⟧tag"),
        ("half \ud83d", "half ⟦U+D83D⟧"),
        (JOINED, JOINED),
        ("<b>&amp;", "<b>&amp;"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, visible: str) -> None:
    assert shown(text) == visible


def test_hostile_text_in_every_field_comes_out_as_text(hostile: Run, browse: Callable[..., Element]) -> None:
    front, trees = browse("/"), browse("/trees")
    page = browse(listed(trees)[0].one("a").attributes["href"])
    case = next(link for link in trees.one("table", class_="list").every("a")).attributes["href"]
    beside = browse(case.replace("/tree/", "/compare?case="))
    talk, differing = browse(f"{case}?show=talk"), browse(f"{case}?show=difference")
    for view in (front, trees, page, beside, talk, differing, browse("/eval"), browse(f"/trees?words={quote(ATTACK)}")):
        assert_inert(view)
    for view in (front, trees, page, beside, talk):
        assert_inert(view)
        assert shown(ATTACK) in view.text
    assert "⟦U+D800⟧" in page.one("article", class_="user").text
    assert "{{7*7}}" in page.text
    assert_inert(browse("/tree/<script>alert(1)</script>", status=404))
    assert_inert(browse("/?status=<script>alert(1)</script>", status=404))


def test_hostile_text_comes_out_as_text_in_the_exported_file(hostile: Run, tmp_path: Path) -> None:
    export_html(hostile.path, tmp_path / "run.html")
    page = parsed((tmp_path / "run.html").read_text(encoding="utf-8"))
    assert_inert(page)
    assert shown(ATTACK) in page.text


def test_a_text_of_a_megabyte_is_folded_and_whole(run: Run, browse: Callable[..., Element]) -> None:
    run.begin()
    run.plan("t1")
    long = "word " * 200_000
    asked = user(None, long)
    run.say("t1", [asked, reply(asked, 1)])
    folder = browse("/tree/t1").one("article", class_="user").one("details", class_="long")
    assert "show all 1,000,000 characters" in folder.one("summary").text
    assert len(folder.one("summary").text) < 1000
    assert folder.every("div", class_="text")[0].text == long


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_every_answer_allows_just_its_own_style_sheet_and_its_own_script(night: Run) -> None:
    client = TestClient(create_app(night.path))
    for url, status in (("/", 200), ("/trees", 200), ("/tree/t1", 200), ("/tree/t9", 404), ("/elsewhere", 404)):
        answer = client.get(url)
        sheet = parsed(answer.text).one("style").text
        script = parsed(answer.text).one("script").text
        assert answer.status_code == status
        assert answer.headers["content-security-policy"] == (
            f"default-src 'none'; style-src {digest(sheet)}; img-src data:; base-uri 'none'; "
            f"script-src {digest(script)}; form-action 'self'; frame-ancestors 'none'"
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_private_server_answers_only_under_its_own_names(night: Run) -> None:
    app = create_app(night.path, hosts=["127.0.0.1", "localhost"])
    assert TestClient(app, base_url="http://127.0.0.1:8321").get("/").status_code == 200
    assert TestClient(app, base_url="http://evil.example").get("/").status_code == 400
