"""What is cut off a reply before a role reads it, and what is left alone."""

import json
from contextlib import suppress
from pathlib import Path

import loopback
import pytest
from calls_seen import calls_of, trees_of
from hypothesis import given
from hypothesis import strategies as st

import interalign as ia
from interalign.agents.reply_text import clean_reply
from interalign.errors import BadContentError

TRY_RYE = [
    "<think>The user likes bread.</think>\n\nTry rye.",
    "<thinking>bread</thinking>Try rye.",
    "<Think>bread</THINK >\nTry rye.",
    '<reasoning effort="high">bread</reasoning>\nTry rye.',
    "<thought>bread</thought>\nTry rye.",
    "<seed:think>bread</seed:think>Try rye.",
    "[THINK]bread[/THINK]Try rye.",
    "◁think▷bread◁/think▷Try rye.",
    "<|channel>thought\nbread<channel|>Try rye.",
    "<|START_THINKING|>bread<|END_THINKING|><|START_RESPONSE|>Try rye.<|END_RESPONSE|>",
    "<think>a</think>\n<think>b</think>\nTry rye.",
    "<think>a</think><think>b</think>Try rye.",
    "<think>a <think>b</think> c</think>Try rye.",
    "<think>\n\n</think>\n\nTry rye.",
    "<think/>Try rye.",
    "<think>The tag <think> is used.</think>Try rye.",
    "<think>Write `</think>` last.</think>Try rye.",
    "<think>```python\nx = 1\n</think>\nTry rye.",
    "<think>bread</think><answer>Try rye.</answer>",
    "The user likes bread.</think>\n\nTry rye.",
    "The user likes bread. </think> Try rye.",
    "bread\n[/THINK]\nTry rye.",
    "<think>a</think>b</think>Try rye.",
    "Try rye.\n<think>Was that enough?</think>",
    "<|channel|>analysis<|message|>bread<|end|><|start|>assistant<|channel|>final<|message|>Try rye.<|return|>",
    "<|start|>assistant<|channel|>final<|message|>Try rye.",
    "bread<|end|><|start|>assistant<|channel|>final<|message|>Try rye.",
    "analysisThe user likes bread.assistantfinalTry rye.",
    "Here is my thought process:\nbread\n\nHere is my response:\nTry rye.",
    "assistant\nTry rye.",
    "Assistant: Try rye.",
    "**Assistant:** Try rye.",
    "model\nTry rye.",
    "<|im_start|>assistant\nTry rye.<|im_end|>",
    "<|im_start|>assistant\n<think>bread</think>\nTry rye.<|im_end|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\nTry rye.<|eot_id|>",
    "<start_of_turn>model\nTry rye.<end_of_turn>",
    "<|assistant|>\nTry rye.",
    "<s>Try rye.</s>",
    "[/INST] Try rye.",
    "Try rye.<|im_end|>\n<|im_start|>user\nThanks!",
    "Try rye.</s><s>[INST] Thanks! [/INST] Gladly.",
    "Try rye.<|user|>\nThanks!",
    "Try rye.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nThanks!",
    "Try rye.<start_of_turn>user\nThanks!",
]
TRAILING = (
    "<|im_end|>", "<|eot_id|>", "</s>", "<end_of_turn>", "<|endoftext|>", "<|end|>", "<|return|>", "[/INST]",
    "<|eom_id|>", "<\uff5cend▁of▁sentence\uff5c>", "<|im_end|>\n<|endoftext|>\n", "<eos>", "<|end_of_text|>",
    "<|END_OF_TURN_TOKEN|>", "<|some_other_token|>",
)  # fmt: skip


@pytest.mark.parametrize("raw", [*TRY_RYE, *(f"Try rye.{token}" for token in TRAILING)])
def test_what_is_left_of_a_reply_is_its_message(raw: str) -> None:
    assert clean_reply(raw).strip() == "Try rye."


