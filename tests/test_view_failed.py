"""A tree that failed, in the viewer: what it had reached, the call it failed on, and which other trees failed alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fault_server
import pytest
from fault_server import Step
from starlette.testclient import TestClient
from view_pages import Element, parsed

import interalign as ia
from interalign.eval.view import create_app, export_html

TOO_LONG: Step = {"status": 400, "json": {"error": {"message": "the context has 9000 tokens & 4096 is the limit"}}}


def page_of(path: Path, address: str, status: int = 200) -> Element:
    answer = TestClient(create_app(path)).get(address)
    assert answer.status_code == status, answer.text[:500]
    return parsed(answer.text)


def failing_in_turn(turn: int) -> Callable[[dict[str, Any]], Step]:
    """Refuse requests of this turn that hold the inducer's notes; the others are answered."""

    def plan(body: dict[str, Any]) -> Step:
        messages = [message for message in body["messages"] if message["role"] == "user"]
        hinted = "[for the assistant only]" in messages[-1]["content"]
        return TOO_LONG if len(messages) == turn and hinted else {}

    return plan


@pytest.fixture(params=[1, 2])
def failed_in(request: pytest.FixtureRequest, tmp_path: Path) -> int:
    """A run of one tree that fails in this turn."""
    with fault_server.serving(failing_in_turn(request.param)) as server:
        runtime = ia.Runtime(base_url=server.url)
        summary = ia.simulate(tmp_path / "run.db", trees=1, turns=3, candidate="openai:m", runtime=runtime)
    assert list(summary.failed) == ["t00000"]
    return int(request.param)


def test_the_page_of_a_failed_tree_shows_what_it_had_reached_and_the_call_it_failed_on(
    failed_in: int, tmp_path: Path
) -> None:
    path = tmp_path / "run.db"
    page = page_of(path, "/tree/t00000")
    assert page.every("p", class_="sorry")[0].text.startswith("Failed: ")
    turns = [section.one("h3").text for section in page.every("section", class_="turn")]
    assert turns == [*(f"Turn {turn}" for turn in range(1, failed_in)), "Not finished"]
    answers = page.one("section", class_="unfinished").every(class_="answer")
    roles = [answer.every(class_="label")[0].words.split(",")[0] for answer in answers]
    assert roles == ["Asked the user", "Asked the inducer", "Asked the candidate", "Asked the candidate"]
    with ia.open_run(path) as run:
        calls = run.calls_of("t00000")[-3:]
        last = run.failed_call_of("t00000")
    for answer, call in zip(answers[:3], calls, strict=True):
        assert call.reply.text in [part.text for part in answer.every("div", class_="text")]
        (link,) = answer.every("a")
        assert page_of(path, link.attributes["href"]).one("h1").text == f"A call of the {call.place.role}"
    assert last is not None
    assert (last.key, last.place.role, last.reply.sends) == ("", "candidate", 1)
    assert "the context has 9000 tokens & 4096 is the limit" in answers[3].one(class_="sorry").text
    assert "No reply: " in answers[3].one(class_="sorry").text
    assert last.messages[-1].content in [part.text for part in answers[3].every("div", class_="text")]


def test_the_list_leads_to_a_tree_that_failed_in_its_first_turn(failed_in: int, tmp_path: Path) -> None:
    page = page_of(tmp_path / "run.db", "/")
    assert {link.attributes["href"] for link in page.every("a") if link.text == "t00000"} == {"/tree/t00000"}


def test_an_exported_file_shows_a_failed_tree_too(failed_in: int, tmp_path: Path) -> None:
    assert export_html(tmp_path / "run.db", tmp_path / "run.html") == 1
    page = parsed((tmp_path / "run.html").read_text(encoding="utf-8"))
    (unfinished,) = page.every("section", class_="unfinished")
    assert len(unfinished.every(class_="answer")) == 4
    assert unfinished.every("a") == []


def test_a_tree_that_is_done_after_all_shows_no_failed_call(failed_in: int, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with fault_server.serving() as server:
        runtime = ia.Runtime(base_url=server.url)
        assert ia.simulate(path, trees=1, turns=3, candidate="openai:m", runtime=runtime).done == 1
    assert page_of(path, "/tree/t00000").every("section", class_="unfinished") == []
    with ia.open_run(path) as run:
        assert run.failed_call_of("t00000") is None


def test_a_reply_that_could_not_be_used_is_shown_with_the_reason(tmp_path: Path) -> None:
    with fault_server.serving(lambda body: {"message": {"content": ""}}) as server:
        runtime = ia.Runtime(base_url=server.url)
        ia.simulate(tmp_path / "run.db", trees=1, turns=1, branch=1, candidate="openai:m", runtime=runtime)
    page = page_of(tmp_path / "run.db", "/tree/t00000")
    sorry = [one.text for one in page.one("section", class_="unfinished").every(class_="sorry")]
    assert len(sorry) == 3
    assert all(one.startswith("Could not be used: ") for one in sorry)


@pytest.mark.parametrize("kind", ["served", "exported"])
def test_trees_that_failed_for_one_reason_stand_together_with_their_number(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    ia.simulate(path, trees=30, turns=1, candidate="test_failed_trees:fails")
    if kind == "served":
        page = page_of(path, "/")
    else:
        export_html(path, tmp_path / "run.html")
        page = parsed((tmp_path / "run.html").read_text(encoding="utf-8"))
    lines = [line.words for line in page.one("section", class_="failures").every("li")]
    assert "".join(lines[0].split()) == "10trees:noideat00001,t00004,t00007,t00010,t00013,..."
    assert lines[1] == "1 tree: tree 2 is too long t00002"
    assert len(lines) == 11


def test_a_run_without_failures_says_nothing_of_them(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "run.db", trees=1, turns=1)
    assert page_of(tmp_path / "run.db", "/").every("section", class_="failures") == []


def test_a_tree_in_progress_shows_what_was_said_in_the_turn_it_is_in(tmp_path: Path) -> None:
    with fault_server.serving(lambda body: {"status": 401, "text": "no"}) as server:
        runtime = ia.Runtime(base_url=server.url)
        with pytest.raises(ia.StopError):
            ia.simulate(tmp_path / "run.db", trees=1, turns=1, candidate="openai:m", runtime=runtime)
    answers = page_of(tmp_path / "run.db", "/tree/t00000").one("section", class_="unfinished").every(class_="answer")
    assert [answer.every(class_="label")[0].words.split(",")[0] for answer in answers] == [
        "Asked the user", "Asked the inducer",
    ]  # fmt: skip
