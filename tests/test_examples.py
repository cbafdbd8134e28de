"""The example plug-in and the plug-in page do what they say."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from calls_seen import calls_of, trees_of
from tiny import tiny_model
from view_pages import fetched, served

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "plugin"
PAGE = (ROOT / "docs" / "plug-in.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package, installed by pip from a copy, without any network."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    quiet = ["--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    words = [sys.executable, "-m", "pip", "install", *quiet, *offline, "--target", "site", "./source"]
    subprocess.run(words, cwd=folder, check=True, timeout=120)
    return folder / "site"


@pytest.fixture
def installed(site: Path, command):
    """The installed `interalign` with the example package beside it."""
    path = os.pathsep.join([str(site), os.environ["PYTHONPATH"]])
    return lambda *words: command(*words, env={"PYTHONPATH": path})


def test_the_example_roles_are_listed_and_checked_by_their_names(installed) -> None:
    listed = installed("roles", "list").out.splitlines()
    assert "profile-words\tplug-in interalign_example_roles.judge:ProfileWords" in listed
    assert "recalling-agent\tplug-in interalign_example_roles.agent:agent" in listed
    assert "reply-length\tplug-in interalign_example_roles.hook:reply_length" in listed
    assert "longest\tbranching policy, plug-in interalign_example_roles.policy:longest" in listed
    assert "alpaca\texport format, plug-in interalign_example_roles.alpaca:FORMAT" in listed
    assert "cards\tpersona format, plug-in interalign_example_roles.cards:FORMAT" in listed
    assert "tickets\tconversation format, plug-in interalign_example_roles.tickets:FORMAT" in listed
    assert "words\tviewer page, plug-in interalign_example_roles.words_page:PAGE" in listed
    assert "trees\tviewer page, built in" in listed
    assert "chain\tmodel provider, plug-in interalign_example_roles.provider:provider" in listed
    assert "openings\ttraining method, plug-in interalign_example_roles.openings:METHOD" in listed
    judge = installed("roles", "check", "profile-words")
    assert judge.out == "profile-words: ProfileWords with compare and score; can sit as judge\n"
    agent = installed("roles", "check", "recalling-agent")
    assert agent.out.endswith("CompiledStateGraph; can sit in every seat: user, inducer, candidate, judge\n")


@pytest.mark.slow
def test_the_example_roles_take_their_seats_in_a_simulation(installed, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "run.yaml", tmp_path)
    ended = installed("simulate", "run.db", "--config", "run.yaml")
    assert (ended.code, ended.out) == (0, "")
    # A turn: user, inducer, two candidates, one comparison in both orders, one hook.
    assert ended.err == (
        "4 of 4 trees done in run.db; 112 calls made, 0 answered from the ledger; `interalign view run.db` shows them\n"
    )
    trees = trees_of(tmp_path / "run.db")
    assert len(trees) == 4
    for judged in trees:
        replies = [node for node in judged.tree.nodes if node.role == "assistant"]
        assert [reply.label for reply in replies] == ["recalling-agent+hint", "average"] * 4
        agents = [reply.text for reply in replies if reply.hinted]
        assert all(re.match(r"Since you told me|I remember|You said|Tell me a little", text) for text in agents)
        assert judged.judges() == ("profile-words",)
        assert len(judged.verdicts) == 4
        words = {note.node: note.value for note in judged.annotations if note.name == "words"}
        assert words == {reply.id: len(reply.text.split()) for reply in replies}
        assert {note.by for note in judged.annotations if note.name == "words"} == {"reply-length"}
    check_judge(trees, tmp_path)
    assert installed("export", "run.db", "--format", "dpo", "--out", "dpo.jsonl").code == 0
    assert (tmp_path / "dpo.jsonl").read_text().count("\n") > 0
    again = installed("simulate", "run.db", "--config", "run.yaml")
    assert "0 calls made" in again.err


@pytest.mark.slow
def test_the_example_policy_and_format_are_used_by_their_names(installed, tmp_path: Path) -> None:
    ended = installed("simulate", "run.db", "--trees", "8", "--turns", "3", "--policy", "longest")
    assert ended.code == 0, ended.err
    for judged in trees_of(tmp_path / "run.db"):
        taken = {node.parent.removesuffix("/u") for node in judged.tree.nodes if node.role == "user" and node.parent}
        for asked in judged.tree.turns()[:2]:
            longest = max(judged.tree.children(asked.id), key=lambda reply: len(reply.text))
            assert longest.id in taken
    assert installed("export", "run.db", "--format", "alpaca", "--out", "rows.jsonl").code == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert rows
    assert all(row.keys() == {"instruction", "input", "output"} and row["output"] for row in rows)


def test_the_example_persona_format_is_found_by_its_rows(installed, tmp_path: Path) -> None:
    card = {
        "name": "harbour",
        "about": "She repairs boats. She sings in a choir.",
        "manner": "Short and dry.",
        "age": 61,
    }
    (tmp_path / "cards.jsonl").write_text(json.dumps(card) + "\n")
    ended = installed("personas", "import", "cards.jsonl", "--out", "personas.jsonl")
    assert ended.code == 0, ended.err
    (persona,) = (json.loads(line) for line in (tmp_path / "personas.jsonl").read_text().splitlines())
    assert persona["profile"] == ["She repairs boats.", "She sings in a choir."]
    assert (persona["personality"], persona["meta"]) == ("Short and dry.", {"age": 61})


def test_the_example_format_of_tickets_is_found_and_imported(installed, tmp_path: Path) -> None:
    ticket = {"ticket": 17, "agent": "desk", "thread": ["It leaks.", "Where?"], "open": True}
    (tmp_path / "tickets.jsonl").write_text(json.dumps(ticket) + "\n")
    ended = installed("import", "tickets.jsonl", "run.db")
    assert (ended.code, ended.err) == (
        0,
        "run.db: 1 conversation of 1 row imported into 1 tree (read as tickets)\n",
    )
    (judged,) = trees_of(tmp_path / "run.db")
    assert [(node.id, node.by, node.text) for node in judged.tree.nodes] == [
        ("u", "user", "It leaks."),
        ("1", "desk", "Where?"),
    ]
    assert judged.tree.id == "17"


def test_the_example_page_is_in_the_menu_of_the_viewer_and_counts_words(
    installed, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed("simulate", "run.db", "--trees", "2", "--turns", "2").code == 0
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ["PYTHONPATH"]]))
    with served(tmp_path / "run.db", "--port", "0") as (address, _):
        menu = fetched(address).one("nav", class_="menu")
        assert [link.attributes["href"] for link in menu.every("a") if link.text == "Words"] == ["/words"]
        lines = [[cell.text for cell in line.inside] for line in fetched(f"{address}words").one("table").every("tr")]
    counted: dict[str, list[int]] = {}
    for judged in trees_of(tmp_path / "run.db"):
        for node in judged.tree.nodes:
            counted.setdefault(node.label, []).append(len(node.text.split()))
    assert lines == [
        ["Speaker", "Messages", "Words"],
        *([speaker, f"{len(words):,}", f"{sum(words):,}"] for speaker, words in counted.items()),
    ]


@pytest.mark.train
@pytest.mark.slow
def test_the_example_training_method_trains_under_its_own_name(installed, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    tiny_model(tmp_path / "base")
    talk = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello, how have you been lately?"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    (tmp_path / "train.yaml").write_text("max_steps: 1\nuse_cpu: true\n")
    words = ("--model", "base", "--data", "rows.jsonl", "--config", "train.yaml")
    ended = installed("train", "openings", *words, "--out", "out")
    assert ended.code == 0, ended.err
    assert "openings on 1 rows, 1 steps" in ended.err
    assert "- Method: SFT on the openings of replies, all weights" in (tmp_path / "out" / "README.md").read_text()
    refused = installed("train", "openngs", *words, "--out", "other")
    assert refused.code == 2
    assert "'openngs' is none of sft, dpo, kto, rm, grpo, openings" in refused.err


def test_the_example_provider_sits_beside_another_judge_in_a_panel(installed, tmp_path: Path) -> None:
    words = ("simulate", "run.db", "--trees", "2", "--turns", "2", "--candidate", "chain:2")
    ended = installed(*words, "--judge", "profile-words", "--judge", "world:judge")
    assert ended.code == 0, ended.err
    for judged in trees_of(tmp_path / "run.db"):
        assert judged.judges() == ("profile-words", "world:judge", "panel")
        said = [node for node in judged.tree.nodes if node.role == "assistant"]
        assert {node.by for node in said} == {"2"}
    for call in calls_of(tmp_path / "run.db", "candidate"):
        heard = {word for message in call.messages for word in message.content.split()}
        assert call.reply == "Well." or set(call.reply.split()) <= heard
    refused = installed("simulate", "other.db", "--candidate", "chain:long")
    assert refused.code == 2
    assert "chain:long: expected the order of the chain, such as chain:2" in refused.err
    assert not (tmp_path / "other.db").exists()


def check_judge(trees, folder: Path) -> None:
    """The stored verdicts are the rule's own, worked out here from the stored texts."""
    import interalign as ia

    with ia.open_run(folder / "run.db") as run:
        personas = run.personas()
    words = lambda text: {word for word in re.findall(r"\w+", text.lower()) if len(word) >= 4}  # noqa: E731
    for judged in trees:
        profile = words(" ".join(personas[judged.tree.persona].profile))
        for verdict in judged.verdicts:
            a, b = (len(profile & words(judged.tree.node(node).text)) for node in (verdict.a, verdict.b))
            assert verdict.outcome == ("a" if a > b else "b" if b > a else "tie")
            assert verdict.orders[0].replies == (f"A takes up {a} words of the profile, B {b}.",)


