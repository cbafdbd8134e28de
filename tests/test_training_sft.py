import json
import re
from dataclasses import replace

import pytest
from judged_trees import prefers, reply, said, tree
from judged_trees import user as user_node
from terminal import terminal
from tiny import tiny_model
from training_runs import assistant, reply_of, sft_rows, trainer_for, user, weights, write

from interalign.cli.progress import shown_training
from interalign.errors import ConfigError, DataError
from interalign.training.export import rows, write_jsonl
from interalign.training.library_output import quiet_libraries
from interalign.training.sft import SFT, sft_trainer, train_sft

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train

QUICK = {"learning_rate": 1e-2, "per_device_train_batch_size": 4, "use_cpu": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "sft.jsonl", *sft_rows(24))


def learnt(trainer) -> list[tuple[str, str]]:
    """Of each sequence in the trainer's first batch: all of its text, and the text the loss falls on."""
    batch = next(iter(trainer.get_train_dataloader()))
    decode = trainer.processing_class.decode
    return [
        (decode(ids[mask.bool()]), decode(ids[labels != -100]))
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
    ]


def test_the_loss_falls_on_the_last_reply_and_its_end_of_turn_and_on_nothing_else(base, tmp_path):
    row = {"messages": [user("Hi é."), assistant("Hm."), user("So?"), assistant("Tea!")]}
    trainer = trainer_for(SFT, "sft", base, write(tmp_path / "sft.jsonl", row), tmp_path / "out")

    assert learnt(trainer) == [
        ("<|user|>Hi é.<|end|><|assistant|>Hm.<|end|><|user|>So?<|end|><|assistant|>Tea!<|end|>", "Tea!<|end|>")
    ]
    labels = next(iter(trainer.get_train_dataloader()))["labels"][0].tolist()
    #                marker Hi_é.  end marker Hm.   end marker So?   end marker Tea! and end
    assert labels == [-100] * (1 + 6 + 1 + 1 + 3 + 1 + 1 + 3 + 1 + 1) + [*(ord(c) - 33 for c in "Tea!"), 256]


def test_padding_is_never_learnt(base, tmp_path):
    short, long = ({"messages": [user("Hi."), assistant(text)]} for text in ("No.", "Yes, of course."))
    trainer = trainer_for(SFT, "sft", base, write(tmp_path / "sft.jsonl", short, long), tmp_path / "out")

    assert sorted(target for _, target in learnt(trainer)) == ["No.<|end|>", "Yes, of course.<|end|>"]


@pytest.mark.parametrize("share", [False, True])
def test_every_chosen_reply_of_a_tree_is_learnt_exactly_once(base, tmp_path, share):
    # Turn 1 goes on with the chosen reply, so its row begins those of turns 2 and 3; turn 2 goes on with the other one.
    grown = tree(
        user_node("u", "Hi."),
        reply("1", "One good.", parent="u"),
        reply("2", "One bad.", parent="u"),
        user_node("1u", "And?", parent="1", turn=2),
        reply("1/1", "Two good.", parent="1u", turn=2),
        reply("1/2", "Two bad.", parent="1u", turn=2),
        user_node("1/2u", "Oh.", parent="1/2", turn=3),
        reply("1/2/1", "Three good.", parent="1/2u", turn=3),
        reply("1/2/2", "Three bad.", parent="1/2u", turn=3),
    )
    judged = said(grown, prefers("1", "2"), prefers("1/1", "1/2"), prefers("1/2/1", "1/2/2"))
    write_jsonl(rows([judged], "sft"), tmp_path / "sft.jsonl")

    trainer = trainer_for(SFT, "sft", base, tmp_path / "sft.jsonl", tmp_path / "out", share_prefixes=share)

    targets = sorted(target for _, target in learnt(trainer))
    apart = ["One good.<|end|>", "Three good.<|end|>", "Two good.<|end|>"]
    together = ["One good.<|end|>Three good.<|end|>", "Two good.<|end|>"]
    assert targets == (together if share else apart)


