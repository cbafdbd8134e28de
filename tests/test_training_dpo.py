import math

import pytest
from judged_trees import prefers, reply, said, tree
from judged_trees import user as user_node
from tiny import tiny_model
from training_runs import assistant, dpo_rows, sft_rows, trainer_for, user, weights, write

from interalign.errors import ConfigError, DataError
from interalign.training.dpo import DPO, train_dpo
from interalign.training.export import rows, write_jsonl
from interalign.training.library_output import quiet_libraries
from interalign.training.sft import train_sft

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train

QUICK = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "logging_steps": 1, "use_cpu": True}


@pytest.fixture(scope="module")
def sft(base, tmp_path_factory):
    """A folder that SFT wrote."""
    folder = tmp_path_factory.mktemp("sft")
    data = write(folder / "sft.jsonl", *sft_rows(12))
    train_sft(str(base), data, folder / "out", config={"learning_rate": 1e-2, "max_steps": 6, "use_cpu": True})
    return folder / "out"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "dpo.jsonl", *dpo_rows(24))


def learnt(trainer) -> list[tuple[str, str]]:
    """Of each row in the trainer's first batch, chosen ones first: all of its text, and the text the loss falls on."""
    batch = next(iter(trainer.get_train_dataloader()))
    decode = trainer.processing_class.decode
    parts = zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True)
    return [(decode(ids[mask.bool()]), decode(ids[target.bool()])) for ids, mask, target in parts]


def test_the_loss_falls_on_the_whole_chosen_and_the_whole_rejected_reply(base, tmp_path):
    grown = tree(
        user_node("u", "Hi."),
        reply("1", "Tea, of course?", parent="u"),
        reply("2", "Coffee, I bet.", parent="u"),
    )
    write_jsonl(rows([said(grown, prefers("2", "1"))], "dpo"), tmp_path / "dpo.jsonl")

    trainer = trainer_for(DPO, "dpo", base, tmp_path / "dpo.jsonl", tmp_path / "out")

    assert learnt(trainer) == [
        ("<|user|>Hi.<|end|><|assistant|>Coffee, I bet.<|end|>", "Coffee, I bet.<|end|>"),
        ("<|user|>Hi.<|end|><|assistant|>Tea, of course?<|end|>", "Tea, of course?<|end|>"),
    ]


def test_of_a_later_turn_only_the_two_replies_are_learnt_and_not_the_conversation(base, tmp_path):
    row = {
        "prompt": [user("Hi."), assistant("Hm."), user("So?")],
        "chosen": [assistant("Yes.")],
        "rejected": [assistant("Yes. No.")],  # begins with the chosen one
    }
    trainer = trainer_for(DPO, "dpo", base, write(tmp_path / "dpo.jsonl", row), tmp_path / "out")

    assert [target for _, target in learnt(trainer)] == ["Yes.<|end|>", "Yes. No.<|end|>"]


@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "LoRA"])
def test_dpo_that_starts_from_sft_is_held_against_sft_and_not_against_the_base(sft, data, tmp_path, lora):
    # While policy and reference are the same model, every pair's loss is log 2, whatever the model.
    result = train_dpo(str(sft), data, tmp_path / "out", config={**QUICK, "max_steps": 8}, lora=lora)

    assert result.first_loss == pytest.approx(math.log(2), abs=1e-6)
    assert result.last_loss < 0.6


def test_the_reference_has_the_weights_of_the_folder_dpo_starts_from(base, sft, data, tmp_path):
    trainer = trainer_for(DPO, "dpo", sft, data, tmp_path / "out")
    reference = trainer.ref_model.state_dict()
    name = "model.layers.1.mlp.up_proj.weight"

    assert torch.equal(reference[name], weights(sft)[name])
    assert not torch.equal(reference[name], weights(base)[name])


def test_dpo_from_a_lora_adapter_is_held_against_that_adapter(base, data, tmp_path):
    sft_data = write(tmp_path / "sft.jsonl", *sft_rows(12))
    config = {"learning_rate": 3e-2, "max_steps": 6, "use_cpu": True}
    train_sft(str(base), sft_data, tmp_path / "sft", config=config, lora=True)

    result = train_dpo(str(tmp_path / "sft" / "adapter"), data, tmp_path / "out", config={**QUICK, "max_steps": 4})

    assert result.first_loss == pytest.approx(math.log(2), abs=1e-6)
    assert result.last_loss < result.first_loss


