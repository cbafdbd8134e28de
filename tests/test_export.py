import json
import random
from pathlib import Path

import pytest
from judged_trees import one_turn, prefers, reply, said, score, seats, ties, tree, user

from interalign import registries
from interalign.errors import ConfigError
from interalign.training.export import rows as export_rows
from interalign.training.export import write_jsonl
from interalign.tree import Annotation, JudgedTree, Node, Tree

FORMATS = tuple(registries.FORMATS.built_in)


def rows(judged_trees, fmt, mode="best-worst"):
    """Rows of trees whose persona is known to the formats that ask for it."""
    return export_rows(judged_trees, fmt, mode, seats=seats())


def two_turns() -> JudgedTree:
    """Turn 1 prefers `1`, the conversation goes on with `2`, turn 2 prefers `2/1`."""
    grown = tree(
        user("u", "Hi."),
        reply("1", "Hello!", parent="u", hinted=True),
        reply("2", "Yes?", parent="u"),
        user("2u", "I like tea.", parent="2", turn=2),
        reply("2/1", "Green tea?", parent="2u", turn=2),
        reply("2/2", "Coffee?", parent="2u", turn=2),
    )
    return said(grown, prefers("1", "2"), prefers("2/1", "2/2"))


def test_an_sft_row_is_the_path_to_a_chosen_reply_and_each_chosen_reply_has_one():
    assert list(rows([two_turns()], "sft")) == [
        {
            "messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello!"}],
            "tree": "t0",
            "node": "1",
        },
        {
            "messages": [
                {"role": "user", "content": "Hi."},
                {"role": "assistant", "content": "Yes?"},
                {"role": "user", "content": "I like tea."},
                {"role": "assistant", "content": "Green tea?"},
            ],
            "tree": "t0",
            "node": "2/1",
        },
    ]


def test_a_dpo_row_holds_the_whole_replies_and_where_they_come_from():
    assert list(rows([two_turns()], "dpo"))[1] == {
        "prompt": [
            {"role": "user", "content": "Hi."},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "I like tea."},
        ],
        "chosen": [{"role": "assistant", "content": "Green tea?"}],
        "rejected": [{"role": "assistant", "content": "Coffee?"}],
        "tree": "t0",
        "node": "2u",
        "turn": 2,
        "persona": "p0",
        "margin": 1.0,
    }


def test_kto_labels_the_best_reply_true_and_the_worst_false():
    judged = said(one_turn("a", "b", "c"), score("1", 2), score("2", 5), score("3", 3))

    assert [(row["completion"][0]["content"], row["label"]) for row in rows([judged], "kto")] == [
        ("b", True),
        ("a", False),
    ]
    assert next(rows([judged], "kto")) == {
        "prompt": [{"role": "user", "content": "What shall I cook?"}],
        "completion": [{"role": "assistant", "content": "b"}],
        "label": True,
        "tree": "t0",
        "node": "2",
        "turn": 1,
    }


def test_kto_of_all_pairs_leaves_out_a_reply_that_is_better_than_one_and_worse_than_another():
    judged = said(one_turn("a", "b", "c"), score("1", 2), score("2", 5), score("3", 3))

    assert [(row["node"], row["label"]) for row in rows([judged], "kto", "all")] == [("2", True), ("1", False)]


def test_an_rm_row_is_two_whole_conversations_and_no_margin_for_trl_to_put_into_its_loss():
    row = next(rows([two_turns()], "rm"))

    assert row == {
        "chosen": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello!"}],
        "rejected": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes?"}],
        "tree": "t0",
        "node": "u",
        "turn": 1,
    }


def test_a_listwise_row_keeps_every_judged_reply_with_its_value_ties_too():
    scored = said(one_turn("a", "b", "c"), score("1", 2), score("2", None), score("3", 2))
    compared = said(one_turn("a", "b"), ties("1", "2"))

    (row,) = rows([scored], "listwise")
    assert row == {
        "prompt": [{"role": "user", "content": "What shall I cook?"}],
        "completions": [[{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "c"}]],
        "scores": [2.0, 2.0],
        "tree": "t0",
        "node": "u",
        "turn": 1,
    }
    assert [row["scores"] for row in rows([compared], "listwise")] == [[0.0, 0.0]]


def test_messages_rows_are_the_conversations_down_to_every_leaf_judged_or_not():
    assert [(row["node"], len(row["messages"])) for row in rows([two_turns()], "messages")] == [
        ("1", 2),
        ("2/1", 4),
        ("2/2", 4),
    ]


def test_a_grpo_row_is_the_conversation_up_to_a_user_message_judged_or_not():
    hi, tea = {"role": "user", "content": "Hi."}, {"role": "user", "content": "I like tea."}
    assert list(rows([two_turns()], "grpo")) == [
        {"prompt": [hi], "tree": "t0", "node": "u", "turn": 1, "persona": "p0"},
        {
            "prompt": [hi, {"role": "assistant", "content": "Yes?"}, tea],
            "tree": "t0",
            "node": "2u",
            "turn": 2,
            "persona": "p0",
        },
    ]
    assert list(rows([said(two_turns().tree)], "grpo")) == list(rows([two_turns()], "grpo"))


def test_a_grpo_row_begins_with_the_system_message_and_stands_before_a_cut_reply_too():
    judged = two_turns()
    judged = judged.model_copy(
        update={"tree": judged.tree.model_copy(update={"system": "Be kind."}), "cut": frozenset({"2", "2/1"})}
    )
    found = [[message["content"] for message in row["prompt"]] for row in rows([judged], "grpo")]
    assert found == [["Be kind.", "Hi."], ["Be kind.", "Hi.", "Yes?", "I like tea."]]


