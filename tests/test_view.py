"""The viewer, driven as a browser drives it: over HTTP, on run files written by the real store."""

import asyncio
import base64
import hashlib
import html
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import Request, urlopen

import pytest
import uvicorn
from conftest import Ended
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from interalign.config import Parameters
from interalign.errors import ConfigError
from interalign.eval.safe_text import shown
from interalign.eval.view import create_app, export_html
from interalign.eval.view.layout import rows
from interalign.eval.view.links import ServedLinks
from interalign.eval.view.marks import Mark, marks
from interalign.eval.view.picture import draw
from interalign.eval.view.tree_page import folded, path_through
from interalign.ledger import Ledger
from interalign.personas import Persona
from interalign.preferences import pairs
from interalign.records import Place, Reply, TreeRecord
from interalign.store import Store
from interalign.tree import Annotation, JudgedTree, Message, Node, Presentation, Score, Tree, Verdict

ADA = Persona(id="ada", profile=("I drink tea.", "I keep bees."), personality="I write short messages.", source="file")


# What a page is made of ------------------------------------------------------------------------------------------


class Element:
    """One element of a page."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.inside: list[Element | str] = []

    @property
    def text(self) -> str:
        return "".join(part if isinstance(part, str) else part.text for part in self.inside)

    @property
    def words(self) -> str:
        """The text, a blank between any two elements."""
        parts = [part if isinstance(part, str) else part.words for part in self.inside]
        return re.sub(r" ([,:;.])", r"\1", " ".join(" ".join(parts).split()))

    def every(self, tag: str = "", **attributes: str) -> "list[Element]":
        below = [part for part in self.inside if isinstance(part, Element)]
        found = [element for element in below if tag in ("", element.tag) and element.has(attributes)]
        return found + [element for part in below for element in part.every(tag, **attributes)]

    def has(self, attributes: dict[str, str]) -> bool:
        return all(
            value in self.attributes.get(name.strip("_").replace("_", "-"), "").split()
            for name, value in attributes.items()
        )

    def one(self, tag: str = "", **attributes: str) -> "Element":
        found = self.every(tag, **attributes)
        assert len(found) == 1, f"{len(found)} elements <{tag} {attributes}>"
        return found[0]


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(element)
        if tag not in ("meta", "link", "br"):
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].inside.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def parsed(page: str) -> Element:
    builder = _Builder()
    builder.feed(page)
    builder.close()
    assert len(builder.open) == 1, "an element is never closed"
    return builder.open[0]


# Conversations made by hand --------------------------------------------------------------------------------------


def user(parent: str | None, text: str = "And now?", **fields: str) -> Node:
    turn = 1 if parent is None else parent.count("/") + 2
    return Node(
        id=f"{parent}/u" if parent else "u", parent=parent, turn=turn, role="user", text=text, by="user", **fields
    )


def reply(asked: Node, number: int, text: str = "Well.", by: str = "average", **fields: object) -> Node:
    path = f"{asked.parent}/{number}" if asked.parent else f"{number}"
    return Node(id=path, parent=asked.id, turn=asked.turn, role="assistant", text=text, by=by, **fields)


def turn(parent: str | None, branch: int = 2) -> list[Node]:
    asked = user(parent)
    return [asked, *(reply(asked, number, f"Reply {number} after {asked.id}.") for number in range(1, branch + 1))]


def marks_of(nodes: list[Node], verdicts: Sequence[Verdict], scores: Sequence[Score]) -> dict[str, Mark]:
    return marks(nodes[0], nodes[1:], verdicts, scores)


def compared(a: str, b: str, first: str | None, second: str | None, judge: str = "judge") -> Verdict:
    """Said of (a shown first) and of (b shown first): A, B, tie, or None for an answer nobody could read."""
    said = [(f"Order {order}. Verdict: {value}" if value else "Hmm.",) for order, value in ((1, first), (2, second))]
    return Verdict(
        judge=judge,
        a=a,
        b=b,
        orders=(
            Presentation(first=a, second=b, replies=said[0], value=first),  # type: ignore[arg-type]
            Presentation(first=b, second=a, replies=said[1], value=second),  # type: ignore[arg-type]
        ),
    )


def score(node: str, value: int | None, judge: str = "judge") -> Score:
    return Score(judge=judge, node=node, replies=(f"It fits. Score: {value}" if value else "Hmm.",), value=value)


def tree_of(*nodes: Node) -> Tree:
    return Tree(id="t", run="r", persona="ada", seed=0, nodes=nodes)


TURN_1 = (
    user(None, "I like tea. Which one?"),
    reply(user(None), 1, "Green or black?", hinted=True),
    reply(user(None), 2, "Any will do."),
)
"""Reply 1 is preferred; the conversation goes on with reply 2."""
TURN_2 = (user("2"), reply(user("2"), 1, "Tie, first."), reply(user("2"), 2, "Tie, second."))
"""The two orders disagree; it goes on with reply 2/1."""
TURN_3 = (user("2/1"), reply(user("2/1"), 1, "Missing, first."), reply(user("2/1"), 2, "Missing, second."))
"""One order could not be read."""
VERDICTS = (compared("1", "2", "A", "B"), compared("2/1", "2/2", "A", "A"), compared("2/1/1", "2/1/2", "A", None))
NOTES = (
    Annotation(node="u", name="hint", by="inducer", value="The user likes tea."),
    Annotation(node="1", name="length", by="counter", value={"words": 3}),
)


class Run:
    """A run file in the making."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store.create_or_open(path)

    def begin(self, kind: str = "simulation", personas: Sequence[Persona] = (ADA,), **identity: object) -> None:
        self.store.begin_run("night", kind, {"seed": 7, **identity}, "0.1.0")  # type: ignore[arg-type]
        self.store.add_personas(personas)

    def plan(self, *ids: str, persona: str = "ada", **fields: str) -> None:
        first = len(self.store.trees())
        self.store.plan_trees(
            TreeRecord(id=tree, index=first + number, persona=persona, seed=7, **fields)
            for number, tree in enumerate(ids)
        )

    def say(
        self,
        tree: str,
        nodes: Sequence[Node],
        verdicts: Sequence[Verdict] = (),
        scores: Sequence[Score] = (),
        notes: Sequence[Annotation] = (),
    ) -> None:
        asyncio.run(self.store.save_turn(tree, nodes, verdicts, scores, notes))

    def end(self, tree: str, failed: str | None = None) -> None:
        asyncio.run(self.store.finish_tree(tree, failed=failed))

    def call(self, tree: str, node: str, role: str, messages: Sequence[Message], text: str, tokens: int = 0) -> str:
        """Let a model that always says `text`, in so many tokens, be asked through the ledger; the call's key."""
        model = Says(text, tokens)
        asked = Ledger(self.store, concurrency=1).call(Place(tree, node, role, 0), model, messages, Parameters(), 0)
        return asyncio.run(asked).key