def test_sharing_prefixes_changes_what_is_read_but_not_the_loss(base, tmp_path):
    talk = [user("Hi."), assistant("Yes?"), user("I like tea."), assistant("Tea it is."), user("Now."), assistant("Ok")]
    path = write(tmp_path / "sft.jsonl", *({"messages": talk[:end]} for end in (2, 4, 6)))
    read, losses = [], []
    for share in (False, True):
        trainer = trainer_for(SFT, "sft", base, path, tmp_path / "out", share_prefixes=share)
        batch = next(iter(trainer.get_train_dataloader()))
        read.append(int(batch["attention_mask"].sum()))
        losses.append(trainer.compute_loss(trainer.model, batch).item())

    assert read == [11 + 36 + 46, 46]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_row_given_twice_is_learnt_twice_even_where_prefixes_are_shared(base, tmp_path):
    row = {"messages": [user("Hi."), assistant("No.")]}
    longer = {"messages": [user("Hi."), assistant("No."), user("Why?"), assistant("So.")]}
    path = write(tmp_path / "sft.jsonl", row, row, longer)
    trainer = trainer_for(SFT, "sft", base, path, tmp_path / "out", share_prefixes=True)

    assert sorted(target for _, target in learnt(trainer)) == ["No.<|end|>", "No.<|end|>So.<|end|>"]


@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "LoRA"])
def test_training_makes_the_loss_fall_and_saves_a_model_that_answers(base, data, tmp_path, lora):
    seen = []
    config = {**QUICK, "num_train_epochs": 3, "learning_rate": 3e-2 if lora else 1e-2}
    result = train_sft(
        f"hf:{base}", data, tmp_path / "out", config=config, lora=lora, progress=lambda *step: seen.append(step)
    )

    assert (result.status, result.rows, result.steps) == ("trained", 24, 18)
    assert result.last_loss < result.first_loss - 0.1
    assert [step[:2] for step in seen] == [(number, 18) for number in range(1, 19)]
    assert isinstance(reply_of(tmp_path / "out", [user("Hi.")]), str)
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file() == lora


def test_progress_tells_the_loss_that_was_logged_last(base, data, tmp_path):
    told = []
    config = {**QUICK, "max_steps": 5, "logging_steps": 2}
    train_sft(str(base), data, tmp_path / "out", config=config, progress=lambda *step: told.append(step))
    log = [json.loads(line) for line in (tmp_path / "out" / "training_log.jsonl").read_text().splitlines()]
    two, four = (entry["loss"] for entry in log if entry.get("step") in (2, 4))

    assert told == [(1, 5, None), (2, 5, None), (3, 5, two), (4, 5, two), (5, 5, four)]


def test_on_a_terminal_training_shows_its_bar_and_nothing_else(base, data, tmp_path, monkeypatch):
    with terminal(monkeypatch) as seen, shown_training() as told:
        seen.look()
        train_sft(str(base), data, tmp_path / "out", config={**QUICK, "max_steps": 3}, progress=told)

    (line,) = seen.screen()
    assert re.fullmatch(r"steps  \u2501+  3/3  loss \d+\.\d{4}  \d+:\d\d:\d\d  ETA 0:00:00", line)


def test_a_model_trained_on_one_row_says_its_reply_and_stops(base, tmp_path):
    (row,) = sft_rows(1)
    train_sft(str(base), write(tmp_path / "sft.jsonl", row), tmp_path / "out", config={**QUICK, "max_steps": 60})

    assert reply_of(tmp_path / "out", row["messages"][:-1]) == "More tea!<|end|>"


def test_the_folder_holds_a_model_its_tokenizer_and_template_and_no_pickle(base, data, tmp_path):
    train_sft(str(base), data, tmp_path / "out", config={**QUICK, "max_steps": 2})

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "interalign_training.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.svg",
        "training_log.jsonl",
    ]
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == (base / "chat_template.jinja").read_text()


