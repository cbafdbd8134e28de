import json

import pytest
from tiny import CHAT_TEMPLATE, tiny_model

from interalign.errors import ConfigError, DataError
from interalign.training.data import read_rows, tokenize
from interalign.training.weights import load_tokenizer
from interalign.tree import Message


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


GOOD_SFT = {"messages": [user("Hi."), assistant("Hello!")], "tree": "t0", "node": "1"}
GOOD_DPO = {"prompt": [user("Hi.")], "chosen": [assistant("Hello!")], "rejected": [assistant("No.")], "margin": 1.0}


def write(path, *rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_rows_come_with_their_line_numbers_and_blank_lines_are_skipped(tmp_path):
    path = tmp_path / "sft.jsonl"
    path.write_text(f"\n{json.dumps(GOOD_SFT)}\n\n")

    (row,) = read_rows(path, "sft")

    assert row.number == 2
    assert row.prompt == (Message(role="user", content="Hi."),)
    assert row.completions == (Message(role="assistant", content="Hello!"),)


def test_a_dpo_row_has_the_chosen_reply_first(tmp_path):
    (row,) = read_rows(write(tmp_path / "dpo.jsonl", GOOD_DPO), "dpo")

    assert [reply.content for reply in row.completions] == ["Hello!", "No."]


@pytest.mark.parametrize(
    ("method", "bad", "reason"),
    [
        ("sft", {**GOOD_SFT, "messages": [assistant("Hello!"), user("Hi.")]}, "is a user message"),
        ("sft", {**GOOD_SFT, "messages": [assistant("Hello!")]}, "messages: Tuple should have at least 2 items"),
        ("sft", {**GOOD_SFT, "messages": [user("Hi."), assistant(" \n")]}, "the reply to train on is empty"),
        ("sft", {**GOOD_SFT, "messages": [user("Hi."), {**assistant("a"), "name": "x"}]}, "messages.1.name: Extra"),
        ("sft", {"text": "Hi."}, "messages: Field required (expected a row of `--format sft`)"),
        ("sft", {**GOOD_SFT, "messages": [user("\ud83d"), assistant("a")]}, "half of a surrogate pair"),
        ("dpo", {**GOOD_DPO, "rejected": [assistant("")]}, "the reply to train on is empty"),
        ("dpo", {**GOOD_DPO, "rejected": [user("No.")]}, "is a user message"),
        ("dpo", {**GOOD_DPO, "rejected": [assistant("Hello! ")]}, "chosen and rejected are the same reply"),
        ("dpo", {**GOOD_DPO, "chosen": "Hello!"}, "chosen: Input should be a valid tuple"),
        ("dpo", {**GOOD_DPO, "chosen": [assistant("a"), assistant("b")]}, "chosen: Tuple should have at most 1 item"),
        ("dpo", {**GOOD_DPO, "prompt": []}, "prompt: Tuple should have at least 1 item"),
        ("dpo", ["Hi."], "row: Input should be"),
    ],
)
def test_a_row_that_cannot_be_learnt_is_refused_by_line_and_reason(tmp_path, method, bad, reason):
    good = {"sft": GOOD_SFT, "dpo": GOOD_DPO}[method]
    path = write(tmp_path / "rows.jsonl", good, bad)

    with pytest.raises(DataError) as refusal:
        read_rows(path, method)

    assert "rows.jsonl, line 2: " in str(refusal.value)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe"])
def test_a_line_that_is_no_json_or_no_utf8_is_refused_by_number(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(GOOD_SFT).encode() + b"\n" + line + b"\n")

    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: not JSON in UTF-8"):
        read_rows(path, "sft")


def test_an_empty_file_and_no_file_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no rows in it"):
        read_rows(write(tmp_path / "empty.jsonl"), "sft")
    with pytest.raises(ConfigError, match=r"no such file; write one with `interalign export RUN\.db --format dpo`"):
        read_rows(tmp_path / "gone.jsonl", "dpo")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    pytest.importorskip("trl")
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tokenizer(tiny):
    return load_tokenizer(str(tiny))


def tokens_of(tmp_path, tokenizer, method, row, max_length=None, stops=None):
    rows = read_rows(write(tmp_path / "rows.jsonl", row), method)
    return tokenize(rows, "rows.jsonl", tokenizer, {tokenizer.eos_token_id} if stops is None else stops, max_length)


@pytest.mark.train
def test_prompt_and_replies_are_what_the_chat_template_writes(tmp_path, tokenizer):
    (row,) = tokens_of(tmp_path, tokenizer, "dpo", GOOD_DPO)

    assert tokenizer.decode(row.prompt) == "<|user|>Hi.<|end|><|assistant|>"
    assert [tokenizer.decode(reply) for reply in row.replies] == ["Hello!<|end|>", "No.<|end|>"]
    assert row.length == len("<Hi.><") + len("Hello!>")  # one token a byte, one for each marker


@pytest.mark.train
def test_a_row_may_be_as_long_as_max_length_and_one_token_more_is_refused(tmp_path, tokenizer):
    assert len(tokens_of(tmp_path, tokenizer, "sft", GOOD_SFT, max_length=13)) == 1
    with pytest.raises(DataError, match=r"line 1: 6 tokens of prompt and 7 of reply are more than max_length 12"):
        tokens_of(tmp_path, tokenizer, "sft", GOOD_SFT, max_length=12)
    with pytest.raises(DataError, match="max_length 12"):  # the longer of the two replies counts
        tokens_of(tmp_path, tokenizer, "dpo", GOOD_DPO, max_length=12)


@pytest.mark.train
def test_a_template_that_writes_the_prompt_differently_once_the_reply_is_there_is_refused(tmp_path, tokenizer):
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|>(thinking){% endif %}")

    with pytest.raises(DataError, match="line 1: the chat template renders the conversation differently"):
        tokens_of(tmp_path, tokenizer, "sft", GOOD_SFT)


@pytest.mark.train
def test_a_template_without_an_end_of_turn_is_refused(tmp_path, tokenizer):
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<|end|>", "")

    with pytest.raises(DataError, match=r"line 1: .* would never learn to stop"):
        tokens_of(tmp_path, tokenizer, "sft", GOOD_SFT)


@pytest.mark.train
def test_a_template_that_refuses_the_conversation_is_quoted_with_the_line(tmp_path, tokenizer):
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"

    with pytest.raises(DataError, match=r"line 1: the chat template refuses the conversation \(roles must alternate\)"):
        tokens_of(tmp_path, tokenizer, "sft", GOOD_SFT)


@pytest.mark.train
def test_replies_that_are_the_same_tokens_are_refused(tmp_path, tokenizer):
    tokenizer.chat_template = CHAT_TEMPLATE.replace("message['content']", "message['content'] | lower")
    row = {**GOOD_DPO, "rejected": [assistant("HELLO!")]}

    with pytest.raises(DataError, match="line 1: chosen and rejected are the same tokens"):
        tokens_of(tmp_path, tokenizer, "dpo", row)


@pytest.mark.train
def test_a_reply_with_words_the_tokenizer_does_not_know_is_refused(tmp_path, tokenizer):
    tokenizer.add_special_tokens({"unk_token": "!"})  # from now on `!` stands for every unknown word

    with pytest.raises(DataError, match="line 1: the reply has words this tokenizer does not know"):
        tokens_of(tmp_path, tokenizer, "sft", GOOD_SFT)
