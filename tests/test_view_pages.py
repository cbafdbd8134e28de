"""The viewer's pages of a run, a tree and a call, driven as a browser drives them: over HTTP, on real run files."""

import asyncio
import re
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from starlette.testclient import TestClient
from view_pages import (
    TURN_1,
    TURN_2,
    Element,
    Run,
    card,
    compared,
    fetched,
    listed,
    listening,
    parsed,
    reply,
    score,
    turn,
    user,
)

from interalign.errors import ConfigError
from interalign.eval.view import create_app
from interalign.eval.view.page import all_pages
from interalign.registries import Registry
from interalign.tree import Message

pytest_plugins = ["view_fixtures"]


def test_the_front_page_tells_what_the_run_is_and_how_far_it_is(night: Run, browse: Callable[..., Element]) -> None:
    page = browse("/")
    assert page.one("h1").text == "night"
    facts = page.one("p", class_="facts").words
    assert "1 of 3 trees done" in facts
    assert "1 failed" in facts
    assert "1 not ended" in facts
    settings = {pair.one("dt").text: pair.one("dd").text for pair in page.one("section", class_="card").every("div")}
    assert settings == {"seed": "7", "candidate": "average = world:average", "parameters.judge.temperature": "0.0"}


def test_figures_of_the_embedded_world_are_shown_with_what_they_do_not_say(
    night: Run, browse: Callable[..., Element]
) -> None:
    assert "nothing about how good a language model is" in browse("/").one("header").words


def test_figures_of_other_models_come_without_that_caution(run: Run, browse: Callable[..., Element]) -> None:
    run.begin(user="openai:a", judge="openai:b")
    assert browse("/").one("header").every("p", class_="caution") == []


def test_tokens_and_unusable_replies_are_counted_by_role(night: Run, browse: Callable[..., Element]) -> None:
    night.call("t1", "u", "user", [Message(role="user", content="Begin.")], "I like tea. Which one?")
    table = browse("/").one("table", class_="numbers").one("tbody")
    assert [cell.text for cell in table.one("tr").inside if isinstance(cell, Element)] == ["user", "1", "0", "0", "0"]


def test_a_conversation_shows_every_sibling_with_its_mark_and_which_one_was_taken(
    night: Run, browse: Callable[..., Element]
) -> None:
    page = browse("/tree/t1")
    marked = [
        (one.one("span", class_="badge").text, "taken" in one.text) for one in page.every("article", class_="reply")
    ]
    assert marked == [
        ("chosen", False),
        ("rejected", True),
        ("tie", True),
        ("tie", False),
        ("missing", False),
        ("missing", False),
    ]
    assert [section.one("h3").words for section in page.every("section", class_="turn")] == [
        "Turn 1",
        "Turn 2",
        "Turn 3",
    ]


def test_a_reply_says_who_wrote_it_and_whether_the_notes_were_seen(night: Run, browse: Callable[..., Element]) -> None:
    page = browse("/tree/t1")
    assert card(page, "Green or black?").one("p", class_="who").words == "average saw the notes"
    assert card(page, "Any will do.").one("p", class_="who").words == "average taken"


def test_the_judge_is_quoted_in_both_orders(night: Run, browse: Callable[..., Element]) -> None:
    verdicts = [found.words for found in browse("/tree/t1").every("details", class_="verdict")]
    assert verdicts == [
        "judge: Reply 1 preferred, in both orders Reply 1 shown as A, reply 2 as B → A, reply 1 Order 1. Verdict: A "
        "Reply 2 shown as A, reply 1 as B → B, reply 1 Order 2. Verdict: B",
        "judge: Tie: the two orders disagree Reply 1 shown as A, reply 2 as B → A, reply 1 Order 1. Verdict: A "
        "Reply 2 shown as A, reply 1 as B → A, reply 2 Order 2. Verdict: A",
        "judge: Missing: not both orders could be read Reply 1 shown as A, reply 2 as B → A, reply 1 Order 1. "
        "Verdict: A Reply 2 shown as A, reply 1 as B → nothing that could be read Could not be read: Hmm.",
    ]