def test_ties_give_no_training_row_in_any_preference_format():
    judged = said(one_turn("a", "b"), ties("1", "2"))

    assert {fmt: len(list(rows([judged], fmt))) for fmt in ("sft", "dpo", "kto", "rm")} == {
        "sft": 0,
        "dpo": 0,
        "kto": 0,
        "rm": 0,
    }


def test_trees_stay_in_the_order_given():
    trees = [said(one_turn("a", "b").model_copy(update={"id": name}), prefers("1", "2")) for name in ("t1", "t0")]

    assert [row["tree"] for row in rows(trees, "dpo")] == ["t1", "t0"]


def planted(seed: int) -> JudgedTree:
    """A random tree in which everything that must not leak carries the word CANARY."""
    draw = random.Random(seed)
    nodes = [user("u", "Hi.")]
    sayings = []
    for turn in range(1, draw.randint(2, 5)):
        prompt = nodes[-1]
        replies = [
            reply(f"{turn}.{k}", f"reply {turn}.{k}", parent=prompt.id, turn=turn, by="CANARY", hinted=True)
            for k in range(draw.randint(2, 4))
        ]
        sayings += [score(node.id, draw.randint(1, 5)) for node in replies]
        nodes += [*replies, user(f"{turn}u", "Go on.", parent=draw.choice(replies).id, turn=turn + 1)]
    grown = Tree(id="t0", run="CANARY", persona="p0", seed=0, nodes=tuple(_with_call(node) for node in nodes))
    notes = [Annotation(node=node.id, name="hint", by="inducer", value="CANARY: likes tea") for node in nodes]
    judged = said(grown, *(saying.model_copy(update={"replies": ("CANARY", "Score: 1")}) for saying in sayings))
    return judged.model_copy(update={"annotations": tuple(notes)})


def _with_call(node: Node) -> Node:
    return node.model_copy(update={"call": "CANARY"})


@pytest.mark.parametrize("fmt", FORMATS)
def test_hints_notes_and_judges_words_never_reach_a_row(fmt):
    exported = [row for seed in range(20) for mode in ("best-worst", "all") for row in rows([planted(seed)], fmt, mode)]

    assert len(exported) > 20
    assert "CANARY" not in json.dumps(exported)


@pytest.mark.parametrize("fmt", FORMATS)
def test_message_dicts_have_exactly_role_and_content(fmt):
    messages = [message for row in rows([two_turns()], fmt) for message in _messages_in(row)]

    assert messages
    assert {tuple(message) for message in messages} == {("role", "content")}


def _messages_in(value):
    if isinstance(value, dict) and "content" in value:
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [message for part in parts for message in _messages_in(part)]


def test_lone_surrogates_become_replacement_characters_and_whole_ones_stay():
    odd = tree(user("u", "half \ud83d and whole \U0001f600 é"), *one_turn("a", "b").nodes[1:], persona="p\udc00")

    (row,) = rows([said(odd, prefers("1", "2"))], "dpo")

    assert row["prompt"] == [{"role": "user", "content": "half \ufffd and whole \U0001f600 é"}]
    assert row["persona"] == "p\ufffd"


@pytest.mark.parametrize(("fmt", "mode"), [("orpo", "all"), ("dpo", "best")])
def test_an_unknown_format_or_pairing_is_refused_with_the_choices(fmt, mode):
    with pytest.raises(ConfigError, match=r"(is none of|choose one of) (sft, dpo, kto|best-worst, all)"):
        list(rows([two_turns()], fmt, mode))


def test_written_rows_are_json_lines_in_utf8_and_their_number_comes_back(tmp_path):
    path = tmp_path / "dpo.jsonl"

    assert write_jsonl([{"text": "é\u2028\n"}, {"text": "b"}], path) == 2
    assert path.read_bytes() == '{"text": "é\u2028\\n"}\n{"text": "b"}\n'.encode()


def test_no_rows_make_an_empty_file(tmp_path):
    assert write_jsonl([], tmp_path / "dpo.jsonl") == 0
    assert (tmp_path / "dpo.jsonl").read_bytes() == b""


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "dpo.jsonl"
    path.write_text("old\n")

    def failing():
        yield {"row": 1}
        raise RuntimeError("the source went away")

    with pytest.raises(RuntimeError, match="went away"):
        write_jsonl(failing(), path)
    assert path.read_text() == "old\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["dpo.jsonl"]


@pytest.mark.train
@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_loads_with_datasets(fmt, tmp_path):
    datasets = pytest.importorskip("datasets")
    count = write_jsonl(rows([two_turns()], fmt), tmp_path / "rows.jsonl")
    path = str(tmp_path / "rows.jsonl")
    loaded = datasets.load_dataset("json", data_files=path, cache_dir=str(tmp_path), split="train")

    assert loaded.to_list() == [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(loaded) == count > 0


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_documented_row_of_a_format_is_one_that_export_writes(fmt):
    page = (Path(__file__).parent.parent / "docs" / "data-format.md").read_text(encoding="utf-8")
    section = page.partition(f"### {fmt}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    shown = json.loads(section.partition("```json\n")[2].partition("```")[0])

    written = list(rows([two_turns()], fmt))
    assert shown in written
    assert list(shown) == list(written[0])
