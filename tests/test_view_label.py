"""The viewer's labelling page: planned questions, put blindly, answered by keys, kept as `labels ask` keeps them."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from browser import Browser, browsing
from conftest import Ended
from starlette.testclient import TestClient
from view_pages import (
    ADA,
    ATTACK,
    BOB,
    Element,
    Run,
    assert_inert,
    compared,
    fetched,
    listening,
    parsed,
    reply,
    score,
    served,
    user,
    with_a_browser,
)

from interalign import api
from interalign.errors import ConfigError
from interalign.eval.label_agreement import agreements
from interalign.eval.labelling import label_of, newest_instructions, order_shown
from interalign.eval.view import create_app
from interalign.eval.view.label_page import name_of
from interalign.eval.view.page import Labelling
from interalign.personas import Persona
from interalign.records import Label, LabelQuestion
from interalign.store import Store
from interalign.tree import Node

pytest_plugins = ["view_fixtures"]
TOLD = "Say which reply Ada would like."


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve trees of two turns, and twenty of their questions planned."""
    path = tmp_path_factory.mktemp("labelling") / "run.db"
    api.simulate(path, trees=12, turns=2, branch=2)
    api.plan_labels(path, n=20)
    return path


@pytest.fixture
def planned(grown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(grown, tmp_path / "run.db"))


class Labeller:
    """Somebody who labels without a browser: reads the page, sends its forms."""

    def __init__(self, path: Path, who: str = "ann", told: str | None = None) -> None:
        app = create_app(path, labelling=Labelling("the token", told))
        self.client = TestClient(app, headers={"Sec-Fetch-Site": "same-origin"})
        self.who = who
        self.look()

    def look(self) -> Element:
        self.page = parsed(self.client.get("/label", params={"who": self.who}).text)
        return self.page

    def fields(self, key: str) -> dict[str, str]:
        """What the form with this key sends."""
        form = next(each for each in self.page.every("form") if each.every("button", value=key))
        return {each.attributes["name"]: each.attributes["value"] for each in form.every("input")} | {"key": key}

    def press(self, key: str) -> None:
        answer = self.client.post("/label", data=self.fields(key))
        assert answer.status_code == 200, answer.text
        self.page = parsed(answer.text)

    @property
    def progress(self) -> str:
        return self.page.one("p", class_="facts").words


def labels_of(path: Path) -> list[Label]:
    with Store.open(path) as store:
        return store.labels()


def questions_of(path: Path) -> list[LabelQuestion]:
    with Store.open(path) as store:
        return store.label_questions()


# A labelling from beginning to end ----------------------------------------------------------------------------------


@with_a_browser
def test_twenty_questions_are_answered_by_keys_alone_and_kept_as_the_terminal_keeps_them(
    planned: Path, tmp_path: Path
) -> None:
    with listening(planned, Labelling("the token")) as address:

        async def work(browser: Browser) -> None:
            async def key_to(key: str, answered: int) -> None:
                await browser.press(key)
                there = f"document.querySelector('.facts b')?.textContent === '{answered}'"
                await browser.until(f"{there} && document.readyState === 'complete'")

            await browser.open(f"{address}/label")
            assert await browser.read("document.activeElement.name") == "who"
            await browser.enter()
            await browser.until("document.title.startsWith('1 of 20') && document.readyState === 'complete'")
            await browser.press("3")  # no answer to a pair
            await browser.press("x")
            for number in range(20):
                await key_to("120"[number % 3], number + 1)
                if number == 0:  # the key is held: no second question is answered by it
                    for _ in range(5):
                        await browser.ask("Input.dispatchKeyEvent", type="keyDown", key="1", text="1", autoRepeat=True)
                if number == 4:
                    await key_to("u", 4)
                    await key_to("u", 3)
                    await key_to("0", 4)
                    await key_to("2", 5)
            assert "All 20 questions are answered" in await browser.read("document.body.textContent")

        browsing(tmp_path / "browser", work)
    by_key = {label.key: label for label in labels_of(planned)}
    pressed = [*"120", "0", "2", *"012012012012012"]
    in_plan = [by_key[question.key] for question in questions_of(planned)]
    assert [label.choice for label in in_plan] == [{"1": "A", "2": "B", "0": "tie"}[key] for key in pressed]
    assert [label.first for label in in_plan] == [order_shown(each, "me")[0] for each in questions_of(planned)]
    assert {label.who for label in in_plan} == {"me"}
    assert all("which suits this user better" in str(label.instructions) for label in in_plan)