def test_dpo_makes_the_chosen_reply_likelier_than_the_rejected_one(sft, data, tmp_path):
    train_dpo(str(sft), data, tmp_path / "out", config={**QUICK, "num_train_epochs": 2, "beta": 0.1})

    before, after = (_preference(folder, data, tmp_path) for folder in (sft, tmp_path / "out"))
    assert after > before + 1


def _preference(folder, data, tmp_path) -> float:
    """Mean log-probability of the chosen replies minus that of the rejected ones."""
    trainer = trainer_for(DPO, "dpo", folder, data, tmp_path / "measure", per_device_train_batch_size=24)
    with quiet_libraries():
        chosen, rejected = trainer.compute_ref_log_probs(trainer.ref_model, next(iter(trainer.get_train_dataloader())))
    return (chosen - rejected).mean().item()


def test_a_row_longer_than_the_model_is_refused_and_not_dropped(base, tmp_path):
    long = {"prompt": [user("x" * 600)], "chosen": [assistant("a")], "rejected": [assistant("b")]}
    path = write(tmp_path / "dpo.jsonl", *dpo_rows(3), long)

    with pytest.raises(DataError, match=r"line 4: 603 tokens of prompt and 2 of reply are more than max_length 512"):
        train_dpo(str(base), path, tmp_path / "out", config=QUICK)
    with pytest.raises(DataError, match=r"line 4: .* more than max_length 100"):
        train_dpo(str(base), path, tmp_path / "out", config={**QUICK, "max_length": 100})


def test_max_length_may_be_raised_and_the_row_is_then_learnt_whole(base, tmp_path):
    long = {"prompt": [user("x" * 600)], "chosen": [assistant("a")], "rejected": [assistant("b")]}
    path = write(tmp_path / "dpo.jsonl", long)
    trainer = trainer_for(DPO, "dpo", base, path, tmp_path / "out", max_length=700)

    assert learnt(trainer)[1] == (f"<|user|>{'x' * 600}<|end|><|assistant|>b<|end|>", "b<|end|>")


def test_a_row_longer_than_trls_own_1024_tokens_is_learnt_whole_by_a_model_made_for_it(tmp_path):
    patient = tiny_model(tmp_path / "patient", positions=2048)
    long = {"prompt": [user("x" * 1500)], "chosen": [assistant("a")], "rejected": [assistant("b")]}
    trainer = trainer_for(DPO, "dpo", patient, write(tmp_path / "dpo.jsonl", long), tmp_path / "out")

    assert learnt(trainer)[0] == (f"<|user|>{'x' * 1500}<|end|><|assistant|>a<|end|>", "a<|end|>")


def test_a_killed_dpo_run_ends_as_an_unbroken_one(sft, data, tmp_path):
    config = {**QUICK, "max_steps": 6, "save_steps": 2}
    train_dpo(str(sft), data, tmp_path / "whole", config=config)

    def stop(done, total, loss):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_dpo(str(sft), data, tmp_path / "out", config=config, progress=stop)
    resumed = train_dpo(str(sft), data, tmp_path / "out", config=config)

    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert resumed.status == "resumed"
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_settings_that_trl_refuses_are_refused_in_one_line(base, data, tmp_path):
    with pytest.raises(ConfigError, match=r"^TRL refuses the settings: .*loss_weights") as refusal:
        train_dpo(str(base), data, tmp_path / "out", config={**QUICK, "loss_weights": [1, 2]})
    assert "\n" not in str(refusal.value)


def test_a_run_that_trl_refused_can_be_begun_again_in_the_same_folder(base, data, tmp_path):
    config = {**QUICK, "max_steps": 2}
    with pytest.raises(ConfigError, match=r"^TRL refuses the run: .*sync_ref_model"):
        train_dpo(str(base), data, tmp_path / "out", config={**config, "sync_ref_model": True}, lora=True)

    assert train_dpo(str(base), data, tmp_path / "out", config=config).status == "trained"
