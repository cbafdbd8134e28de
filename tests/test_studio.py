"""The graphs of langgraph.json behind `langgraph dev`, over its HTTP interface, as LangGraph Studio uses them."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
Ask = Callable[..., Any]

pytestmark = pytest.mark.skipif(importlib.util.find_spec("langgraph_api") is None, reason="needs langgraph-cli[inmem]")


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """`langgraph dev` without analytics and tracing: `ask(path, body)` is what it answers to a request."""
    folder = tmp_path_factory.mktemp("studio")
    (folder / "langgraph.json").write_text(
        json.dumps(from_elsewhere(json.loads((ROOT / "langgraph.json").read_text())))
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["-m", "langgraph_cli", "dev", "--no-browser", "--no-reload", "--port", str(port)]
    with (folder / "log").open("w") as log:
        served = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env={**os.environ, "LANGGRAPH_CLI_NO_ANALYTICS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_it_answers(served, port, folder / "log")
            yield lambda path, body=None: asked(f"http://127.0.0.1:{port}{path}", body)
        finally:
            served.terminate()
            served.wait()
    assert "a test tried to reach" not in (folder / "log").read_text()


def from_elsewhere(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration for another folder, in which the server keeps its threads."""
    graphs = {name: str(ROOT / path) for name, path in config["graphs"].items()}
    return {**config, "graphs": graphs, "dependencies": [str(ROOT)]}


def wait_until_it_answers(served: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    while served.poll() is None:
        try:
            asked(f"http://127.0.0.1:{port}/ok")
            return
        except urllib.error.URLError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def asked(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


@pytest.fixture
def thread(ask: Ask) -> str:
    return f"/threads/{ask('/threads', {})['thread_id']}"


def said(state: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["type"], message["content"]) for message in state["messages"]]


def test_each_graph_says_what_goes_in_and_what_comes_out(ask: Ask) -> None:
    found = {
        one["graph_id"]: ask(f"/assistants/{one['assistant_id']}/schemas") for one in ask("/assistants/search", {})
    }
    fields = {
        (graph, kind): set(schemas[f"{kind}_schema"]["properties"])
        for graph, schemas in found.items()
        for kind in ("input", "output", "context")
    }
    assert fields["turn", "input"] == {"messages", "persona"}
    assert {"messages", "replies", "verdicts", "taken"} <= fields["turn", "output"]
    assert fields["tree", "input"] == {"persona"}
    assert {"conversation", "turn", "grown"} <= fields["tree", "output"]
    assert {"candidate", "policy", "turns"} <= fields["turn", "context"] & fields["tree", "context"]


def test_a_turn_runs_is_edited_and_the_next_one_goes_on_from_what_was_edited(ask: Ask, thread: str) -> None:
    first = ask(f"{thread}/runs/wait", {"assistant_id": "turn", "input": {}, "context": {"candidate": "world:oracle"}})
    assert [kind for kind, _ in said(first)] == ["human", "ai"]
    state = ask(f"{thread}/state")
    assert (state["next"], state["values"]["user"]["turn"], len(state["values"]["replies"])) == ([], 1, 2)
    reply = state["values"]["messages"][-1]
    ask(f"{thread}/state", {"values": {"messages": [{**reply, "content": "Do you like tea?"}]}})
    second = ask(f"{thread}/runs/wait", {"assistant_id": "turn", "input": {}})
    assert said(second)[:2] == [("human", first["user"]["text"]), ("ai", "Do you like tea?")]
    assert [kind for kind, _ in said(second)] == ["human", "ai", "human", "ai"]
    assert (second["parent"]["text"], second["user"]["turn"]) == ("Do you like tea?", 2)
    assert second["transcript"][1] == {"role": "assistant", "content": "Do you like tea?"}


def test_in_chat_the_message_that_is_typed_is_answered(ask: Ask, thread: str) -> None:
    for number, text in enumerate(("I like tea.", "Which one?"), start=1):
        typed = {"messages": [{"role": "user", "content": text}]}
        state = ask(f"{thread}/runs/wait", {"assistant_id": "turn", "input": typed})
        assert state["user"]["text"] == text
        assert len(state["messages"]) == 2 * number
        assert state["messages"][-1]["content"] == state["taken"]["text"]


def test_a_tree_grows_is_edited_and_grows_on(ask: Ask, thread: str) -> None:
    two = {"turns": 2, "policy": "full", "judging": "score"}
    grown = ask(f"{thread}/runs/wait", {"assistant_id": "tree", "input": {"persona": 3}, "context": two})
    assert [turn["user"]["id"] for _, turn in grown["grown"]] == ["u", "1/u", "2/u"]
    assert grown["conversation"]["persona"]["id"] == "train-0003"
    tip, turn = ask(f"{thread}/state")["values"]["grown"][-1]
    turn["replies"][0]["text"] = "Edited."
    ask(f"{thread}/state", {"values": {"grown": [[tip, turn]]}})
    on = ask(f"{thread}/runs/wait", {"assistant_id": "tree", "input": {}, "context": {**two, "turns": 3}})
    turns = {turn["user"]["id"]: tip["transcript"] for tip, turn in on["grown"]}
    assert list(turns) == ["u", "1/u", "2/u", "1/1/u", "1/2/u", "2/1/u", "2/2/u"]
    assert turns["2/1/u"][-1] == {"role": "assistant", "content": "Edited."}