class Says:
    """A model with one answer."""

    name = "m"

    def __init__(self, text: str, tokens: int) -> None:
        self.text, self.tokens = text, tokens

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        return Reply(text=self.text, model="m", prompt_tokens=self.tokens, completion_tokens=self.tokens)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / "run.db")
    yield made
    made.store.close()


@pytest.fixture
def night(run: Run) -> Run:
    """The conversation above as t1, between one that failed at once, t0, and one that is only planned, t2."""
    run.begin(candidate=[{"name": "average", "model": "world:average"}], parameters={"judge": {"temperature": 0.0}})
    run.plan("t0", "t1", "t2")
    run.end("t0", failed="the user said nothing usable in turn 1")
    for nodes, verdict in zip((TURN_1, TURN_2, TURN_3), VERDICTS, strict=True):
        run.say("t1", nodes, [verdict], notes=NOTES if nodes is TURN_1 else ())
    run.end("t1")
    return run


@pytest.fixture
def browse(run: Run) -> Callable[..., Element]:
    """`browse(url)`: the page, which must come with status 200."""
    client = TestClient(create_app(run.path), raise_server_exceptions=True)

    def get(url: str, status: int = 200) -> Element:
        answer = client.get(url)
        assert answer.status_code == status, answer.text[:500]
        return parsed(answer.text)

    return get