@pytest.mark.parametrize(
    "text",
    [
        "Try rye.",
        " \n Try rye. \t\n",
        "End a turn with `<|im_end|>`, then go on.",
        "```html\n<think>x</think>\n```\nThat is all.",
        "~~~\n<|im_end|>\n~~~\nThat is all.",
        "`</think>` ends it.",
        "The <think> tag opens it, and </think> closes it.",
        "Some models write <think> before they answer.",
        "Try <b>rye</b>, see [here](https://example.org).",
        "It costs <s>5</s> 4 euros.",
        "<s>5</s> 4 euros.",
        "Model\nA word with five letters.",
        "Model trains are fun.",
        "Assistants: two of them.",
        "User: that is you.",
        "[thinking] Hm.",
        "a < b and b < c",
        "Analysis of the final assistant: none.",
        "Here is my thought process: there is none.",
        "x |> f <| y",
        "Reasoning: rye is dark.\n\nTry rye.",
        "Try rye.\n<think>",
    ],
)
def test_a_reply_without_marks_or_that_speaks_of_them_stays_byte_for_byte(text: str) -> None:
    assert clean_reply(text) == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<[◁")))
def test_no_text_without_the_signs_of_a_mark_is_changed(text: str) -> None:
    text = f"So: {text}"
    assert clean_reply(text) is text


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("<think>The user likes bread and", "ends inside its reasoning"),
        ("[THINK]bread", "ends inside its reasoning"),
        ("◁think▷bread", "ends inside its reasoning"),
        ("<|channel>thought\nbread", "ends inside its reasoning"),
        ("<think>a</think><think>b", "ends inside its reasoning"),
        ("<|channel|>analysis<|message|>bread", "ends before its final channel"),
        ("<think>bread</think>", "nothing but reasoning"),
        ("<think>bread</think>\n \n", "nothing but reasoning"),
        ("bread</think>", "nothing but reasoning"),
        ("<think>bread</think><|im_end|>", "nothing but reasoning"),
    ],
)
def test_reasoning_without_a_message_is_bad_content_that_says_what_to_do(raw: str, why: str) -> None:
    with pytest.raises(BadContentError, match=f"{why}.*; raise max_tokens, or turn the model's thinking off"):
        clean_reply(raw)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("User: Hi.", "Hi."),
        ("**Human:** Hi.", "Hi."),
        ("user\nHi.", "Hi."),
        ("<|im_start|>user\nHi.<|im_end|>", "Hi."),
        ("assistant\nHi.", "Hi."),
        ("<think>I am a beekeeper.</think>\nUser: Hi.", "Hi."),
        ("Assistant: Hi.", "Assistant: Hi."),
    ],
)
def test_a_user_agent_may_call_itself_user_and_one_that_speaks_as_the_assistant_is_left_to_the_audit(
    raw: str, said: str
) -> None:
    assert clean_reply(raw, "user").strip() == said


@pytest.mark.parametrize("raw", ["<|im_start|>user\nThanks!", "<|im_end|>", "assistant\n"])
def test_nothing_is_left_of_a_reply_that_holds_no_message_of_its_own(raw: str) -> None:
    assert clean_reply(raw).strip() == ""


@pytest.mark.parametrize(
    "raw",
    ["<think>\n" * 100_000, "<s>" * 100_000, "[" * 300_000, "`" * 300_001, "x\n<think>\n" * 50_000, "`a" * 100_000],
)
def test_a_reply_that_repeats_itself_without_end_is_read_in_linear_time(raw: str) -> None:
    with suppress(BadContentError):
        assert len(clean_reply(raw)) <= len(raw)


def test_roles_and_exports_get_the_message_and_the_ledger_keeps_the_raw_text(tmp_path: Path) -> None:
    raw = "<think>The user likes bread.</think>\n\nTry rye.<|im_end|>"
    with loopback.serving(lambda body: loopback.completion(raw)) as server:
        runtime = ia.Runtime(base_url=server.url)
        ia.simulate(tmp_path / "run.db", trees=1, turns=2, candidate="openai:m", inducer="openai:i", runtime=runtime)
    (judged,) = trees_of(tmp_path / "run.db")
    assert {node.text for node in judged.tree.nodes if node.role == "assistant"} == {"Try rye."}
    assert {note.value for note in judged.annotations if note.name == "hint"} == {"Try rye."}
    calls = calls_of(tmp_path / "run.db")
    assert {call.reply for call in calls if call.role in ("candidate", "inducer")} == {raw}
    assert not any("<think>" in message.content for call in calls for message in call.messages)
    ia.export(tmp_path / "run.db", tmp_path / "out.jsonl", format="messages")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {message["content"] for row in rows for message in row["messages"][1::2]} == {"Try rye."}


def test_whatever_model_takes_the_seat_its_reply_is_cleaned_and_reasoning_alone_is_asked_again(cli) -> None:
    candidate = ("--inducer", "none", "--branch", "1", "--candidate", "scripted_roles:unfinished")
    assert cli("simulate", "run.db", "--trees", "1", "--turns", "1", *candidate).code == 0
    (judged,) = trees_of("run.db")
    assert judged.tree.node("1").text == "Try rye."
    assert [call.reply for call in calls_of("run.db", "candidate")] == [
        "<think>The user likes bread and",
        "<think>Bread.</think>",
        "<think>Bread.</think>\n\nTry rye.<|im_end|>",
    ]


def test_a_tree_whose_candidate_never_gets_past_its_reasoning_fails_with_what_to_do(tmp_path: Path) -> None:
    with loopback.serving(lambda body: loopback.completion("<think>The user likes bread and")) as server:
        runtime = ia.Runtime(base_url=server.url)
        summary = ia.simulate(tmp_path / "run.db", trees=1, turns=1, candidate="openai:m", runtime=runtime)
    assert "asked 3 times, last: the reply ends inside its reasoning" in summary.failed["t00000"]
    assert "raise max_tokens" in summary.failed["t00000"]
