"""The pages that say how far the judge and the simulated user can be trusted."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from view_pages import Element, parsed

import interalign as ia
from interalign import api
from interalign.eval.view import create_app


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trust") / "run.db"
    judges = ["world:judge", "world:judge?position_bias=0.9"]
    ia.simulate(made, trees=8, turns=3, judge=judges, user="test_view_trust:faulty")
    return made


async def faulty(ask: ia.UserAsk) -> ia.Said:
    """Speaks as the assistant in its second message, with markup."""
    return ia.Said(text="What about dinner?" if ask.turn != 2 else "As an AI I say <script>alert(1)</script>.")


def page_of(path: Path, url: str, status: int = 200) -> Element:
    answer = TestClient(create_app(path)).get(url)
    assert answer.status_code == status, answer.text[:300]
    assert "<script>alert" not in answer.text
    return parsed(answer.text)


def test_an_unaudited_run_says_how_to_audit_it_and_an_audited_one_shows_messages(run: Path) -> None:
    assert "interalign audit run.db" in page_of(run, "/simulator").one("main").words
    api.audit(run)
    page = page_of(run, "/simulator")
    rows = {row.one("th").text: row.every("td") for row in page.every("tr") if len(row.every("th")) == 1}
    assert rows["answers as the assistant"][0].words == "33.3 % [33.3, 33.3]"
    assert rows["answers as the assistant"][1].text == "8 of 24"
    examples = page.every("article", class_="item")
    shown = [each for each in examples if "As an AI I say <script>" in each.text]
    assert len(shown) == 5
    tree = page_of(run, shown[0].one("a").attributes["href"])
    assert "As an AI I say" in tree.text


def test_a_judge_is_shown_with_warnings_and_beside_each_reference(run: Path) -> None:
    page = page_of(run, "/judge?judge=world:judge?position_bias=0.9")
    assert any("prefers the first reply" in each.text for each in page.every("p", class_="warning"))
    references = page.one("nav", aria_label="Reference").every("a")
    assert [link.text for link in references] == ["truth", "world:judge", "panel"]
    page = page_of(run, references[1].attributes["href"])
    assert page.every("h2")[1].text == "Against world:judge"
    rows = {row.every("th")[0].text: row.every("td") for row in page.every("tr")}
    assert rows["same answer as the reference"][1].text == "48"


def test_a_reference_that_is_not_there_is_said(run: Path) -> None:
    assert "called 'nobody'" in page_of(run, "/judge?against=nobody", 404).one("p", class_="sorry").text


def test_labels_are_the_first_reference(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "run.db", trees=2, turns=1)
    questions = api.plan_labels(tmp_path / "run.db", n=2)
    rows = "".join(f'{{"question": "{question.id}", "who": "ann", "answer": "A"}}\n' for question in questions)
    (tmp_path / "labels.jsonl").write_text(rows)
    api.import_labels(tmp_path / "run.db", tmp_path / "labels.jsonl")
    page = page_of(tmp_path / "run.db", "/judge")
    assert page.every("h2")[1].text == "Against labels"
    assert "Labels: ann 2" in page.one("main").words