def test_the_model_card_names_data_base_method_settings_versions_and_run(base, data, tmp_path):
    from hashlib import sha256
    from importlib.metadata import version

    train_sft(str(base), data, tmp_path / "out", config={**QUICK, "max_steps": 2, "seed": 7}, run_name="monday")
    card = (tmp_path / "out" / "README.md").read_text()

    for fact in (
        f"- Base model: `{base}`",
        f"- Data: `sft.jsonl`, 24 rows, sha256 `{sha256(data.read_bytes()).hexdigest()}`",
        "- Run: `monday`",
        "supervised fine-tuning (SFT), all weights",
        "| learning_rate | 0.01 |",
        "| seed | 7 |",
        "| lr_scheduler_type | linear |",
        "| freeze_embeddings | False |",
        f"trl {version('trl')}",
        "validates the pipeline only",
    ):
        assert fact in card


def test_lora_trains_the_adapter_only_and_the_saved_weights_are_the_two_together(base, data, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out = tmp_path / "out"
    train_sft(str(base), data, out, config={**QUICK, "max_steps": 5, "lora": {"r": 4}})
    before, after = weights(base), weights(out)
    with quiet_libraries():
        together = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), out / "adapter")

    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(before[name], after[name])
    torch.testing.assert_close(together.merge_and_unload().state_dict()[name], after[name])


@pytest.mark.parametrize("freeze", [False, True])
def test_frozen_embeddings_stay_as_they_are_while_the_rest_learns(base, data, tmp_path, freeze):
    train_sft(str(base), data, tmp_path / "out", config={**QUICK, "max_steps": 3, "freeze_embeddings": freeze})
    before, after = weights(base), weights(tmp_path / "out")

    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert ("model.embed_tokens.weight" in changed) == (not freeze)
    assert "model.layers.0.mlp.up_proj.weight" in changed


def test_the_same_command_gives_the_same_weights(base, data, tmp_path):
    for name in ("one", "two"):
        train_sft(str(base), data, tmp_path / name, config={**QUICK, "max_steps": 4})

    assert _equal(weights(tmp_path / "one"), weights(tmp_path / "two"))


def _equal(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Killed(Exception):
    """Stands for the end of the process."""


def stop_after(steps):
    def progress(done, total, loss):
        if done == steps:
            raise Killed

    return progress


@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "LoRA"])
def test_a_killed_run_goes_on_from_its_last_checkpoint_and_ends_as_an_unbroken_one(base, data, tmp_path, lora):
    config = {**QUICK, "max_steps": 10, "save_steps": 4}
    whole = train_sft(str(base), data, tmp_path / "whole", config=config, lora=lora)
    with pytest.raises(Killed):
        train_sft(str(base), data, tmp_path / "out", config=config, lora=lora, progress=stop_after(6))
    assert [path.name for path in (tmp_path / "out" / "checkpoints").glob("checkpoint-*")] == ["checkpoint-4"]

    steps = []
    resumed = train_sft(
        str(base), data, tmp_path / "out", config=config, lora=lora, progress=lambda done, *_: steps.append(done)
    )

    assert steps == [5, 6, 7, 8, 9, 10]
    assert (whole.status, resumed.status, resumed.steps) == ("trained", "resumed", 10)
    assert (resumed.first_loss, resumed.last_loss) == (whole.first_loss, whole.last_loss)
    assert _equal(weights(tmp_path / "whole"), weights(tmp_path / "out"))
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_checkpoint_that_was_not_finished_is_not_gone_on_from(base, data, tmp_path):
    config = {**QUICK, "max_steps": 6, "save_steps": 2}
    with pytest.raises(Killed):
        train_sft(str(base), data, tmp_path / "out", config=config, progress=stop_after(3))
    (tmp_path / "out" / "checkpoints" / "checkpoint-4").mkdir()  # killed while it was written

    assert train_sft(str(base), data, tmp_path / "out", config=config).status == "resumed"


