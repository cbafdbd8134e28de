"""The simulator audit: what a user agent should not do is noted, and nothing is dropped for it."""

from pathlib import Path
from typing import Any

import fault_server
import pytest
from calls_seen import trees_of

import interalign as ia
from interalign import api
from interalign.agents.audit import audit_user_message

SAID = ["I like tea.", "I like  TEA.", "As an AI, I cannot drink tea. How can I help you?", "Thanks, goodbye!"]


def test_what_a_user_agent_should_not_do_is_kept_annotated_and_counted(tmp_path: Path) -> None:
    def user(body: dict[str, Any]) -> fault_server.Step:
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        return {"message": {"content": SAID[turn]}}

    with fault_server.serving(user) as server:
        runtime = ia.Runtime(base_url=server.url)
        settings = {"user": "openai:u", "judge": "world:judge", "turns": 4, "branch": 1}
        assert ia.simulate(tmp_path / "run.db", trees=1, runtime=runtime, **settings).done == 1
    (judged,) = trees_of(tmp_path / "run.db")
    assert [node.text for node in judged.tree.nodes if node.role == "user"] == SAID
    audit = {note.node.count("/") + 1: note.value for note in judged.annotations if note.name == "audit"}
    assert list(audit.values()) == [["repeats itself"], ["answers as the assistant"], ["ends the talk"]]
    simulator = api.report(tmp_path / "run.db").simulator
    assert (simulator.repeated, simulator.ended, simulator.as_assistant) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("Bye!", ["ends the talk"]),
        ("That's all for today, thank you.", ["ends the talk"]),
        ("Have a great evening", ["ends the talk"]),
        ("[END OF CONVERSATION]", ["ends the talk"]),
        ("Assistant: Sure, here is a recipe.", ["answers as the assistant"]),
        ("I'm here to help! Let me know if you have any questions.", ["answers as the assistant"]),
        ("hello  there", ["repeats itself"]),
        ("As an assistant I say goodbye.", ["ends the talk", "answers as the assistant"]),
        ("I will drive by the end of the street.", []),
        ("My assistant cannot help me. That is all it takes?", []),
        ("Passers-by stop. As an airline pilot I know how you can help.", []),
        ("", []),
    ],
)
def test_a_message_is_marked_by_its_words(text: str, marks: list[str]) -> None:
    assert list(audit_user_message(text, ["Hello there", "I like tea."])) == marks


def test_the_world_s_user_does_nothing_of_the_kind(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "run.db", trees=5, candidate="world:average")
    found = [note for judged in trees_of(tmp_path / "run.db") for note in judged.annotations if note.name == "audit"]
    assert [note for note in found if note.value != ["repeats itself"]] == []