def test_the_page_says_nothing_of_who_replied_and_what_a_judge_said(run: Run, tmp_path: Path) -> None:
    run.begin("evaluation", [ADA])
    run.plan("oracle/c1", candidate="oracle", case="c1")
    asked = user(None, "Which tea?")
    run.say("oracle/c1", [asked, reply(asked, 1, "Green.", by="oracle")], scores=[score("1", 4)])
    run.end("oracle/c1")
    run.store.plan_labels([LabelQuestion(tree="oracle/c1", a="1", b=None, probability=1)])
    page = Labeller(run.path).page
    said = page.one("main")
    assert [part.text for part in said.every("article")] == ["userWhich tea?", "Green."]
    assert "I keep bees." in said.one("aside", class_="persona").text
    everything = said.text + " ".join(value for part in said.every() for value in part.attributes.values())
    assert not re.search("oracle|c1|judge|It fits|Score", everything)


def test_scores_are_given_from_1_to_5_and_instructions_of_a_file_are_kept_with_them(run: Run) -> None:
    run.begin("evaluation", [ADA])
    run.plan("t1")
    asked = user(None, "Which tea?")
    run.say("t1", [asked, reply(asked, 1), reply(asked, 2)], scores=[score("1", 4), score("2", 1)])
    run.end("t1")
    run.store.plan_labels([LabelQuestion(tree="t1", a=node, b=None, probability=1) for node in "12"])
    run.store.close()
    ann = Labeller(run.path, told=TOLD)
    assert ann.page.one("details", class_="told").one("div").text == TOLD
    assert [button.attributes["value"] for button in ann.page.every("button", class_="answer-key")] == [*"12345"]
    ann.press("5")
    ann.press("2")
    assert [(label.a, label.answer, label.instructions) for label in labels_of(run.path)] == [
        ("1", "5", TOLD), ("2", "2", TOLD),
    ]  # fmt: skip
    (row,) = ann.page.one("table").one("tbody").every("tr")
    assert row.words == "the judge judge 0 % 100 % 2"
    assert (
        Labeller(run.path, "bob").page.one("details", class_="told").one("div").text == TOLD
    )  # the newest in the file


def test_answers_are_undone_back_to_the_first(planned: Path) -> None:
    ann = Labeller(planned)
    assert ann.page.every("button", class_="undo") == []
    for key in "120":
        ann.press(key)
    assert ann.progress == "3 of 20 answered by ann somebody else"
    for left in (2, 1, 0):
        ann.press("u")
        assert ann.progress.startswith(f"{left} of 20")
    assert ann.page.every("button", class_="undo") == []
    assert labels_of(planned) == []


def test_an_answer_given_again_is_replaced_and_each_person_has_an_own_place(planned: Path) -> None:
    ann, again = Labeller(planned), Labeller(planned)  # the same page in two tabs
    ann.press("1")
    again.press("0")
    bob = Labeller(planned, "bob")
    assert bob.progress.startswith("0 of 20")
    bob.press("2")
    assert [(label.who, label.choice) for label in labels_of(planned)] == [("ann", "tie"), ("bob", "B")]


