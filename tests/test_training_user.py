"""Training on the user's messages: what is learnt, token by token, and that the result takes the user's seat."""

import json
from pathlib import Path
from typing import Any

import pytest
from calls_seen import calls_of
from judged_trees import reply, said, seats, tree, user
from tiny import tiny_model
from training_runs import trainer_for

import interalign as ia
from interalign import api
from interalign.training.export import rows, write_jsonl
from interalign.training.sft import SFT

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train

PERSONA = {"id": "ann", "profile": ["I keep bees."], "personality": "Dry."}
OWN = "Play: {{ persona.personality }}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"), positions=1024)


def learnt(trainer: Any) -> list[tuple[str, str]]:
    """Of each sequence in the trainer's first batch: its text after the persona's prompt, and what is learnt of it."""
    batch = next(iter(trainer.get_train_dataloader()))
    decode = trainer.processing_class.decode
    found = [
        (decode(ids[mask.bool()]), decode(ids[labels != -100]))
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
    ]
    return sorted((text.partition("message.)<|end|>")[2], target) for text, target in found)


@pytest.mark.parametrize("share", [False, True])
def test_each_user_message_is_learnt_once_and_no_prompt_or_reply_is(base: Path, tmp_path: Path, share: bool) -> None:
    grown = tree(
        user("u", "Hi é."),
        reply("1", "Hello!", parent="u"),
        reply("2", "Yes?", parent="u"),
        user("2/u", "Tea.", parent="2", turn=2),
        reply("2/1", "Green?", parent="2/u", turn=2),
    )
    write_jsonl(rows([said(grown)], "user", seats=seats()), tmp_path / "user.jsonl")
    settings = {"per_device_train_batch_size": 2, "share_prefixes": share}
    trainer = trainer_for(SFT, "sft", base, tmp_path / "user.jsonl", tmp_path / "out", **settings)
    whole = "<|assistant|>Hi é.<|end|><|user|>Yes?<|end|><|assistant|>Tea.<|end|>"
    if share:
        assert learnt(trainer) == [(whole, "Hi é.<|end|>Tea.<|end|>")]
    else:
        first = "<|assistant|>Hi é.<|end|>"
        assert learnt(trainer) == [(first, "Hi é.<|end|>"), (whole, "Tea.<|end|>")]


def test_a_model_trained_on_a_user_takes_its_seat_and_reads_the_prompt_that_it_learnt(
    base: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/user.jinja").write_text(OWN)
    (tmp_path / "people.jsonl").write_text(json.dumps(PERSONA) + "\n")
    shared = {
        "trees": 1, "turns": 2, "branch": 1, "inducer": "none", "personas": str(tmp_path / "people.jsonl"),
        "prompts": str(tmp_path / "own"), "candidate": "test_export_user:candidate", "judge": "test_export_user:Judge",
    }  # fmt: skip
    ia.simulate(tmp_path / "said.db", user="ending_users:leaves_in_turn_3", **shared)
    assert ia.export(tmp_path / "said.db", tmp_path / "user.jsonl", format="user") == 2
    found = [json.loads(line) for line in (tmp_path / "user.jsonl").read_text().splitlines()]
    config = {"learning_rate": 1e-2, "num_train_epochs": 60, "per_device_train_batch_size": 2, "use_cpu": True}
    api.train("sft", model=str(base), data=tmp_path / "user.jsonl", out=tmp_path / "out", config=config)

    settings = {"parameters": {"user": {"temperature": 0, "max_tokens": 20}}}
    ia.simulate(tmp_path / "played.db", user=f"hf:{tmp_path / 'out'}", **shared, **settings)
    calls = calls_of(tmp_path / "played.db", "user")
    assert [call.reply for call in calls] == ["Hello.", "And then?"]
    assert [[m.model_dump() for m in call.messages] for call in calls] == [row["messages"][:-1] for row in found]
