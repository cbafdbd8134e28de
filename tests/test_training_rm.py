"""Reward models: what is read, that chosen replies come to score higher, that the folder scores as it was trained."""

import json

import pytest
from tiny import tiny_model
from training_runs import assistant, dpo_rows, sft_rows, trainer_for, user, weights, write

from interalign.errors import ConfigError, DataError
from interalign.training.library_output import quiet_libraries
from interalign.training.rm import METHOD
from interalign.training.sft import train_sft
from interalign.training.train import train

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train

QUICK = {"learning_rate": 1e-2, "per_device_train_batch_size": 4, "logging_steps": 1, "use_cpu": True}


def rows(count: int = 8):
    """As `export --format rm` writes them."""
    for row in dpo_rows(count):
        prompt = row["prompt"]
        yield {"chosen": prompt + row["chosen"], "rejected": prompt + row["rejected"], "tree": row["tree"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "rm.jsonl", *rows())


@pytest.fixture(scope="module")
def trained(base, data, tmp_path_factory):
    """Folders of one training of all weights and one of an adapter."""
    folders = {lora: tmp_path_factory.mktemp("rm") / "out" for lora in (False, True)}
    for lora, out in folders.items():
        result = train("rm", str(base), data, out, config={**QUICK, "num_train_epochs": 4}, lora=lora)
        assert (result.method, result.rows, result.steps, result.status) == ("rm", 8, 8, "trained")
    return folders


def score(folder, messages, adapter=None) -> float:
    """The score as the model card says to get it."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    with quiet_libraries():
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
        model = model if adapter is None else PeftModel.from_pretrained(model, adapter)
    tokens = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        return model.eval()(**tokens).logits[0, 0].item()


def test_both_whole_conversations_are_read_and_nothing_of_a_margin(base, tmp_path):
    row = {"prompt": [user("Hi.")], "chosen": [assistant("Tea!")], "rejected": [assistant("No.")], "margin": 2.0}
    same = {"chosen": [user("Hi."), assistant("Tea!")], "rejected": [user("Hi."), assistant("No.")]}
    data = write(tmp_path / "rm.jsonl", row, same)
    trainer = trainer_for(METHOD.recipe, "rm", base, data, tmp_path / "out")
    batch = next(iter(trainer.get_train_dataloader()))

    assert set(batch) == {"input_ids", "attention_mask"}
    texts = [
        trainer.processing_class.decode(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    chosen, rejected = (f"<|user|>Hi.<|end|><|assistant|>{said}<|end|>" for said in ("Tea!", "No."))
    assert texts == [chosen, chosen, rejected, rejected]


@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "LoRA"])
def test_chosen_replies_come_to_score_higher_than_rejected_ones(base, trained, lora):
    for row in rows(4):
        assert score(trained[lora], row["chosen"]) > score(trained[lora], row["rejected"]) + 0.5
    log = [json.loads(line) for line in (trained[lora] / "training_log.jsonl").read_text().splitlines()]
    assert [entry["accuracy"] for entry in log if "accuracy" in entry][-1] == 1.0


def test_the_folder_is_a_sequence_classification_model_whose_card_says_how_to_load_it(trained):
    config = json.loads((trained[False] / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["pad_token_id"] == 257  # <|pad|>
    card = (trained[False] / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert "- Method: reward model, all weights" in card
    assert "AutoModelForSequenceClassification.from_pretrained(FOLDER)" in card


def test_the_adapter_on_its_base_scores_as_the_merged_weights_do(base, trained):
    (row,) = rows(1)
    alone = score(base, row["chosen"], trained[True] / "adapter")
    assert alone == pytest.approx(score(trained[True], row["chosen"]), abs=1e-4)
    card = (trained[True] / "adapter" / "README.md").read_text()
    assert "library_name: peft" in card
    assert "- Method: reward model, LoRA" in card
    assert "More Information Needed" not in card


def test_the_head_of_a_new_reward_model_is_drawn_by_the_seed(base, data, tmp_path):
    heads = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(7)  # whatever was drawn before
        config = {**QUICK, "max_steps": 1, "learning_rate": 1e-9, "seed": seed}
        train("rm", str(base), data, tmp_path / name, config=config)
        heads.append(weights(tmp_path / name)["score.weight"])
    assert torch.equal(heads[0], heads[1])
    assert not torch.allclose(heads[0], heads[2], atol=1e-3)


@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "LoRA"])
def test_a_killed_run_ends_as_an_unbroken_one(base, data, tmp_path, lora):
    config = {**QUICK, "max_steps": 4, "save_steps": 2}
    train("rm", str(base), data, tmp_path / "whole", config=config, lora=lora)

    def stop(done, total, loss):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("rm", str(base), data, tmp_path / "out", config=config, lora=lora, progress=stop)
    assert train("rm", str(base), data, tmp_path / "out", config=config, lora=lora).status == "resumed"
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_reward_model_and_its_adapter_can_be_trained_on(base, data, trained, tmp_path):
    for name, start in (("whole", trained[False]), ("adapter", trained[True] / "adapter")):
        train("rm", str(start), data, tmp_path / name, config={**QUICK, "max_steps": 1, "learning_rate": 1e-9})
        (row,) = rows(1)
        merged = trained[name == "adapter"]
        assert score(tmp_path / name, row["chosen"]) == pytest.approx(score(merged, row["chosen"]), abs=1e-4)


def test_a_reward_model_and_its_adapter_cannot_take_a_seat_in_a_conversation(trained, cli):
    for folder in (trained[False], trained[True] / "adapter"):
        ended = cli("simulate", "run.db", "--trees", "1", "--turns", "1", "--candidate", f"hf:{folder}")
        assert (ended.code, "it is a reward model, which scores" in ended.err) == (2, True), ended.err


def test_a_reward_model_cannot_be_trained_to_speak_nor_an_adapter_that_speaks_to_score(base, data, trained, tmp_path):
    sft = write(tmp_path / "sft.jsonl", *sft_rows(4))
    with pytest.raises(ConfigError, match="it is a reward model, which scores conversations and does not speak"):
        train_sft(str(trained[False]), sft, tmp_path / "a", config=QUICK)
    train_sft(str(base), sft, tmp_path / "b", config={**QUICK, "max_steps": 1}, lora=True)
    with pytest.raises(ConfigError, match="an adapter of a CAUSAL_LM model, and a reward model is trained"):
        train("rm", str(tmp_path / "b" / "adapter"), data, tmp_path / "c", config=QUICK)
    assert train("rm", str(tmp_path / "b"), data, tmp_path / "d", config={**QUICK, "max_steps": 1}).steps == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"rejected": [user("Hi."), user("Me?")]}, "the reply to train on is a user message"),
        ({"rejected": [user("Hi."), assistant(" ")]}, "the reply to train on is empty"),
        ({"rejected": [user("Hi."), assistant("Tea.")]}, "chosen and rejected are the same reply"),
        ({"rejected": [user("Ho."), assistant("No.")]}, "differ before their last message"),
        ({"rejected": None}, "rejected: "),
        ({"rejected": [user("Hi."), assistant("No" * 300)]}, "are more than max_length 512"),
        ({"chosen": "Tea.", "rejected": "No."}, "a pair in the format plain text"),
    ],
)
def test_a_row_that_cannot_be_learnt_is_refused_by_line_and_reason(base, tmp_path, row, reason):
    good = {"chosen": [user("Hi."), assistant("Tea.")], "rejected": [user("Hi."), assistant("No.")]}
    data = write(tmp_path / "rm.jsonl", good, {**good, **row})
    with pytest.raises(DataError, match="line 2: ") as error:
        train("rm", str(base), data, tmp_path / "out", config=QUICK)
    assert reason in str(error.value)


def test_an_exported_file_trains_by_the_command(tmp_path, cli):
    assert cli("simulate", "run.db", "--trees", "6", "--turns", "2").code == 0
    assert cli("export", "run.db", "--format", "rm", "--out", "rm.jsonl").code == 0
    (tmp_path / "train.yaml").write_text("max_steps: 1\nuse_cpu: true\n")
    model = tiny_model(tmp_path / "long", positions=4096)
    config = ("--config", str(tmp_path / "train.yaml"))
    ended = cli("train", "rm", "--model", str(model), "--data", "rm.jsonl", *config, "--out", "out")
    assert ended.code == 0, ended.err
    assert "rm on " in ended.err