# What is not kept ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "changes", "status", "line"),
    [
        ({}, {"token": "another"}, 403, "This form is from an earlier start of the viewer; nothing was kept."),
        ({}, {"token": ""}, 403, "This form is from an earlier start"),
        ({}, {"token": "t\u00f6ken"}, 403, "This form is from an earlier start"),
        ({"Sec-Fetch-Site": "cross-site"}, {}, 403, "A form of another page was sent here; nothing was kept."),
        ({"Sec-Fetch-Site": "same-site"}, {}, 403, "A form of another page"),
        ({"Sec-Fetch-Site": "none"}, {}, 403, "A form of another page"),
        ({"Sec-Fetch-Site": None, "Origin": "http://evil.example"}, {}, 403, "A form of another page"),
        ({"Sec-Fetch-Site": None, "Origin": "null"}, {}, 403, "A form of another page"),
        ({"Sec-Fetch-Site": None, "Origin": "http://testserver:81"}, {}, 403, "A form of another page"),
        ({"Content-Type": "text/plain"}, {}, 415, "Only the forms of these pages are taken."),
        ({}, {"who": "x" * 20_000}, 413, "The form is too long."),
        ({}, {"who": "x" * 81}, 409, "The name has 81 characters; at most 80 are kept."),
        ({}, {"who": "an\u202en"}, 409, "The name holds characters that cannot be seen; type another one."),
        ({}, {"who": "  "}, 409, "Nobody's name came with the answer; type yours first."),
        ({}, {"question": "0123456789abcdef"}, 409, "This question is not planned any more; the answer was not kept."),
        ({}, {"key": "3"}, 409, "'3' is no answer to this question; it takes 1, 2, 0."),
        ({}, {"key": "A"}, 409, "'A' is no answer to this question"),
        ({}, {"key": ""}, 409, "'' is no answer to this question"),
    ],
)
def test_a_form_that_is_not_ours_or_cannot_be_meant_is_one_line_and_keeps_nothing(
    planned: Path, headers: dict[str, str | None], changes: dict[str, str], status: int, line: str
) -> None:
    ann = Labeller(planned)
    form = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
    sent = {name: value for name, value in {**form, **headers}.items() if value is not None}
    content = urlencode({**ann.fields("1"), **changes})
    answer = TestClient(ann.client.app).post("/label", content=content, headers=sent)
    assert answer.status_code == status
    assert parsed(answer.text).one("p", class_="sorry").text.startswith(line)
    assert labels_of(planned) == []