def test_notes_of_the_inducer_and_of_plug_ins_stand_beside_their_message(
    night: Run, browse: Callable[..., Element]
) -> None:
    page = browse("/tree/t1")
    assert page.one("aside", class_="hints").words == "Notes of the inducer The user likes tea."
    assert card(page, "Green or black?").one("div", class_="note").words == 'length, by counter { "words": 3 }'


def test_the_persona_stands_beside_the_conversation(night: Run, browse: Callable[..., Element]) -> None:
    persona = browse("/tree/t1").one("aside", class_="persona").words
    assert persona == (
        "Persona ada, from file Profile I drink tea. turn 1 I keep bees. "
        "Marked: the user has said at least half of its words by that turn. A match of words, no judgement. "
        "Personality I write short messages."
    )


def test_the_picture_has_a_link_for_every_message_and_marks_by_shape(
    night: Run, browse: Callable[..., Element]
) -> None:
    dots = browse("/tree/t1").one("svg", class_="tree").every("a")
    assert [dot.attributes["class"] for dot in dots] == [
        "dot user path", "dot chosen", "dot rejected path", "dot user path", "dot tie path", "dot tie",
        "dot user path", "dot missing path", "dot missing",
    ]  # fmt: skip
    assert [use.attributes["href"] for use in dots[1].every("use")] == ["#mark-chosen", "#sign-chosen"]
    assert [use.attributes["href"] for use in dots[2].every("use")] == ["#mark-rejected", "#sign-rejected"]
    assert dots[1].attributes["href"] == "/tree/t1?node=1#n1"
    assert dots[1].one("title").text == "Turn 1, average+hint, chosen: Green or black?"


def test_selecting_a_reply_shows_the_conversation_through_it(night: Run, browse: Callable[..., Element]) -> None:
    page = browse("/tree/t1?node=1")
    assert len(page.every("section", class_="turn")) == 1
    assert page.one("article", class_="selected").every("div", class_="text")[0].text == "Green or black?"
    assert "selected" in page.one("svg", class_="tree").every("a")[1].attributes["class"]


def test_every_link_of_the_picture_leads_to_a_page_that_holds_the_message(
    night: Run, browse: Callable[..., Element]
) -> None:
    for dot in browse("/tree/t1").one("svg", class_="tree").every("a"):
        address, _, anchor = dot.attributes["href"].partition("#")
        assert len(browse(address).every("article", id=anchor)) == 1


def test_the_prompt_behind_a_message_is_shown_without_repeating_the_conversation(
    run: Run, browse: Callable[..., Element]
) -> None:
    run.begin()
    run.plan("t1")
    asked = user(None, "Which tea?")
    messages = [Message(role="system", content="Be kind."), Message(role="user", content="Which tea?")]
    call = run.call("t1", "1", "candidate", messages, "Green.")
    run.say("t1", [asked, reply(asked, 1, "Green.", call=call), reply(asked, 2, "Black.", call="no such call")])
    page = browse("/tree/t1")
    behind = card(page, "Green.").one("details")
    assert behind.words == "Prompt system Be kind. 1 message: the conversation, word for word The whole call of m"
    whole = browse(behind.one("a").attributes["href"])
    said = [text.text for text in whole.one("section", class_="call").every("div", class_="text")]
    assert said == ["Be kind.", "Which tea?", "Green."]
    assert card(page, "Black.").every("details") == []


def test_scores_are_shown_with_the_judges_words(run: Run, browse: Callable[..., Element]) -> None:
    run.begin("evaluation")
    run.plan("blind/ada", candidate="blind", case="ada")
    run.plan("oracle/ada", candidate="oracle", case="ada")
    run.say("blind/ada", turn(None, 1), scores=[score("1", 2)])
    run.say("blind/ada", turn("1", 1), scores=[score("1/1", 5)])
    run.say("oracle/ada", turn(None, 1), scores=[score("1", None)])
    front = browse("/trees")
    line, other = listed(front)
    assert line.every("td")[-1].words == "mean score 3.50 (n 2)"
    assert line.one("svg", class_="spark").one("path").attributes["d"] == "M3 18h.01L11 3"
    assert other.every("td")[-1].words == "1 missing"
    assert front.one("table", class_="list").one("thead").every("th")[-1].text == "Judge, scores 1 to 5"
    page = browse(line.one("a").attributes["href"])
    first = card(page, "Reply 1 after u.")
    assert first.one("span", class_="badge").text == "score 2"
    assert first.one("details").words == "Judge\u2019s words Reply 1 on its own → score 2 It fits. Score: 2"
    assert [link.text for link in page.one("nav", aria_label="case").every("a")] == ["blind", "oracle"]


