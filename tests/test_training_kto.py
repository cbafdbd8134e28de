"""KTO: what is learnt, which replies are compared for its KL term, and that it moves the model."""

import math

import pytest
from tiny import tiny_model
from training_runs import assistant, trainer_for, user, weights, write

from interalign.errors import ConfigError, DataError
from interalign.training.kto import METHOD
from interalign.training.train import train

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train

QUICK = {"learning_rate": 1e-2, "per_device_train_batch_size": 4, "logging_steps": 1, "use_cpu": True}


def rows(count: int = 8):
    """Two replies to each prompt, a good one and a bad one."""
    for number in range(count):
        prompt = [user(f"{number}: I drink tea.")]
        yield {"prompt": prompt, "completion": [assistant(f"Tea {number}, then.")], "label": True, "tree": f"t{number}"}
        yield {"prompt": prompt, "completion": [assistant(f"Go away {number}.")], "label": False, "tree": f"t{number}"}


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "kto.jsonl", *rows())


def log_probability(folder, prompt: str, reply: str) -> float:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer.apply_chat_template([user(prompt)], add_generation_prompt=True, return_dict=True)["input_ids"]
    said = tokenizer(reply + "<|end|>", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        found = model(torch.tensor([asked + said])).logits[0, len(asked) - 1 : -1].log_softmax(-1)
    return sum(float(found[place, token]) for place, token in enumerate(said))


def test_every_row_is_learnt_and_only_its_reply(base, data, tmp_path):
    trainer = trainer_for(METHOD.recipe, "kto", base, data, tmp_path / "out", per_device_train_batch_size=16)
    (batch,) = list(trainer.get_train_dataloader())
    decode = trainer.processing_class.decode
    learnt = {
        (decode(ids[learnt.bool()]), bool(label))
        for ids, learnt, label in zip(batch["input_ids"], batch["completion_mask"], batch["label"], strict=True)
    }
    assert learnt == {(f"Tea {number}, then.<|end|>", True) for number in range(8)} | {
        (f"Go away {number}.<|end|>", False) for number in range(8)
    }


def test_the_kl_term_is_estimated_from_replies_to_other_prompts(base, data, tmp_path):
    trainer = trainer_for(METHOD.recipe, "kto", base, data, tmp_path / "out", per_device_train_batch_size=4)
    rows = trainer.train_dataset
    assert len(rows) == 16
    for first in range(0, 16, 4):
        batch = rows[first : first + 4]
        assert batch["KL_completion_ids"] == [batch["completion_ids"][-1], *batch["completion_ids"][:-1]]
    beside = [rows[place]["prompt_ids"] == rows[place + 1]["prompt_ids"] for place in range(0, 16, 2)]
    assert sum(beside) < 4  # in the order of the file all eight would be


@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "LoRA"])
def test_good_replies_become_likelier_than_bad_ones(base, data, tmp_path, lora):
    config = {**QUICK, "num_train_epochs": 6}
    result = train("kto", str(base), data, tmp_path / "out", config=config, lora=lora)
    assert (result.method, result.rows, result.status) == ("kto", 16, "trained")
    assert result.last_loss is not None
    assert math.isfinite(result.last_loss)

    def preference(folder) -> float:
        return sum(
            log_probability(folder, f"{n}: I drink tea.", f"Tea {n}, then.")
            - log_probability(folder, f"{n}: I drink tea.", f"Go away {n}.")
            for n in range(4)
        )

    assert preference(tmp_path / "out") > preference(base) + 1
    assert "Kahneman-Tversky optimisation (KTO)" in (tmp_path / "out" / "README.md").read_text()


def test_a_killed_run_ends_as_an_unbroken_one(base, data, tmp_path):
    config = {**QUICK, "max_steps": 6, "save_steps": 2}
    train("kto", str(base), data, tmp_path / "whole", config=config)

    def stop(done, total, loss):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("kto", str(base), data, tmp_path / "out", config=config, progress=stop)
    assert train("kto", str(base), data, tmp_path / "out", config=config).status == "resumed"
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"label": "yes"}, "label: "),
        ({"label": None}, "label: "),
        ({"completion": [user("Me?")]}, "the reply to train on is a user message"),
        ({"completion": [assistant(" ")]}, "the reply to train on is empty"),
        ({"prompt": []}, "prompt: "),
        ({"completion": [assistant("a"), assistant("b")]}, "completion"),
    ],
)
def test_a_row_that_cannot_be_learnt_is_refused_by_line_and_reason(base, tmp_path, row, reason):
    good = next(rows(1))
    data = write(tmp_path / "kto.jsonl", good, {**good, **row})
    with pytest.raises(DataError, match="line 2: ") as error:
        train("kto", str(base), data, tmp_path / "out", config=QUICK)
    assert reason in str(error.value)


def test_kto_has_no_pairs_to_read_together(base, data, tmp_path):
    with pytest.raises(ConfigError, match="--method tree: kto has no trainer that reads trees whole"):
        train("kto", str(base), data, tmp_path / "out", packing="tree", config=QUICK)


def test_an_exported_file_trains_by_the_command(tmp_path, cli):
    assert cli("simulate", "run.db", "--trees", "6", "--turns", "2").code == 0
    assert cli("export", "run.db", "--format", "kto", "--out", "kto.jsonl").code == 0
    (tmp_path / "train.yaml").write_text("max_steps: 1\nuse_cpu: true\n")
    model = tiny_model(tmp_path / "long", positions=4096)
    config = ("--config", str(tmp_path / "train.yaml"))
    ended = cli("train", "kto", "--model", str(model), "--data", "kto.jsonl", *config, "--out", "out")
    assert ended.code == 0, ended.err
    assert "kto on " in ended.err
