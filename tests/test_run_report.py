"""Reports of runs that are not, or not all, done."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Ended


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def notes(cli: Callable[..., Ended], path: str) -> list[str]:
    return json.loads(cli("report", path, "--json").out)["notes"]


def test_the_report_of_an_evaluation_that_was_stopped_says_how_far_it_got(cli: Callable[..., Ended]) -> None:
    begun = ("evaluate", "eval.db", "--candidate", "world:blind", "--turns", "2", "--limit", "8", "--concurrency", "1")
    assert cli(*begun, "--max-tokens", "6000").code == 3
    report = json.loads(cli("report", "eval.db", "--json").out)
    ended = report["candidates"][0]["n_cases"]
    assert 0 < ended < 8
    first = f"Not finished: {ended} of 8 conversations have ended; the figures are those of these alone."
    assert report["notes"][0] == first
    cli("report", "eval.db", "--html", "eval.html")
    assert first in Path("eval.html").read_text(encoding="utf-8")
    assert cli(*begun).code == 0
    assert not any("Not finished" in note for note in notes(cli, "eval.db"))


def test_the_report_of_a_simulation_says_how_many_trees_failed(cli: Callable[..., Ended]) -> None:
    run = ("simulate", "run.db", "--trees", "4", "--turns", "1", "--candidate", "scripted_roles:fails_for_one")
    assert cli(*run).code == 1
    assert notes(cli, "run.db")[0] == (
        "Failed: 1 of 4 trees; they are not in the figures. The same command tries them again."
    )


def test_a_candidates_name_cannot_turn_the_page_round(cli: Callable[..., Ended]) -> None:
    name = "abc-def<b>"
    assert cli("evaluate", "eval.db", "--candidate", f"{name}=world:blind", "--limit", "2", "--turns", "2").code == 0
    with (
        closing(sqlite3.connect("eval.db")) as db,
        db,
    ):  # a name that is refused now, but a file may come from elsewhere
        db.execute("UPDATE trees SET candidate = replace(candidate, '-', '\u202e')")
    cli("report", "eval.db", "--html", "eval.html")
    page = Path("eval.html").read_text(encoding="utf-8")
    assert "abc\u27e6U+202E\u27e7def&lt;b&gt;" in page
    assert "\u202e" not in page


def test_the_page_says_what_the_calls_cost_and_how_many_could_not_be_used(cli: Callable[..., Ended]) -> None:
    run = ("simulate", "run.db", "--trees", "1", "--turns", "1")
    assert cli(*run).code == 0
    cli("report", "run.db", "--html", "plain.html")
    plain = Path("plain.html").read_text(encoding="utf-8")
    assert '<th scope="col">Refused or empty</th>' in plain
    assert "USD" not in plain
    Path("prices.yaml").write_text("world:judge: {prompt: 1, completion: 1}\n")
    cli("report", "run.db", "--html", "priced.html", "--prices", "prices.yaml")
    assert '<th scope="col">USD</th>' in Path("priced.html").read_text(encoding="utf-8")