@pytest.mark.parametrize("headers", [{"Origin": "http://testserver"}, {}])
def test_what_sends_no_fetch_metadata_is_taken_from_here_with_the_token(planned: Path, headers: dict[str, str]) -> None:
    ann = Labeller(planned)
    client = TestClient(ann.client.app, headers=headers, follow_redirects=False)
    answer = client.post("/label", data=ann.fields("1"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/label?who=ann")
    assert len(labels_of(planned)) == 1


def test_no_address_that_is_only_opened_keeps_anything(planned: Path) -> None:
    ann = Labeller(planned)
    assert ann.client.get("/label", params=ann.fields("1")).status_code == 200
    assert labels_of(planned) == []


def test_a_file_that_a_run_is_writing_is_one_line_and_the_question_stays(planned: Path) -> None:
    ann = Labeller(planned)
    code = "import sys, pathlib, interalign.store as s; held = s.Store.create_or_open(pathlib.Path(sys.argv[1])); "
    writing = [sys.executable, "-c", f"{code} print('held', flush=True); input()", planned]
    with subprocess.Popen(writing, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        answer = ann.client.post("/label", data=ann.fields("1"))
        process.communicate("\n")
    assert answer.status_code == 409
    ann.page = parsed(answer.text)
    assert ann.page.one("p", class_="sorry").text == (
        f"{planned} is being written by process {process.pid}; wait until it ends, or stop it (kill -INT {process.pid})"
    )
    assert ann.progress.startswith("0 of 20")
    ann.press("1")  # the same page, sent again
    assert len(labels_of(planned)) == 1


def test_a_viewer_that_others_can_reach_keeps_no_labels(planned: Path) -> None:
    client = TestClient(create_app(planned))
    page = parsed(client.get("/label?who=ann").text)
    assert page.one("main").every("form") == []
    assert "Labels are kept by a viewer that listens on this machine alone" in page.one("main").words
    assert client.post("/label", data={"who": "ann", "key": "1"}).status_code == 405


def test_without_a_plan_the_page_names_the_command_that_makes_one(night: Run) -> None:
    page = Labeller(night.path).page
    assert page.one("p", class_="soft").words == (
        "No question is planned yet: interalign labels run.db plan --n 50 draws 50."
    )
    assert page.one("main").every("form") == []


def test_a_persona_pool_has_no_labelling_page(run: Run, browse: Callable[..., Element]) -> None:
    run.begin("personas")
    assert browse("/label", 404).one("p", class_="sorry").text == (
        "This file holds a persona pool; there are no replies to label in it."
    )


@pytest.mark.parametrize(("given", "name"), [("  ann  b ", "ann b"), ("Änne", "Änne"), ("", ""), ("x" * 80, "x" * 80)])
def test_a_name_is_kept_without_blanks_around_it(given: str, name: str) -> None:
    assert name_of(given) == name


@pytest.mark.parametrize("given", ["x" * 81, "a\x00b", "a\u200bb", "a\udc00"])
def test_a_name_that_cannot_be_read_is_refused(given: str) -> None:
    with pytest.raises(ConfigError):
        name_of(given)


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_keeps_labels_with_the_token_of_its_start_and_the_instructions_of_a_file(
    planned: Path, tmp_path: Path
) -> None:
    (tmp_path / "told.txt").write_text(TOLD)
    tokens = []
    for _ in range(2):
        with served(planned, "--port", "0", "--instructions", str(tmp_path / "told.txt")) as (address, _process):
            form = fetched(f"{address}label?who=ann").every("form", method="post")[0]
            fields = {each.attributes["name"]: each.attributes["value"] for each in form.every("input")}
            tokens.append(fields["token"])
            urlopen(Request(f"{address}label", data=urlencode({**fields, "key": "1"}).encode())).close()
            with pytest.raises(HTTPError) as refused:
                urlopen(Request(f"{address}label", data=urlencode({**fields, "token": tokens[0][::-1]}).encode()))
            assert refused.value.code == 403
            refused.value.close()
    assert tokens[0] != tokens[1]
    assert min(map(len, tokens)) >= 32
    assert [label.instructions for label in labels_of(planned)] == [TOLD, TOLD]


def test_instructions_that_are_not_there_or_not_used_are_refused(
    planned: Path, tmp_path: Path, cli: Callable[..., Ended]
) -> None:
    for words in (("--instructions", "none.txt"), ("--instructions", "run.db", "--export", "out.html")):
        ended = cli("view", "run.db", "--port", "0", *words)
        assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert not (tmp_path / "out.html").exists()


def test_the_second_of_two_files_is_labelled_at_its_own_address(planned: Path, grown: Path) -> None:
    app = create_app(grown, others=[planned], labelling=Labelling("the token"))
    client = TestClient(app, headers={"Sec-Fetch-Site": "same-origin"}, follow_redirects=False)
    form = parsed(client.get("/run/2/label?who=ann").text).every("form", method="post")[0]
    fields = {each.attributes["name"]: each.attributes["value"] for each in form.every("input")}
    answer = client.post("/run/2/label", data=fields | {"key": "1"})
    assert answer.headers["location"] == "/run/2/label?who=ann"
    assert (len(labels_of(planned)), labels_of(grown)) == (1, [])


# Agreement -----------------------------------------------------------------------------------------------------------


def test_labels_are_compared_with_everybody_who_answered_the_same(run: Run) -> None:
    """Three pairs: ann says a, b, tie; bob a, a, -; the judge prefers a, ties, and cannot be read."""
    run.begin("simulation", [ADA, BOB])
    run.plan("t1", "t2")
    run.plan("t3", persona="bob")
    asked = user(None)
    for tree, said in {"t1": ("A", "B"), "t2": ("A", "A"), "t3": ("A", None)}.items():
        run.say(tree, [asked, reply(asked, 1), reply(asked, 2)], [compared("1", "2", *said)])
        run.end(tree)
    answers = {"ann": ("a", "b", "tie"), "bob": ("a", "a")}
    run.store.add_labels(
        [
            Label(tree=f"t{place}", a="1", b="2", who=who, answer=answer, first="1", at="2026-11-27T20:00:00+00:00")
            for who, given in answers.items()
            for place, answer in enumerate(given, start=1)
        ]
    )
    bob, judge = agreements(run.store, "ann")
    assert (bob.other, bob.is_judge, bob.same.hits, bob.same.n, bob.close) == ("bob", False, 1, 2, None)
    assert (judge.other, judge.is_judge, judge.same.hits, judge.same.n) == ("judge", True, 1, 2)
    assert judge.differing == (("t2", "1", "2"),)
    assert agreements(run.store, "nobody") == []


def test_the_newest_instructions_of_a_file_are_those_of_the_newest_label_that_has_some() -> None:
    pair = LabelQuestion(tree="t", a="1", b="2")
    one = label_of(pair, "ann", "1", "first")
    labels = [one.model_copy(update={"at": at, "instructions": told})
              for at, told in (("2", "newest"), ("1", "oldest"), ("3", None))]  # fmt: skip
    assert newest_instructions(labels) == "newest"
    assert newest_instructions(labels[2:]) is None


# Hostile text --------------------------------------------------------------------------------------------------------


HOSTILE = (
    "<script>document.title='owned'</script>", "<img src=x onerror=document.title='owned'>", "<svg onload=alert(1)>",
    "</textarea></button></form><form action=//evil.example method=post>", "\u202eevil\u202c", "\x1b[31mred",
    "{{7*7}}{% raw %}", "&lt;b&gt;&#0;", "<button name=key value=1 data-key=2>", "\"' autofocus onfocus=alert(1)",
)  # fmt: skip


@with_a_browser
def test_five_hundred_hostile_texts_are_shown_and_never_run(run: Run, tmp_path: Path) -> None:
    texts = [f"{HOSTILE[number % len(HOSTILE)]} {number}" for number in range(500)]
    run.begin("simulation", [Persona(id="p", profile=(ATTACK,), personality=ATTACK, source="file")])
    run.plan("t1", persona="p")
    said: list[Node] = []
    for number in range(0, 498, 2):
        said.append(user(said[-1].id if said else None, texts[number]))
        said.append(reply(said[-1], 1, texts[number + 1]))
    asked = user(said[-1].id, texts[498])
    replies = [reply(asked, number, texts[499]) for number in (1, 2)]
    run.say("t1", [*said, asked, *replies], [compared(replies[0].id, replies[1].id, "A", "B")])
    run.end("t1")
    run.store.plan_labels([LabelQuestion(tree="t1", a=replies[0].id, b=replies[1].id, probability=1)])
    run.store.close()
    with listening(run.path, Labelling("the token", ATTACK)) as address:
        pages: dict[str, str] = {}

        async def work(browser: Browser) -> None:
            await browser.open(f"{address}/label?who=ann")
            pages["seen"] = await browser.read("document.documentElement.outerHTML")
            assert await browser.read("document.title") == "1 of 1 - Label - run.db"
            await browser.press("1")
            await browser.until("document.body.textContent.includes('All 1 questions are answered')")

        browsing(tmp_path / "browser", work)
    page = parsed(pages["seen"])
    assert_inert(page)
    assert len(page.one("main").every("form")) == 3
    assert len(page.every("article")) == 501
    assert all(f" {number}" in page.every("article")[number].text for number in range(500))
    assert [label.answer for label in labels_of(run.path)] != []