def test_everything_on_the_plug_in_page_works_as_written(tmp_path: Path, cli, monkeypatch) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "my_roles.py").write_text("\n".join(text for kind, text in blocks if kind == "python"))
    (tmp_path / "run.yaml").write_text("".join(text for kind, text in blocks if kind == "yaml"))
    monkeypatch.syspath_prepend(tmp_path)
    lines = [line for kind, text in blocks if kind == "sh" for line in text.splitlines()]
    for line in lines:
        program, *words = line.split()
        assert program == "interalign"
        ended = cli(*words)
        assert ended.code == 0, ended.err
    first, agent, hooked = (trees_of(tmp_path / f"{name}.db") for name in ("run", "agent", "hooked"))
    assert all(judged.judges() == ("my_roles:Brevity",) for judged in first)
    assert all(leaf.text.startswith("Tell me more about ") for judged in first for leaf in judged.tree.leaves())
    said = [node.text for judged in agent for node in judged.tree.nodes if node.hinted]
    assert len(said) == 12
    assert all(text.startswith("You once said: ") for text in said)
    questions = [note for judged in hooked for note in judged.annotations if note.name == "questions"]
    assert len(questions) == 24
    assert {call.role for call in calls_of(tmp_path / "hooked.db")} >= {"after_judge"}


