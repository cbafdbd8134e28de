"""Which rows of a file are trained on, and what is said of the others."""

import json

import pytest
from tiny import CHAT_TEMPLATE, tiny_model
from training_runs import assistant, dpo_rows, sft_rows, user, weights, write

from interalign.errors import ConfigError, DataError
from interalign.training.dpo import train_dpo
from interalign.training.settings_file import read_settings
from interalign.training.sft import train_sft

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train

QUICK = {"learning_rate": 1e-3, "max_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True}
LONG = {"messages": [user("x" * 600), assistant("a")]}
LONG_PAIR = {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("x" * 600)]}


def test_rows_that_are_too_long_are_left_out_where_asked_and_counted(base, tmp_path):
    data = write(tmp_path / "sft.jsonl", LONG, *sft_rows(6), LONG)

    result = train_sft(str(base), data, tmp_path / "out", config=QUICK, drop_too_long=True)

    assert (result.rows, result.left_out) == (6, 2)
    assert str(result).startswith("sft on 6 rows (2 longer than max_length left out), 2 steps, ")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "6 rows, sha256 `" in card
    assert "`; 2 rows more, longer than `max_length`, were left out\n" in card
    assert "| drop_too_long | True |" in card


def test_leaving_a_row_out_trains_as_if_it_had_not_been_there(base, tmp_path):
    with_long = write(tmp_path / "long.jsonl", *sft_rows(3), LONG, *sft_rows(2))
    without = write(tmp_path / "short.jsonl", *sft_rows(3), *sft_rows(2))
    train_sft(str(base), with_long, tmp_path / "left", config={**QUICK, "drop_too_long": True})
    train_sft(str(base), without, tmp_path / "never", config=QUICK)

    left, never = weights(tmp_path / "left"), weights(tmp_path / "never")
    assert all(torch.equal(left[name], never[name]) for name in never)


def test_a_pair_is_too_long_if_one_of_its_replies_is(base, tmp_path):
    data = write(tmp_path / "dpo.jsonl", *dpo_rows(4), LONG_PAIR)

    result = train_dpo(str(base), data, tmp_path / "out", config=QUICK, drop_too_long=True)

    assert (result.rows, result.left_out) == (4, 1)


def test_max_length_says_what_too_long_is(base, tmp_path):
    data = write(tmp_path / "sft.jsonl", *({"messages": [user("x" * size), assistant("a")]} for size in (4, 5, 6)))
    config = {**QUICK, "max_length": 5 + len("<><a>")}

    result = train_sft(str(base), data, tmp_path / "out", config=config, drop_too_long=True)

    assert (result.rows, result.left_out) == (2, 1)


def test_a_finished_run_still_says_what_it_left_out(base, tmp_path):
    data = write(tmp_path / "sft.jsonl", LONG, *sft_rows(4))
    train_sft(str(base), data, tmp_path / "out", config=QUICK, drop_too_long=True)

    again = train_sft(str(base), data, tmp_path / "out", config={**QUICK, "drop_too_long": True})

    assert (again.status, again.rows, again.left_out) == ("finished before", 4, 1)


def test_where_every_row_is_too_long_nothing_is_trained(base, tmp_path):
    with pytest.raises(ConfigError, match=r"sft\.jsonl: all 2 rows are longer than max_length; raise it"):
        train_sft(str(base), write(tmp_path / "sft.jsonl", LONG, LONG), tmp_path / "out", drop_too_long=True)
    assert not (tmp_path / "out").exists()


def test_all_rows_that_are_too_long_are_told_at_once_with_the_option_that_leaves_them_out(base, tmp_path):
    data = write(tmp_path / "sft.jsonl", LONG, *sft_rows(2), LONG, {"messages": [user("x" * 700), assistant("a")]})

    with pytest.raises(DataError) as refusal:
        train_sft(str(base), data, tmp_path / "out", config=QUICK)

    assert str(refusal.value) == (
        f"{data}: 3 of 5 rows cannot be trained on: line 1: 603 tokens of prompt and 2 of reply are more than "
        "max_length 512; TRL would cut or drop the row: raise max_length if the model can take it, or leave such rows "
        "out (--drop-too-long); line 4: as line 1; line 5: 703 tokens of prompt and 2 of reply are more than "
        "max_length 512"
    )


def test_leaving_out_long_rows_hides_no_other_fault(tmp_path):
    refusal = "{% if messages[0]['content'] == 'b' %}{{ raise_exception('b') }}{% endif %}"
    picky = tiny_model(tmp_path / "picky", chat_template=refusal + CHAT_TEMPLATE)
    bad = {"messages": [user("b"), assistant("a")]}
    data = write(tmp_path / "sft.jsonl", LONG, *sft_rows(2), bad, bad)

    with pytest.raises(DataError, match=r"2 of 5 rows .*: line 4: the chat template refuses .*; line 5: as line 4$"):
        train_sft(str(picky), data, tmp_path / "out", config=QUICK, drop_too_long=True)


def test_a_folder_begun_before_there_was_this_setting_goes_on(base, tmp_path):
    """What says which run a folder belongs to has no word of a setting that is off."""
    data = write(tmp_path / "sft.jsonl", *sft_rows(4))
    train_sft(str(base), data, tmp_path / "out", config=QUICK)
    record = json.loads((tmp_path / "out" / "interalign_training.json").read_text())

    assert record["identity"]["settings"].keys() == {"method", "trl", "lora", "share_prefixes", "freeze_embeddings"}
    assert record["result"].keys() == {"method", "rows", "steps", "first_loss", "last_loss"}
    with pytest.raises(ConfigError, match="begun with other settings"):
        train_sft(str(base), data, tmp_path / "out", config=QUICK, drop_too_long=True)


def test_the_setting_is_on_by_option_or_by_file():
    assert not read_settings("dpo").drop_too_long
    assert read_settings("dpo", {"drop_too_long": True}).drop_too_long
    assert read_settings("sft", {"drop_too_long": False}, drop_too_long=True).drop_too_long


def test_the_command_line_leaves_long_rows_out_and_says_how_many(base, tmp_path, cli):
    data = write(tmp_path / "sft.jsonl", LONG, *sft_rows(4))
    (tmp_path / "train.yaml").write_text("max_steps: 1\nuse_cpu: true\n")
    words = ["train", "sft", "--model", str(base), "--data", str(data), "--out", str(tmp_path / "out")]

    refused = cli(*words, "--config", str(tmp_path / "train.yaml"))
    done = cli(*words, "--config", str(tmp_path / "train.yaml"), "--drop-too-long")

    assert (refused.code, done.code) == (2, 0)
    assert "leave such rows out (--drop-too-long)" in refused.err
    assert "sft on 4 rows (1 longer than max_length left out), 1 steps" in done.err
