"""What a row teaches under chat templates of many kinds: what follows the prompt of serving, up to a stop."""

import made_tokenizers as made
import pytest

from interalign.errors import DataError
from interalign.models.local.chat_template import ChatTemplate, install
from interalign.training.data import tokenize
from interalign.training.rows import TrainingRow
from interalign.tree import Message

pytest.importorskip("transformers")

HEAD = "<|im_start|>{{ m.role }}\n"
NO_THOUGHT = "<think>\n\n</think>\n\n"
LAST = "{% if loop.last and m.role == 'assistant' %}" + NO_THOUGHT + "{% endif %}"


def chatml(
    *, turn: str = HEAD + "{{ m.content }}<|im_end|>\n", prompt: str = "<|im_start|>assistant\n", start: str = ""
) -> str:
    return (
        start + "{% for m in messages %}" + turn + "{% endfor %}{% if add_generation_prompt %}" + prompt + "{% endif %}"
    )


PARSED = (
    "{% set text = m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' else m.content %}"
    "{% set before = m.content.split('</think>')[0] if '</think>' in m.content else '' %}"
    "{% set thought = before.split('<think>')[-1].strip('\n') %}"
)
NO_THINKING = "{% if enable_thinking is defined and enable_thinking is false %}"

KINDS = {
    # Reasoning is written into the last reply only, even where there is none.
    "last reply thinks": (
        chatml(turn=HEAD + LAST + "{{ m.content }}<|im_end|>\n"),
        {},
        ("<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n", NO_THOUGHT + "Tea?<|im_end|>"),
    ),
    # The same, and the switch puts the empty block into the generation prompt.
    "last reply thinks, switched off": (
        chatml(
            turn=HEAD + LAST + "{{ m.content }}<|im_end|>\n",
            prompt="<|im_start|>assistant\n" + NO_THINKING + NO_THOUGHT + "{% endif %}",
        ),
        {"enable_thinking": False},
        ("<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n" + NO_THOUGHT, "Tea?<|im_end|>"),
    ),
    # The generation prompt opens the reasoning, with a newline that merges with what a reply without any has.
    "prompt opens reasoning, which the reply closes": (
        chatml(turn=HEAD + LAST + "{{ m.content }}<|im_end|>\n", prompt="<|im_start|>assistant\n<think>\n"),
        {},
        ("<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n<think>\n", "\n</think>\n\nTea?<|im_end|>"),
    ),
    # The empty block stands in the generation prompt and nowhere else.
    "empty reasoning in the prompt only": (
        chatml(prompt="<|im_start|>assistant\n" + NO_THOUGHT),
        {},
        ("<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n" + NO_THOUGHT, "Tea?<|im_end|>"),
    ),
    "what follows the conversation is another text where nobody is to speak": (
        chatml(prompt="<|im_start|>assistant\n" + NO_THOUGHT)
        + "{% if not add_generation_prompt %}<|endoftext|><|endoftext|><|endoftext|>{% endif %}",
        {},
        ("<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n" + NO_THOUGHT, "Tea?<|im_end|>"),
    ),
    "end of reasoning in the prompt only": (
        chatml(prompt="<|im_start|>assistant\n</think>"),
        {},
        ("<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n</think>", "Tea?<|im_end|>"),
    ),
    # The marks of reasoning are those of another family.
    "empty reasoning in square brackets": (
        chatml(prompt="<|im_start|>assistant\n[THINK][/THINK]"),
        {},
        ("<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n[THINK][/THINK]", "Tea?<|im_end|>"),
    ),
    "a prefix before everything, and no end of turn but the next one's beginning": (
        "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        {},
        ("[gMASK]<sop><|user|>\nHi.<|assistant|>\n", "Tea?<|user|>"),
    ),
    "the same, and reasoning in the last reply only": (
        "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n" + LAST + "{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        {},
        ("[gMASK]<sop><|user|>\nHi.<|assistant|>\n", NO_THOUGHT + "Tea?<|user|>"),
    ),
    "an added token that is not special follows the end of turn": (
        chatml() + "{% if not add_generation_prompt %}<eot_id>{% endif %}",
        {},
        ("<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n", "Tea?<|im_end|>"),
    ),
    "fullwidth control tokens without newlines": (
        "<\uff5cbegin\uff5c>{% for m in messages %}{% if m.role == 'user' %}<\uff5cUser\uff5c>{{ m.content }}"
        "{% else %}<\uff5cAssistant\uff5c>{{ m.content.split('</think>')[-1] }}<\uff5cend\u2581of\u2581sentence\uff5c>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<\uff5cAssistant\uff5c>{% endif %}",
        {},
        (
            "<\uff5cbegin\uff5c><\uff5cUser\uff5c>Hi.<\uff5cAssistant\uff5c>",
            "Tea?<\uff5cend\u2581of\u2581sentence\uff5c>",
        ),
    ),
    "the same, the switch ends reasoning": (
        "{% for m in messages %}{% if m.role == 'user' %}<\uff5cUser\uff5c>{{ m.content }}"
        "{% else %}<\uff5cAssistant\uff5c></think>{{ m.content }}<\uff5cend\u2581of\u2581sentence\uff5c>{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}<\uff5cAssistant\uff5c>{{ '<think>' if thinking else '</think>' }}{% endif %}",
        {},
        ("<\uff5cUser\uff5c>Hi.<\uff5cAssistant\uff5c></think>", "Tea?<\uff5cend\u2581of\u2581sentence\uff5c>"),
    ),
    "no generation prompt at all": (
        chatml(prompt=""),
        {},
        ("<|im_start|>user\nHi.<|im_end|>\n", "<|im_start|>assistant\nTea?<|im_end|>"),
    ),
    "marks of turns that are text": (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}",
        {},
        ("[INST] Hi. [/INST]", " Tea?<|im_end|>"),
    ),
    "the end of text follows the end of turn": (
        chatml() + "{% if not add_generation_prompt %}<|endoftext|>{% endif %}",
        {},
        ("<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n", "Tea?<|im_end|>"),
    ),
}
SPECIAL = (
    "<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<\uff5cbegin\uff5c>", "<\uff5cUser\uff5c>",
    "<\uff5cAssistant\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
)  # fmt: skip
STOPS = ("<|im_end|>", "<|user|>", "<\uff5cend\u2581of\u2581sentence\uff5c>")


