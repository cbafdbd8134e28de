"""The state machines of a run with what each node did, and the calls of a tree in time."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from view_pages import Element, parsed

import interalign as ia
from interalign.eval.view import create_app
from interalign.eval.view.graph_page import draw_graph, waterfall
from interalign.eval.view.links import ServedLinks
from interalign.graphs.drawing import steps
from interalign.records import CallRecord, Place, Reply
from interalign.store.tree_list import RoleTime


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ia.simulate(tmp_path / "run.db", trees=2, turns=2)
    return tmp_path / "run.db"


def page_of(path: Path, url: str, status: int = 200) -> Element:
    answer = TestClient(create_app(path)).get(url)
    assert answer.status_code == status, answer.text[:300]
    return parsed(answer.text)


def test_every_node_of_the_turn_graph_is_drawn_with_the_calls_of_its_role(path: Path) -> None:
    turn = page_of(path, "/graph").every("svg", class_="machine")[1]
    nodes = {node.every("text")[0].text: [text.text for text in node.every("text")[1:]] for node in turn.every("g")}
    assert list(nodes) == [name.strip("_") for name in steps("turn")[0]]
    with ia.open_run(path) as store:
        usage = store.usage()
    for name, role in (("user", "user"), ("inducer", "inducer"), ("candidates", "candidate"), ("judge", "judge")):
        (facts,) = nodes[name]
        assert facts.startswith(f"{usage[role].calls} calls, ")
        assert facts.endswith(f"{usage[role].prompt_tokens + usage[role].completion_tokens:,} tokens")
    assert nodes["annotate"] == []
    assert len(turn.every("path")) == len(steps("turn")[1])


def test_the_calls_of_a_tree_stand_in_the_order_of_time_and_lead_to_their_pages(path: Path) -> None:
    page = page_of(path, "/graph?tree=t00001")
    lines = page.one("table", class_="falls").every("tr")
    with ia.open_run(path) as store:
        calls = store.calls_of("t00001")
    assert len(lines) == len(calls) == 12
    assert lines[0].one("a").text == "user u"
    linked = {line.one("a").attributes["href"] for line in lines}
    assert linked == {f"/call/{call.key}/t00001" for call in calls}
    assert page_of(path, lines[0].one("a").attributes["href"]).one("h1").text == "A call of the user"


def test_a_tree_that_is_not_there_is_said_in_one_line(path: Path) -> None:
    said = page_of(path, "/graph?tree=t9", 404).one("p", class_="sorry").text
    assert said == "There is no tree 't9' in this run."


def call(began: float, seconds: float, error: str | None = None) -> CallRecord:
    reply = Reply(text="Hm.", model="m", prompt_tokens=10, completion_tokens=2)
    sent = datetime.fromtimestamp(began, UTC)
    return CallRecord(f"{began}", Place("t", "u", "user", 0), "m", "", (), reply, error, sent, seconds)


def test_bars_are_shares_of_the_time_from_the_first_request_to_the_last_reply() -> None:
    bars, seconds = waterfall([call(102, 2, "empty"), call(100, 1)], ServedLinks())
    assert seconds == 4
    assert [(bar.start, bar.length, bar.failed) for bar in bars] == [(0, 0.25, False), (0.5, 0.5, True)]
    assert bars[0].facts == "1.000 s, 12 tokens"
    assert waterfall([], ServedLinks()) == ((), 0.0)


def test_a_step_down_is_straight_and_one_back_is_a_curve() -> None:
    time = RoleTime("a", 4, 2.0, 1200, 1)
    graph = draw_graph("g", ("a", "b"), [("a", "b", False), ("b", "a", True)], {"a": time})
    assert [node.facts for node in graph.nodes] == ["4 calls, 0.5 s each, 1,200 tokens, 1 not usable", ""]
    assert [edge.path[0] + ("C" if "C" in edge.path else "V") for edge in graph.edges] == ["MV", "MC"]
    assert [edge.conditional for edge in graph.edges] == [False, True]