def test_another_judge_can_be_looked_through(night: Run, browse: Callable[..., Element]) -> None:
    asyncio.run(night.store.save_judgement("t1", [compared("1", "2", "B", "A", judge="second judge")], []))
    by_newest = browse("/tree/t1")
    assert card(by_newest, "Green or black?").one("span", class_="badge").text == "rejected"
    switch = by_newest.one("nav", aria_label="Judge")
    assert [link.text for link in switch.every("a")] == ["judge", "second judge"]
    assert switch.one("a", aria_current="true").text == "second judge"
    by_first = browse(switch.every("a")[0].attributes["href"])
    assert card(by_first, "Green or black?").one("span", class_="badge").text == "chosen"
    assert "judge=judge" in by_first.one("svg", class_="tree").every("a")[3].attributes["href"]
    assert listed(browse("/trees?judge=second+judge"))[1].every("td")[-1].words == "1 preferred, 0 ties"


NAMES = ("a/b", "x?y#z", "100%2F", "tab\tand\nline\n", "..", "a//../b", "\u00e9 \u6f22 \U0001f600", "+&=;", "-" * 3000)


def test_a_tree_of_any_name_is_found_by_its_link(run: Run) -> None:
    run.begin("evaluation")
    for name in NAMES:
        run.plan(f"oracle/{name}", candidate="oracle", case=name)
        run.say(f"oracle/{name}", turn(None, 1))
    with listening(run.path) as address:
        links = [line.one("a").attributes["href"] for line in listed(fetched(f"{address}/trees"))]
        assert [unquote(link) for link in links] == [f"/tree/oracle/{name}" for name in NAMES]
        # With every slash and blank escaped, no browser can tidy the address up.
        assert all(re.fullmatch(r"/tree/oracle%2F[\w.~%-]+", link) for link in links)
        assert [fetched(address + link).one("h1").text for link in links] == [f"oracle/{name}" for name in NAMES]


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("/tree/t9", "There is no tree 't9' in this run."),
        ("/tree/t2", "Tree 't2' is planned; nothing has been said in it yet."),
        ("/tree/t0", "Tree 't0' failed before its first turn was finished: the user said nothing usable in turn 1"),
        ("/tree/t1?node=9", "Tree 't1' has no message '9'."),
        ("/tree/t1?judge=nobody", "No judge 'nobody' was asked in this run."),
        ("/?page=2", "There is no page '2'; the list has 1."),
        ("/?page=-1", "There is no page '-1'; the list has 1."),
        ("/?page=" + "9" * 5000, f"There is no page '{'9' * 5000}'; the list has 1."),
        ("/trees?page=2", "There is no page '2'; the list has 1."),
        ("/trees?status=lost", "No tree of this run has the status 'lost'."),
        ("/trees?sort=size", "There is no order 'size'; there are planned, worst, best, falling, gap."),
        ("/trees?turn=0", "turn='0' is no turn: they are whole numbers from 1."),
        ("/trees?low=two", "low='two' is no number from 0 to 5: scores are 1 to 5."),
        ("/trees?high=nan", "high='nan' is no number from 0 to 5: scores are 1 to 5."),
        ("/trees?judge=nobody", "No judge 'nobody' was asked in this run."),
        ("/?status=lost", "No tree of this run has the status 'lost'."),
        ("/elsewhere", "There is no such page."),
        ("/tree/", "There is no such page."),
    ],
)
def test_what_is_not_there_is_a_404_with_one_line(
    night: Run, browse: Callable[..., Element], url: str, line: str
) -> None:
    assert browse(url, status=404).one("p", class_="sorry").text == line


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_pages_can_only_be_read(night: Run, method: str) -> None:
    client = TestClient(create_app(night.path))
    assert [client.request(method, url).status_code for url in ("/", "/tree/t1")] == [405, 405]


