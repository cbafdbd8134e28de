"""From what was said to the call behind it, in the viewer, on runs that were really made."""

import html
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import Ended
from starlette.testclient import TestClient
from view_pages import Element, parsed

import interalign as ia
from interalign.eval.view import create_app, export_html
from interalign.records import Reply


class Mumbler:
    """A judge, as a chat model, that cannot be understood at every second seed."""

    name = "mumbler"

    async def __call__(self, messages: Sequence[ia.Message], parameters: ia.Parameters, seed: int) -> Reply:
        return Reply(text="Hm, hm." if seed % 2 else "They are alike.\nVerdict: tie", model=self.name)


async def marks(view: ia.HookView) -> dict[str, dict[str, int]]:
    """A hook: on every reply, and on the user's message how many replies there are."""
    return {view.user.id: {"replies": len(view.replies)}} | {
        reply.id: {"long": len(reply.text)} for reply in view.replies
    }


class Viewer:
    """The pages of one run file."""

    def __init__(self, path: Path) -> None:
        self._client = TestClient(create_app(path))

    def page(self, address: str, status: int = 200) -> Element:
        answer = self._client.get(address)
        assert answer.status_code == status, answer.text[:500]
        return parsed(answer.text)

    def calls(self, inside: Element) -> list[tuple[list[str], str]]:
        """Every call that can be opened from there: the messages that were sent, and the reply."""
        found = []
        for link in inside.every("a"):
            if link.attributes["href"].startswith("/call/"):
                texts = self.page(link.attributes["href"]).one("section", class_="call").every("div", class_="text")
                found.append(([text.text for text in texts[:-1]], texts[-1].text))
        return found


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run.db"


def test_each_order_of_a_comparison_leads_to_the_very_prompt_and_answer_of_its_judge(
    path: Path, cli: Callable[..., Ended]
) -> None:
    ia.simulate(path, trees=1, turns=2)
    assert cli("judge", path, "--judge", "world:judge?noise=1").code == 0
    viewer = Viewer(path)
    with ia.open_run(path) as run:
        (judged,) = run.judged_trees()
        on_record = {(call.messages[-1].content, call.asked): call.reply.text for call in run.calls_of("t00000")}
    for judge in ("world:judge", "world:judge?noise=1"):
        page = viewer.page(f"/tree/t00000?node=1&judge={judge}")
        shown = [
            answer for verdict in page.every("details", class_="verdict") for answer in verdict.every(class_="answer")
        ]
        said = [order for verdict in judged.by_judge(judge).verdicts for order in verdict.orders]
        assert len(shown) == len(said) == 4
        for answer, order in zip(shown, said, strict=True):
            ((sent, reply),) = viewer.calls(answer)
            assert reply == order.replies[-1] == on_record[sent[-1], judge]
            first = judged.tree.node(order.first).text
            assert sent[-1].index(f"Reply A:\n| {first}") < sent[-1].index("Reply B:")


def test_an_answer_that_could_not_be_read_has_its_call_beside_the_one_that_could(path: Path) -> None:
    ia.simulate(path, trees=3, turns=2, judge="test_view_calls:Mumbler")
    viewer = Viewer(path)
    seen = set()
    with ia.open_run(path) as run:
        trees = list(run.judged_trees())
    for judged in trees:
        page = viewer.page(f"/tree/{judged.tree.id}")
        answers = [one for verdict in page.every("details", class_="verdict") for one in verdict.every(class_="answer")]
        orders = [order for verdict in judged.verdicts for order in verdict.orders]
        for answer, order in zip(answers, orders, strict=True):
            assert [reply for _, reply in viewer.calls(answer)] == list(order.replies)
            seen.add(len(order.replies))
    assert seen >= {1, 2}


def test_a_score_and_the_notes_of_the_inducer_lead_to_their_calls(path: Path) -> None:
    ia.simulate(path, trees=1, turns=2, judging="score")
    viewer = Viewer(path)
    page = viewer.page("/tree/t00000")
    cards = page.every("article", class_="reply")
    assert len(cards) == 4
    for card in cards:
        answer = card.one(class_="answer")
        ((sent, reply),) = viewer.calls(answer)
        assert card.every("div", class_="text")[0].text in sent[-1]
        assert reply == answer.every("div", class_="text")[0].text
    for notes in page.every("aside", class_="hints"):
        ((sent, reply),) = viewer.calls(notes)
        assert "Note down what the user" in sent[-1]
        assert notes.every("div", class_="text")[0].text == reply.strip()


def test_a_note_of_a_hook_leads_to_the_call_that_gave_it_and_not_to_one_at_another_point(path: Path) -> None:
    hooks = {"after_user": ["test_view_calls:marks"], "after_judge": ["test_view_calls:marks"]}
    ia.simulate(path, trees=1, turns=1, hooks=hooks)
    viewer = Viewer(path)
    notes = viewer.page("/tree/t00000").every(class_="note")
    assert notes[0].every("div", class_="text")[0].text == "2"
    for note in notes:
        ((sent, reply),) = viewer.calls(note)
        assert '"replies":[{' in sent[0]
        assert '"replies": 2' in reply


def test_the_page_of_a_call_says_who_was_asked_where_and_how(path: Path) -> None:
    ia.simulate(path, trees=1, turns=1, parameters={"judge": {"max_tokens": 77}})
    viewer = Viewer(path)
    verdict = viewer.page("/tree/t00000").one("details", class_="verdict")
    page = viewer.page(verdict.every("a")[0].attributes["href"])
    assert page.one("h1").text == "A call of the judge"
    facts = page.one("header").one("p", class_="facts").words
    assert facts.startswith("asked world:judge comparing replies 1 and 2 ended by stop")
    assert '"max_tokens":77' in page.one("header").text
    assert page.one("nav", class_="around").one("a").attributes["href"] == "/tree/t00000"
    key = "0" * 32
    assert f"No call '{key}' of tree 't00000' is on record." in viewer.page(f"/call/{key}/t00000", 404).text


def test_an_exported_file_holds_every_prompt_of_the_judge(path: Path, tmp_path: Path) -> None:
    ia.simulate(path, trees=2, turns=2)
    export_html(path, tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    page = parsed(text)
    shown = {part.text for answer in page.every(class_="answer") for part in answer.every("div", class_="text")}
    with ia.open_run(path) as run:
        asked = [call for tree in ("t00000", "t00001") for call in run.calls_of(tree) if call.place.role == "judge"]
    assert len(asked) == 8
    assert {call.messages[-1].content for call in asked} <= shown
    assert "/call/" not in html.unescape(text)


def test_a_tree_judged_by_the_world_says_that_its_figures_say_nothing_about_a_language_model(path: Path) -> None:
    ia.simulate(path, trees=1, turns=1)
    assert "nothing about how good a language model is" in Viewer(path).page("/tree/t00000").text