class _Parrot(BaseHTTPRequestHandler):
    """A server that says back what was said last, in capital letters; after five answers it fails."""

    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        body = json.dumps({"text": self.asked[-1]["messages"][-1]["content"].upper()}).encode()
        self.send_response(200 if len(self.asked) != 6 else 500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def test_the_role_behind_http_of_the_plug_in_page_asks_its_server(tmp_path: Path, forks) -> None:
    source = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "my_roles.py").write_text("\n".join(source))
    _Parrot.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Parrot) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        words = ("simulate", "run.db", "--trees", "2", "--turns", "3", "--candidate", "my_roles:remote")
        env = {"AGENT_URL": f"http://127.0.0.1:{server.server_port}/reply"}
        first, again = (forks.run(tmp_path, *words, env=env) for _ in range(2))
        server.shutdown()
    assert first.code == 1
    assert "candidate 'my_roles:remote' raised ClientResponseError: 500" in first.err
    assert (tmp_path / "my_roles.py").name in first.err.partition("500")[2]
    assert again.code == 0, again.err
    trees = trees_of(tmp_path / "run.db")
    replies = [(judged.tree, node) for judged in trees for node in judged.tree.nodes if node.role == "assistant"]
    assert len(replies) == 12
    assert all(node.text == tree.node(node.parent).text.upper() for tree, node in replies)
    assert len(_Parrot.asked) == 13  # each reply once, and the one that failed


def test_the_plug_in_page_names_every_point_and_every_shape_there_is() -> None:
    from typing import get_args

    import interalign as ia
    from interalign.agents.registry import GROUP
    from interalign.config import HookPoint

    for point in get_args(HookPoint):
        assert f"`{point}`" in PAGE
    for name in ("UserAsk", "InducerAsk", "CandidateAsk", "Comparison", "Scoring", "HookView", "Said"):
        assert f"`{name}" in PAGE
        assert name in ia.__all__
    assert GROUP in PAGE
