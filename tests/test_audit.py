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
        ("I\u2019d be happy to help you with your tomatoes.", ["answers as the assistant"]),
        ("Feel free to ask me anything!", ["answers as the assistant"]),
        ("What can I do for you today?", ["answers as the assistant"]),
        ("I'm sorry to hear that.", ["answers as the assistant"]),
        ("Certainly! Here is a plan.", ["answers as the assistant"]),
        ("Try this:\n1. Rest.\n2. Drink.\n3. Sleep.", ["answers as the assistant"]),
        ("I'm sorry, but I can't assist with that.", ["refuses"]),
        ("I am unable to discuss this.", ["refuses"]),
        ("The user likes tea and wants to know more.", ["speaks of the user in the third person"]),
        ("User: I like tea.", ["speaks of the user in the third person"]),
        ("I really do like tea, and my sister and I drink it every day of the week", []),
        ("I can't help my sister, she lives too far away.", []),
        ("Sorry, I can't come on Tuesday. Thanks for the tip, I am glad to hear it.", []),
        ("I bought milk, eggs and flour. The person next door helps.", []),
        ("", []),
        ("The clerk said \"I'm sorry, but I can't assist with that\". And now?", []),
        ("My friend says \u201cyou should wait, let me know if you need any help\u201d.", []),
        ("Let me know if you need the whole error message.", []),
        ("Let me know if you would like more ideas!", ["answers as the assistant"]),
        ("I hope this helps. Please do not hesitate to reach out.", ["answers as the assistant"]),
        ("I remain at your disposal.", ["answers as the assistant"]),
        ("Here are some tips for you.", ["answers as the assistant"]),
        ("Welcome! What brings you here?", ["answers as the assistant"]),
        ("Welcome drinks are at six, what shall I bring?", []),
        ("I have:\n- my rice\n- two eggs I must use\n- the beans we like", []),
        ("I'm sorry, I cannot provide medical advice.", ["refuses"]),
        ("I apologise, but I'm not in a position to continue this.", ["refuses"]),
        ("As a large language model, I can't have a dog.", ["refuses"]),
        ("Sorry, I can't provide the receipt any more, it got wet.", []),
        ("I can't help it, I love cake.", []),
        ("The nurse nods and smiles.", ["speaks of the user in the third person"]),
        ("Sure, please share your details.", ["answers as the assistant"]),
        ("What do you need help with?", ["answers as the assistant"]),
        ("I am an assistant, just like you.", ["answers as the assistant"]),
        ("I'm just a digital assistant.", ["answers as the assistant"]),
        ("I am an assistant manager, and I am a dental assistant by training.", []),
        ("Please provide the recipe, you know what I need.", []),
        ("You're welcome! Yoga is good for you.", ["answers as the assistant"]),
        ("No further questions, cheerio.", ["ends the talk"]),
        ("That's everything, cheers.", ["ends the talk"]),
        ("That's everything I know about it. What now?", []),
    ],
)
def test_a_message_is_marked_by_its_words(text: str, marks: list[str]) -> None:
    assert list(audit_user_message(text, ["Hello there", "I like tea."])) == marks


def test_the_world_s_user_does_nothing_of_the_kind(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "run.db", trees=5, candidate="world:average")
    found = [note for judged in trees_of(tmp_path / "run.db") for note in judged.annotations if note.name == "audit"]
    assert [note for note in found if note.value != ["repeats itself"]] == []


ASKED = "My old bicycle has a flat tyre again and I need to be at work by eight."
ANSWER = "A flat tyre is quickly mended: take the wheel off, find the hole, and put a patch on it before you ride on."


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        (ASKED.replace("flat tyre again", "flat tyre once more"), []),
        (ASKED.upper(), ["repeats itself"]),
        (ASKED + " Help!", ["repeats itself"]),
        (ANSWER, ["copies the assistant"]),
        ("Ok: take the wheel off, find the hole, and put a patch on it.", ["copies the assistant"]),
        ("So I take the wheel off first?", []),
        ("A flat tyre.", []),
    ],
)
def test_near_repeats_and_copies_of_the_assistant_s_message_are_found(text: str, marks: list[str]) -> None:
    assert list(audit_user_message(text, [ASKED], [ANSWER])) == marks