def tokenizer_with(template, kwargs=()):
    tokenizer = made.byte_level(template, special=SPECIAL, added=("<think>", "</think>", "<eot_id>"))
    install(tokenizer, None, dict(kwargs), "here")
    return tokenizer


def messages(*texts):
    return tuple(Message(role=("user", "assistant")[place % 2], content=text) for place, text in enumerate(texts))


def learnt(tokenizer, *texts, stops=STOPS):
    """Prompt and completion of a row made of these texts, the last one to be learnt; as ids."""
    *prompt, reply = messages(*texts)
    row = TrainingRow(1, tuple(prompt), (reply,))
    ((asked, (said,)),) = tokenize([row], "rows.jsonl", tokenizer, set(tokenizer.convert_tokens_to_ids(stops)), None)
    return asked, said


def served(tokenizer, *texts):
    return ChatTemplate(tokenizer).prompt(messages(*texts))


@pytest.mark.parametrize(("template", "kwargs", "parts"), KINDS.values(), ids=KINDS)
def test_a_row_teaches_what_follows_the_prompt_of_serving_up_to_a_stop(template, kwargs, parts):
    tokenizer = tokenizer_with(template, kwargs)

    asked, said = learnt(tokenizer, "Hi.", "Tea?")

    assert (tokenizer.decode(asked), tokenizer.decode(said)) == parts
    assert asked == served(tokenizer, "Hi.")
    # Nothing merges with the prompt, which serving has read already.
    assert said == tokenizer(parts[1], add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(("template", "kwargs", "parts"), KINDS.values(), ids=KINDS)
def test_of_a_later_turn_too(template, kwargs, parts):
    tokenizer = tokenizer_with(template, kwargs)

    asked, said = learnt(tokenizer, "Hi.", "Hello.", "So?", "Tea?")

    assert asked == served(tokenizer, "Hi.", "Hello.", "So?")
    assert tokenizer.decode(said) == parts[1]


def test_where_earlier_turns_change_with_the_reply_the_prompt_is_that_of_serving():
    # The last assistant message has an empty block: in the prompt an earlier reply is the last one.
    template = chatml(
        turn="{% set last = m.role == 'assistant' and loop.index0 >= messages | length - 2 %}"
        + HEAD + "{% if last %}" + NO_THOUGHT + "{% endif %}{{ m.content }}<|im_end|>\n"
    )  # fmt: skip
    tokenizer = tokenizer_with(template)

    asked, said = learnt(tokenizer, "Hi.", "Hello.", "So?", "Tea?")

    assert asked == served(tokenizer, "Hi.", "Hello.", "So?")
    assert NO_THOUGHT + "Hello." in tokenizer.decode(asked)
    assert tokenizer.decode(said) == NO_THOUGHT + "Tea?<|im_end|>"


def test_reasoning_of_earlier_turns_is_left_out_as_in_serving_and_that_of_the_last_reply_is_learnt():
    turn = (
        PARSED
        + HEAD
        + "{% if loop.last and thought %}<think>\n{{ thought }}\n</think>\n\n{% endif %}{{ text }}<|im_end|>\n"
    )
    tokenizer = tokenizer_with(chatml(turn=turn))

    asked, said = learnt(tokenizer, "Hi.", "<think>\nhm\n</think>\n\nHello.", "So?", "<think>\nwell\n</think>\n\nTea?")

    assert asked == served(tokenizer, "Hi.", "Hello.", "So?")
    assert tokenizer.decode(said) == "<think>\nwell\n</think>\n\nTea?<|im_end|>"
    assert said == tokenizer("<think>\nwell\n</think>\n\nTea?<|im_end|>", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "reply", ["a<|im_end|>b", "<|im_end|>", "a<|endoftext|>", "a <|im_start|>assistant\nb", "<|user|>a"]
)
@pytest.mark.parametrize("kind", [kind for kind, (template, _, _) in KINDS.items() if "split" not in template])
def test_control_tokens_in_a_reply_are_text_and_only_the_templates_own_ends_it(kind, reply):
    template, kwargs, _ = KINDS[kind]
    tokenizer = tokenizer_with(template, kwargs)

    asked, said = learnt(tokenizer, f"Hi{reply}", reply)

    stops = set(tokenizer.convert_tokens_to_ids(STOPS))
    assert [token for token in said if token in stops] == said[-1:]
    assert reply in tokenizer.decode(said)
    assert asked == served(tokenizer, f"Hi{reply}")


def test_a_reply_ended_by_the_next_turn_may_be_what_a_next_turn_could_say():
    template, kwargs, _ = KINDS["a prefix before everything, and no end of turn but the next one's beginning"]
    tokenizer = tokenizer_with(template, kwargs)

    for reply in ("Thank you.", "you.", "."):
        assert tokenizer.decode(learnt(tokenizer, "Hi.", reply)[1]) == f"{reply}<|user|>"


def test_a_reply_that_begins_with_a_newline_is_learnt_behind_the_prompts_own_newline():
    tokenizer = tokenizer_with(chatml())
    newline, two = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("\n", "\n\n"))
    assert len(newline) == len(two) == 1  # the tokenizer would merge them

    asked, said = learnt(tokenizer, "Hi.", "\nTea?")

    assert asked[-1:] == newline
    assert said[:1] == newline


