"""What the viewer's tests share: pages as elements, conversations made by hand, run files in the making, a browser."""

import asyncio
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.request import urlopen

import pytest
import uvicorn

from interalign.config import Parameters
from interalign.eval.view import create_app
from interalign.eval.view.marks import Mark, marks
from interalign.eval.view.page import Labelling
from interalign.eval.view.render import script
from interalign.ledger import Ledger
from interalign.personas import Persona
from interalign.records import Place, Reply, TreeRecord
from interalign.store import Store
from interalign.tree import Annotation, Message, Node, Presentation, Score, Tree, Verdict

ADA = Persona(id="ada", profile=("I drink tea.", "I keep bees."), personality="I write short messages.", source="file")
BOB = Persona(id="bob", profile=("I sail.",), personality="I write long messages.", source="file")


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
        if tag not in ("meta", "link", "br", "input"):
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


@contextmanager
def listening(path: Path, labelling: Labelling | None = None) -> Iterator[str]:
    """The address of a server of this process that shows the run."""
    app = create_app(path, labelling=labelling)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
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


ATTACK = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><svg onload=alert(1)>"
    "</style></title></textarea><base href=//evil.example><meta http-equiv=refresh content=0;url=//evil.example>"
    "<a href=javascript:alert(1)>x</a><style>*{display:none}</style>&lt;b&gt;\"'{{7*7}}{%raw%}"
    "\x1b[31m\x00\u202eevil\u202c\u200b"
)
TAGS = """
    html head meta title link style body svg symbol circle rect path g use text main header footer nav section aside
    article figure figcaption div p span b bdi a h1 h2 h3 ul li dl dt dd table thead tbody tr th td details summary
    form label input select option button ins del mark code
""".split()  # noqa: SIM905  (50 quoted names would hide the list)


def assert_inert(page: Element) -> None:
    """Only elements of ours, the one script of ours, no handler, no address outside, nothing invisible."""
    elements = page.every()
    assert {element.tag for element in elements} <= {*TAGS, "script"}
    assert [element.text for element in page.every("script")] in ([], [script()])
    assert [name for element in elements for name in element.attributes if name.startswith("on")] == []
    assert [element for element in elements if "style" in element.attributes] == []
    addresses = [
        element.attributes[name]
        for element in elements
        for name in ("href", "src", "action")
        if name in element.attributes
    ]
    assert all(re.match(r"/(?!/)|#|data:,$", address) for address in addresses)
    assert len(page.every("style")) == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\u200b\u202a-\u202e]", page.text)


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