@contextmanager
def listening(path: Path) -> Iterator[str]:
    """The address of a server of this process that shows the run."""
    server = uvicorn.Server(uvicorn.Config(create_app(path), lifespan="off", log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def fetched(url: str) -> Element:
    with urlopen(url) as answer:
        return parsed(answer.read().decode())


def listed(page: Element) -> list[Element]:
    """The lines of the list of trees."""
    return page.one("table", class_="list").one("tbody").every("tr")


def card(page: Element, text: str) -> Element:
    """The reply with this text."""
    return next(article for article in page.every("article", class_="reply") if text in article.text)


JOINED = "\U0001f469\u200d\U0001f33e \u0645\u06cc\u200c\u062e\u0648\u0631\u0645"
"""A woman farmer, and a Persian word: joiners make one sign of several and are no disguise."""


# Text that cannot hide ---------------------------------------------------------------------------------------------


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


# Marks -------------------------------------------------------------------------------------------------------------


def kinds(replies: int, verdicts: Sequence[Verdict] = (), scores: Sequence[Score] = ()) -> list[str]:
    return [mark.kind for mark in marks_of(turn(None, replies), verdicts, scores).values()]


def test_a_reply_preferred_in_both_orders_is_chosen_and_the_other_rejected() -> None:
    assert kinds(2, [compared("1", "2", "A", "B")]) == ["chosen", "rejected"]
    assert kinds(2, [compared("1", "2", "B", "A")]) == ["rejected", "chosen"]


def test_orders_that_disagree_are_a_tie_and_one_unread_order_is_missing() -> None:
    assert kinds(2, [compared("1", "2", "A", "A")]) == ["tie", "tie"]
    assert kinds(2, [compared("1", "2", "A", None)]) == ["missing", "missing"]


def test_replies_nobody_judged_are_not_judged() -> None:
    assert marks_of(turn(None, 1), [], []) == {"1": Mark("unjudged")}
    assert Mark("unjudged").label == "not judged"


def test_the_highest_score_is_chosen_the_lowest_rejected_and_the_others_in_no_pair() -> None:
    found = marks_of(turn(None, 4), [], [score("1", 2), score("2", 5), score("3", 3), score("4", None)])
    assert found == {
        "1": Mark("rejected", score=2),
        "2": Mark("chosen", score=5),
        "3": Mark("unpaired", score=3),
        "4": Mark("missing"),
    }


def test_equal_scores_are_a_tie_and_a_single_score_stands_alone() -> None:
    assert kinds(2, scores=[score("1", 4), score("2", 4)]) == ["tie", "tie"]
    assert kinds(1, scores=[score("1", 4)]) == ["unpaired"]
    assert (Mark("unpaired", score=4).label, Mark("unpaired", score=4).figure) == ("", "4")


def test_of_three_compared_replies_the_one_between_shows_its_net_wins() -> None:
    said = [compared("1", "2", "A", "B"), compared("1", "3", "A", "B"), compared("2", "3", "A", "B")]
    found = marks_of(turn(None, 3), said, [])
    assert found == {"1": Mark("chosen", net=2), "2": Mark("unpaired", net=0), "3": Mark("rejected", net=-2)}
    assert [mark.figure for mark in found.values()] == ["", "0", ""]
    assert Mark("unpaired", net=-1).figure == "\u22121"


SAID = st.sampled_from(["A", "B", "tie", None])


@st.composite
def judged_turns(draw: st.DrawFn) -> JudgedTree:
    count = draw(st.integers(1, 4))
    texts = draw(st.lists(st.sampled_from(["x", "y", "z", " "]), min_size=count, max_size=count))
    asked = user(None)
    nodes = [reply(asked, number, text) for number, text in enumerate(texts, start=1)]
    both = [(a.id, b.id) for place, a in enumerate(nodes) for b in nodes[place + 1 :]]
    verdicts = [compared(a, b, draw(SAID), draw(SAID)) for a, b in both if draw(st.booleans())]
    values = st.one_of(st.none(), st.integers(1, 5))
    scores = [score(node.id, draw(values)) for node in nodes if draw(st.booleans())] if draw(st.booleans()) else []
    return JudgedTree(tree=tree_of(asked, *nodes), verdicts=tuple(verdicts), scores=tuple(scores))


@given(judged_turns())
def test_chosen_and_rejected_are_exactly_the_pair_that_export_writes(judged: JudgedTree) -> None:
    found = marks(judged.tree.root, judged.tree.children("u"), judged.verdicts, judged.scores)
    marked = [[node for node, mark in found.items() if mark.kind == kind] for kind in ("chosen", "rejected")]
    exported = pairs(judged, "best-worst")
    assert marked == [[pair.chosen.id for pair in exported], [pair.rejected.id for pair in exported]]


# Picture -----------------------------------------------------------------------------------------------------------


def test_a_parent_stands_in_the_middle_of_its_answers_and_subtrees_move_together() -> None:
    assert rows([*turn(None), *turn("1"), *turn("2")]) == {
        "u": 1.5, "1": 0.5, "2": 2.5,
        "1/u": 0.5, "1/1": 0.0, "1/2": 1.0,
        "2/u": 2.5, "2/1": 2.0, "2/2": 3.0,
    }  # fmt: skip


def test_a_branch_that_ends_early_leaves_its_room_to_the_others() -> None:
    assert rows([*turn(None), *turn("1"), *turn("1/2")]) == {
        "u": 1.0, "1": 0.5, "2": 1.5,
        "1/u": 0.5, "1/1": 0.0, "1/2": 1.0,
        "1/2/u": 1.0, "1/2/1": 0.5, "1/2/2": 1.5,
    }  # fmt: skip


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    nodes = turn(None, draw(st.integers(1, 3)))
    tips = nodes[1:]
    for _ in range(draw(st.integers(0, 4))):
        taken = draw(st.lists(st.sampled_from(tips), unique_by=lambda node: node.id, max_size=4))
        grown = [turn(tip.id, draw(st.integers(1, 3))) for tip in taken]
        nodes += [node for group in grown for node in group]
        tips = [node for group in grown for node in group[1:]] or tips[:0]
        if not tips:
            break
    return tree_of(*nodes)


@given(trees())
def test_no_two_messages_of_a_column_come_closer_than_a_row_and_siblings_keep_their_order(tree: Tree) -> None:
    at = rows(tree.nodes)
    columns: dict[tuple[int, str], list[float]] = {}
    for node in tree.nodes:
        columns.setdefault((node.turn, node.role), []).append(at[node.id])
        children = [at[child.id] for child in tree.children(node.id)]
        assert children == sorted(children)
        if children:
            assert at[node.id] == pytest.approx((children[0] + children[-1]) / 2)
    for column in columns.values():
        heights = sorted(column)
        assert all(below - above >= 1 - 1e-9 for above, below in pairwise(heights))
    assert min(at.values()) == 0


def full_tree(turns: int) -> Tree:
    nodes: list[Node] = []
    tips: list[str | None] = [None]
    for _ in range(turns):
        grown = [turn(tip) for tip in tips]
        nodes += [node for group in grown for node in group]
        tips = [node.id for group in grown for node in group[1:]]
    return tree_of(*nodes)


def test_a_large_tree_is_drawn_along_the_path_and_says_how_much_is_behind_each_end() -> None:
    tree = full_tree(4)
    unjudged = {node.id: Mark("unjudged") for node in tree.nodes}
    small = draw(tree, path_through(tree, None), None, unjudged, ServedLinks(), whole=15)
    assert len(small.nodes) == 4 + 4 * 2  # four user messages, the replies to each
    assert small.hidden == 45 - 12
    assert sorted(node.hidden for node in small.nodes if node.hidden) == [2, 6, 14]
    whole = draw(tree, path_through(tree, None), None, unjudged, ServedLinks(), whole=16)
    assert (len(whole.nodes), whole.hidden) == (45, 0)


def test_the_path_goes_through_the_selected_message_and_on_to_the_end_of_the_longest_branch() -> None:
    tree = tree_of(*turn(None), *turn("2"), *turn("2/2"), *turn("1"))
    assert [node.id for node in path_through(tree, None)] == ["u", "2", "2/u", "2/2", "2/2/u", "2/2/1"]
    assert [node.id for node in path_through(tree, "1/2")] == ["u", "1", "1/u", "1/2"]
    assert [node.id for node in path_through(tree, "2/u")][-1] == "2/2/1"


def test_a_prompt_counts_the_messages_that_only_repeat_the_conversation() -> None:
    prompt = [
        Message(role="system", content="Play Ada."),
        Message(role="assistant", content="Hello"),
        Message(role="user", content="Hi"),
        Message(role="user", content="Go on."),
    ]
    assert [tuple(part) for part in folded(prompt, ["Hello", "Hi"])] == [
        ("system", "Play Ada.", 0),
        ("", "", 2),
        ("user", "Go on.", 0),
    ]


# The pages ---------------------------------------------------------------------------------------------------------


def test_the_front_page_tells_what_the_run_is_and_how_far_it_is(night: Run, browse: Callable[..., Element]) -> None:
    page = browse("/")
    assert page.one("h1").text == "night"
    facts = page.one("p", class_="facts").words
    assert "1 of 3 trees done" in facts
    assert "1 failed" in facts
    assert "1 planned" in facts
    settings = {pair.one("dt").text: pair.one("dd").text for pair in page.one("section", class_="card").every("div")}
    assert settings == {"seed": "7", "candidate": "average = world:average", "parameters.judge.temperature": "0.0"}


def test_figures_of_the_embedded_world_are_shown_with_what_they_do_not_say(
    night: Run, browse: Callable[..., Element]
) -> None:
    assert "nothing about how good a language model is" in browse("/").one("header").words


def test_figures_of_other_models_come_without_that_caution(run: Run, browse: Callable[..., Element]) -> None:
    run.begin(user="openai:a", judge="openai:b")
    assert browse("/").one("header").every("p", class_="caution") == []


def test_the_list_has_a_line_for_every_tree_and_links_those_with_something_to_see(
    night: Run, browse: Callable[..., Element]
) -> None:
    lines = listed(browse("/"))
    assert [line.one("th").text for line in lines] == ["t0", "t1", "t2"]
    assert [len(line.every("a")) for line in lines] == [0, 1, 0]
    assert "the user said nothing usable in turn 1" in lines[0].words
    assert "I drink tea. I keep bees." in lines[1].words
    assert lines[1].every("td")[-1].words == "1 preferred, 1 tie, 1 missing"


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
    assert persona == "Persona ada, from file Profile I drink tea. I keep bees. Personality I write short messages."


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
    front = browse("/")
    line, other = listed(front)
    assert line.every("td")[-1].words == "mean score 3.50 (n 2)"
    assert line.one("path", class_="line").attributes["d"] == "M3 18h.01L11 3"
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
    assert listed(browse("/?judge=second+judge"))[1].every("td")[-1].words == "1 preferred, 0 ties"


def test_a_long_list_comes_in_pages_of_a_hundred(run: Run, browse: Callable[..., Element]) -> None:
    run.begin()
    run.plan(*(f"t{number}" for number in range(201)))
    run.end("t7", failed="no")
    assert len(browse("/").every("tr")) == 101
    assert browse("/?page=2").one("nav", class_="pages").words == "← before 101 to 200 of 201 next →"
    assert [line.one("th").text for line in listed(browse("/?page=3"))] == ["t200"]
    assert [line.one("th").text for line in listed(browse("/?status=failed"))] == ["t7"]


NAMES = ("a/b", "x?y#z", "100%2F", "tab\tand\nline\n", "..", "a//../b", "\u00e9 \u6f22 \U0001f600", "+&=;", "-" * 3000)


def test_a_tree_of_any_name_is_found_by_its_link(run: Run) -> None:
    run.begin("evaluation")
    for name in NAMES:
        run.plan(f"oracle/{name}", candidate="oracle", case=name)
        run.say(f"oracle/{name}", turn(None, 1))
    with listening(run.path) as address:
        links = [line.one("a").attributes["href"] for line in listed(fetched(address))]
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


# Hostile text ------------------------------------------------------------------------------------------------------

ATTACK = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><svg onload=alert(1)>"
    "</style></title></textarea><base href=//evil.example><meta http-equiv=refresh content=0;url=//evil.example>"
    "<a href=javascript:alert(1)>x</a><style>*{display:none}</style>&lt;b&gt;\"'{{7*7}}{%raw%}"
    "\x1b[31m\x00\u202eevil\u202c\u200b"
)
TAGS = """
    html head meta title link style body svg symbol circle rect path g use text main header footer nav section aside
    article figure figcaption div p span b bdi a h1 h2 h3 ul li dl dt dd table thead tbody tr th td details summary
""".split()  # noqa: SIM905  (50 quoted names would hide the list)


@pytest.fixture
def hostile(run: Run) -> Run:
    """A run with the attack in every field that can hold it."""
    name = ATTACK.replace("\x00", "")
    run.begin(
        "evaluation",
        [Persona(id=name, profile=(ATTACK, "fact"), personality=ATTACK, source=ATTACK)],
        user=ATTACK,
        candidate=[{"name": ATTACK, "model": ATTACK}],
        deep={ATTACK: ATTACK},
    )
    run.plan(name, f"{name}/planned", persona=name, candidate=name, case=name)
    asked = user(None, ATTACK + "\ud800").model_copy(update={"by": ATTACK})
    call = run.call(name, "u", ATTACK.replace("\x00", ""), [Message(role="system", content=ATTACK)], ATTACK)
    replies = [reply(asked, number, ATTACK, by=name, call=call) for number in (1, 2)]
    order = Presentation(first="1", second="2", replies=(ATTACK, ATTACK), value="A")
    verdict = Verdict(judge=name, a="1", b="2", orders=(order, order.model_copy(update={"said": None})))
    notes = [
        Annotation(node=node, name=kind, by=name, value={ATTACK: ATTACK})
        for node in ("u", "1")
        for kind in (name, "hint")
    ]
    run.say(name, [asked, *replies], [verdict], [Score(judge=name, node="1", replies=(ATTACK, ATTACK), value=3)], notes)
    run.end(name, failed=ATTACK)
    return run


def assert_inert(page: Element) -> None:
    """Only elements of ours, no handler, no address outside, nothing invisible."""
    elements = page.every()
    assert {element.tag for element in elements} <= set(TAGS)
    assert [name for element in elements for name in element.attributes if name.startswith("on")] == []
    assert [element for element in elements if "style" in element.attributes] == []
    addresses = [
        element.attributes[name] for element in elements for name in ("href", "src") if name in element.attributes
    ]
    assert all(re.match(r"/(?!/)|#|data:,$", address) for address in addresses)
    assert len(page.every("style")) == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\u200b\u202a-\u202e]", page.text)