def test_sentencepiece_replies_are_learnt_as_they_follow_the_prompt():
    for prepend in ("first", "never"):
        tokenizer = made.sentencepiece_bpe(prepend=prepend)
        asked, said = learnt(tokenizer, "Hi", "tea", stops=["<|im_end|>"])
        whole = tokenizer.apply_chat_template(
            [message.model_dump() for message in messages("Hi", "tea")], return_dict=False
        )
        assert [*asked, *said] == whole[: len(asked) + len(said)]


ASKS = "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}"


def test_a_template_that_leaves_a_part_of_the_reply_out_is_refused_and_not_learnt_without_it():
    tokenizer = tokenizer_with(chatml(turn=HEAD + "{{ m.content.split('</think>')[-1] }}<|im_end|>\n"))

    assert tokenizer.decode(learnt(tokenizer, "Hi.", " Tea?\n")[1]) == " Tea?\n<|im_end|>"
    with pytest.raises(DataError, match="line 1: the chat template leaves a part of the reply out"):
        learnt(tokenizer, "Hi.", "<think>hm</think>Tea?")


OPEN = "the generation prompt '<|im_start|>assistant\\n<think>\\n' is not what it writes before a reply"


@pytest.mark.parametrize(
    ("template", "advice"),
    [
        # Reasoning is opened by the prompt and left out of replies: nothing says how it would end.
        (chatml(prompt="<|im_start|>assistant\n<think>\n"), f"{OPEN}; give a template whose generation prompt is"),
        (
            chatml(prompt="<|im_start|>assistant\n" + ASKS),
            f"{OPEN}; set chat_template_kwargs: {{enable_thinking: false}}",
        ),
        (
            chatml(prompt="<|im_start|>assistant\n{% if not no_reasoning %}<think>\n{% endif %}"),
            f"{OPEN}; set chat_template_kwargs: {{no_reasoning: true}}",
        ),
        # Reasoning ends, and then something is said that no reply begins with.
        (chatml(prompt="<|im_start|>assistant\n<think></think>So: "), "<think></think>So: ' is not what it writes"),
        (chatml(prompt="<|im_start|>model\n"), "the generation prompt '<|im_start|>model\\n' is not what"),
    ],
)
def test_a_template_that_does_not_tell_what_follows_its_prompt_is_refused_with_what_helps(template, advice):
    with pytest.raises(DataError) as refusal:
        learnt(tokenizer_with(template), "Hi.", "Tea?")

    assert "rows.jsonl, line 1: the chat template renders the conversation differently" in str(refusal.value)
    assert advice in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_advice_of_a_refusal_helps():
    tokenizer = tokenizer_with(chatml(prompt="<|im_start|>assistant\n" + ASKS), {"enable_thinking": False})

    assert tokenizer.decode(learnt(tokenizer, "Hi.", "Tea?")[1]) == "Tea?<|im_end|>"


def test_an_end_of_turn_at_which_the_model_does_not_stop_is_refused_with_its_id():
    tokenizer = tokenizer_with(chatml())
    number = tokenizer.convert_tokens_to_ids("<|im_end|>")

    with pytest.raises(DataError) as refusal:
        learnt(tokenizer, "Hi.", "Tea?", stops=["<|endoftext|>"])

    assert "ends the reply with '<|im_end|>', and the model stops at '<|endoftext|>'" in str(refusal.value)
    assert f"add {number} to eos_token_id in the model's generation_config.json" in str(refusal.value)


def test_a_reply_without_any_end_is_refused_with_the_tokens_that_could_end_it():
    tokenizer = tokenizer_with("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")

    with pytest.raises(DataError, match=r"with none of the tokens the model stops at, .* \(chat_template: FILE\)"):
        learnt(tokenizer, "Hi.", "Tea?")


def test_a_reply_with_a_text_at_which_the_model_stops_is_refused_and_not_cut():
    tokenizer = tokenizer_with(chatml())

    with pytest.raises(DataError, match=r"the reply goes on after '\?', at which the model stops"):
        learnt(tokenizer, "Hi.", "Tea? Or not.", stops=["<|im_end|>", "?"])