def test_a_finished_run_does_nothing_and_says_so(base, data, tmp_path):
    config = {**QUICK, "max_steps": 2}
    first = train_sft(str(base), data, tmp_path / "out", config=config)
    when = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns

    again = train_sft(f"hf:{base}", data, tmp_path / "out", config=config)

    assert (again.status, again.steps, again.last_loss) == ("finished before", 2, first.last_loss)
    assert "finished before; nothing to do" in str(again)
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == when


def test_another_model_data_or_setting_for_the_same_folder_is_refused(base, data, tmp_path):
    out = tmp_path / "out"
    config = {**QUICK, "max_steps": 2}
    train_sft(str(base), data, out, config=config)
    other_data = write(tmp_path / "other.jsonl", *sft_rows(8))
    other_model = tiny_model(tmp_path / "other", seed=1)

    with pytest.raises(ConfigError, match="was begun with other data; use the same again"):
        train_sft(str(base), other_data, out, config=config)
    with pytest.raises(ConfigError, match="other model and settings;"):
        train_sft(str(other_model), data, out, config={**config, "seed": 1})


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(base, data, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(ConfigError, match="holds something else; name a new folder"):
        train_sft(str(base), data, tmp_path, config=QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_data_that_cannot_be_learnt_is_refused_before_a_folder_is_made(base, tmp_path):
    path = write(tmp_path / "sft.jsonl", *sft_rows(2), {"messages": [user("long " * 200), assistant("Ok.")]})

    with pytest.raises(DataError, match=r"line 3: 1003 tokens of prompt and 4 of reply are more than max_length 512"):
        train_sft(str(base), path, tmp_path / "out", config=QUICK)
    assert not (tmp_path / "out").exists()


def test_rows_that_trl_leaves_out_are_noticed(base, data, tmp_path):
    losing = replace(SFT, trainer=lambda parts: sft_trainer(parts._replace(dataset=parts.dataset.select(range(23)))))

    with pytest.raises(DataError, match="TRL kept 23 of 24 rows; nothing was trained"):
        trainer_for(losing, "sft", base, data, tmp_path / "out")


def test_weights_that_are_no_numbers_are_not_saved(base, data, tmp_path):
    with pytest.raises(ConfigError, match="training diverged"):
        train_sft(str(base), data, tmp_path / "out", config={**QUICK, "max_steps": 3, "learning_rate": 1e38})
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openai:gpt-4o-mini", "cannot be trained; name a folder or a Hugging Face id"),
        ("hf:", "cannot be trained"),
        ("nobody/nothing", "cannot load the tokenizer of nobody/nothing"),
    ],
)
def test_a_model_that_is_no_weights_is_refused_in_one_line(data, tmp_path, name, message):
    with pytest.raises(ConfigError) as refusal:
        train_sft(name, data, tmp_path / "out", config=QUICK)

    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_tokenizer_without_a_chat_template_is_refused(data, tmp_path):
    bare = tiny_model(tmp_path / "bare", chat_template=None)

    with pytest.raises(ConfigError, match="its tokenizer has no chat template"):
        train_sft(str(bare), data, tmp_path / "out", config=QUICK)


def test_training_writes_nothing_to_the_screen(base, data, tmp_path, capfd):
    train_sft(str(base), data, tmp_path / "out", config={**QUICK, "max_steps": 2})

    assert capfd.readouterr() == ("", "")


def test_training_reports_to_nobody_even_where_the_network_is_allowed(base, data, tmp_path, monkeypatch, no_network):
    from huggingface_hub import constants
    from huggingface_hub.utils import _telemetry

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    train_sft(str(base), data, tmp_path / "out", config={**QUICK, "max_steps": 2}, lora=True)

    assert _telemetry._TELEMETRY_QUEUE.empty()
    assert no_network == []


def test_the_log_holds_the_loss_of_every_logged_step(base, data, tmp_path):
    train_sft(str(base), data, tmp_path / "out", config={**QUICK, "max_steps": 3, "logging_steps": 1})
    log = [json.loads(line) for line in (tmp_path / "out" / "training_log.jsonl").read_text().splitlines()]

    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 3]