def test_hostile_text_in_every_field_comes_out_as_text(hostile: Run, browse: Callable[..., Element]) -> None:
    front = browse("/")
    page = browse(listed(front)[0].one("a").attributes["href"])
    for view in (front, page):
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


def test_every_answer_forbids_scripts_and_allows_just_its_own_style_sheet(night: Run) -> None:
    client = TestClient(create_app(night.path))
    for url, status in (("/", 200), ("/tree/t1", 200), ("/tree/t9", 404), ("/elsewhere", 404)):
        answer = client.get(url)
        sheet = parsed(answer.text).one("style").text
        digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
        assert answer.status_code == status
        assert answer.headers["content-security-policy"] == (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_private_server_answers_only_under_its_own_names(night: Run) -> None:
    app = create_app(night.path, hosts=["127.0.0.1", "localhost"])
    assert TestClient(app, base_url="http://127.0.0.1:8321").get("/").status_code == 200
    assert TestClient(app, base_url="http://evil.example").get("/").status_code == 400


# One file ----------------------------------------------------------------------------------------------------------


def test_the_exported_file_holds_the_list_and_every_turn_of_every_tree_and_nothing_from_elsewhere(
    night: Run, tmp_path: Path
) -> None:
    night.say("t2", [*turn(None), *turn("1"), *turn("2")])
    assert export_html(night.path, tmp_path / "run.html") == 2
    html = (tmp_path / "run.html").read_text(encoding="utf-8")
    page = parsed(html)
    assert not re.search(r"https?://|//\w", html)
    assert [line.one("th").text for line in listed(page)] == [
        "t0", "t1", "t2",
    ]  # fmt: skip
    ids = [element.attributes["id"] for element in page.every() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    targets = {element.attributes["href"] for element in page.every() if "href" in element.attributes} - {"data:,"}
    assert targets <= {f"#{element_id}" for element_id in ids}
    first, second = page.every("section", class_="whole")
    assert card(first, "Green or black?").one("span", class_="badge").text == "chosen"
    assert [found.one("h3").words for found in second.every("section", class_="turn")] == [
        "Turn 1", "Turn 2", "Turn 2 after reply 2",
    ]  # fmt: skip
    assert "Content-Security-Policy" in html


def test_an_export_that_cannot_be_written_leaves_things_as_they_were(night: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="its folder must exist"):
        export_html(night.path, tmp_path / "no" / "run.html")
    with pytest.raises(ConfigError, match="is read by this command and would be overwritten"):
        export_html(night.path, night.path)
    with pytest.raises(ConfigError, match="does not exist"):
        export_html(tmp_path / "no.db", tmp_path / "run.html")
    assert sorted(path.name for path in tmp_path.iterdir() if "run.db" not in path.name) == []


# The real server and a real browser --------------------------------------------------------------------------------


@contextmanager
def served(path: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address at which `interalign view` shows the run, and its process."""
    command = [str(Path(sys.executable).with_name("interalign")), "view", str(path), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            address = re.search(r"http://\S+/", line)
            assert address is not None, line
            yield address[0], process
        finally:
            process.kill()


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


def opened(url: str, tmp_path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """What a real browser makes of a page: its elements on standard output, its complaints on standard error."""
    return subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--enable-logging=stderr", "--no-proxy-server", f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom",
            *options, url,
        ],
        capture_output=True,
        text=True,
        timeout=90,
    )  # fmt: skip


with_a_browser = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="there is no chromium here to open the pages with"
)


@with_a_browser
def test_a_real_browser_runs_nothing_and_shows_everything(hostile: Run, tmp_path: Path) -> None:
    with served(hostile.path, "--port", "0") as (address, _):
        link = listed(fetched(address))[0].one("a").attributes["href"]
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