def test_a_run_that_is_still_empty_has_a_front_page(run: Run, browse: Callable[..., Element]) -> None:
    assert "nothing was run in it yet" in browse("/").one("p", class_="facts").words


def test_a_run_file_that_went_away_is_said_in_one_line(tmp_path: Path) -> None:
    answer = TestClient(create_app(tmp_path / "gone.db")).get("/")
    assert answer.status_code == 503
    assert "gone.db does not exist" in parsed(answer.text).one("p", class_="sorry").text


def test_a_run_is_seen_growing_while_it_is_written(night: Run, browse: Callable[..., Element]) -> None:
    browse("/tree/t2", status=404)
    night.say("t2", TURN_1)
    assert len(browse("/tree/t2").every("section", class_="turn")) == 1
    night.say("t2", TURN_2)
    assert len(browse("/tree/t2").every("section", class_="turn")) == 2


def test_a_tree_is_never_seen_half_written(run: Run, browse: Callable[..., Element]) -> None:
    run.begin()
    run.plan("t1")
    run.say("t1", turn(None), [compared("1", "2", "A", "B")])
    done = threading.Event()

    def write() -> None:
        tip = "1"
        for _ in range(60):
            run.say("t1", turn(tip), [compared(f"{tip}/1", f"{tip}/2", "A", "B")])
            tip += "/1"
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    looks = 0
    while not done.is_set() or not looks:
        page = browse("/tree/t1")
        assert len(page.every("article", class_="reply")) == 2 * len(page.every("article", class_="user"))
        assert page.every("article", class_="unjudged") == []
        looks += 1
    writer.join()
    assert len(browse("/tree/t1").every("section", class_="turn")) == 61


# A run that grows --------------------------------------------------------------------------------------------------


def test_the_front_page_of_a_growing_run_refreshes_itself_and_says_how_it_goes_on(
    run: Run, browse: Callable[..., Element]
) -> None:
    run.begin()
    run.plan("t1", "t2", "t3")
    assert browse("/").every("meta", http_equiv="refresh") == []
    run.call("t1", "u", "user", [Message(role="user", content="Begin.")], "Hm.")
    front = browse("/")
    assert front.one("meta", http_equiv="refresh").attributes["content"] == "10"
    assert "replies a minute" in front.one("p", class_="growth").text
    assert front.one("p", class_="growth").text.endswith("no tree is done yet to tell by")
    run.end("t1")
    assert browse("/").one("p", class_="growth").text.endswith("to go")
    for tree in ("t2", "t3"):
        run.end(tree)
    front = browse("/")
    assert front.every("meta", http_equiv="refresh") == []
    assert front.every("p", class_="growth") == []


def test_the_front_page_of_a_run_leads_to_its_trees(night: Run, browse: Callable[..., Element]) -> None:
    front = browse("/")
    links = [link.attributes["href"] for link in front.one("main").every("a")]
    assert "/trees" in links


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("no_such_module:PAGE", "viewer page 'mine' cannot be loaded"),
        ("interalign.eval.view.pages.run:front", "the viewer page 'mine' is no Page"),
        ("interalign.eval.view.pages.trees:PAGE", "the viewer page 'mine' has the path /trees of another page"),
    ],
)
def test_a_page_of_a_plug_in_that_cannot_be_used_is_named(target: str, said: str) -> None:
    built_in = {"trees": "interalign.eval.view.pages.trees:PAGE", "mine": target}
    with pytest.raises(ConfigError, match=said):
        all_pages(Registry("viewer page", "interalign.pages", built_in))


def test_what_is_known_by_its_hash_alone_is_called_a_file_on_the_front_page(
    run: Run, browse: Callable[..., Element]
) -> None:
    run.begin(cases="sha256:90fbd11389332f42")
    settings = browse("/").one("section", class_="card").one("dl").words
    assert "cases a file, its SHA-256 begins with 90fbd1138933" in settings
    assert "sha256:" not in settings
