import dataclasses
from pathlib import Path

import pytest

from interalign.errors import ConfigError
from interalign.training.settings import LoraSettings
from interalign.training.settings_file import config_class, read_settings


@pytest.fixture
def trl():
    """TRL's own dataclasses say which keys there are."""
    return pytest.importorskip("trl")


def test_without_a_file_the_settings_are_the_papers():
    assert {key: read_settings("sft").trl[key] for key in ("learning_rate", "num_train_epochs")} == {
        "learning_rate": 1e-5,
        "num_train_epochs": 1.0,
    }
    assert {key: read_settings("dpo").trl[key] for key in ("learning_rate", "num_train_epochs", "beta")} == {
        "learning_rate": 1e-5,
        "num_train_epochs": 1.0,
        "beta": 0.9,
    }
    assert read_settings("dpo").lora is None


@pytest.mark.train
@pytest.mark.usefixtures("trl")
def test_a_yaml_file_wins_over_the_defaults_and_1e_5_is_a_number(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("learning_rate: 1e-5\nnum_train_epochs: 3\nloss_type: hinge\nfreeze_embeddings: true\n")

    settings = read_settings("dpo", path)

    assert settings.trl["learning_rate"] == 0.00001
    assert settings.trl["num_train_epochs"] == 3
    assert settings.trl["loss_type"] == ["hinge"]
    assert settings.trl["beta"] == 0.9
    assert settings.freeze_embeddings


def test_lora_is_on_when_asked_for_by_flag_or_by_its_settings():
    assert read_settings("sft", lora=True).lora == LoraSettings(r=16, alpha=32, dropout=0, target_modules="all-linear")
    assert read_settings("sft", {"lora": {"r": 4, "target_modules": ["q_proj"]}}).lora == LoraSettings(
        r=4, target_modules=("q_proj",)
    )
    assert read_settings("sft", {"lora": {"r": 4}}, lora=True).lora == LoraSettings(r=4)


@pytest.mark.train
@pytest.mark.usefixtures("trl")
@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("sft", {"learning_rat": 1}, "unknown key 'learning_rat'; did you mean 'learning_rate'?"),
        ("sft", {"beta": 0.5}, "unknown key 'beta'"),
        ("dpo", {"share_prefixes": True}, "unknown key 'share_prefixes'"),
        ("sft", {"share_prefix": True}, "did you mean 'share_prefixes'?"),
        (
            "sft",
            {"per_device_train_batch_size": "many"},
            "per_device_train_batch_size: Input should be a valid integer",
        ),
        ("sft", {"lora": {"rank": 4}}, "lora.rank: no such setting; there are r, alpha, dropout, target_modules"),
        ("sft", {"lora": {"r": 0}}, "lora.r: must be at least 1, got 0"),
        ("sft", {"freeze_embeddings": "perhaps"}, "freeze_embeddings: expected true or false, got 'perhaps'"),
        ("sft", {"packing": True}, "packing cannot be set: every row is trained on its own"),
        ("dpo", {"push_to_hub": True}, "push_to_hub cannot be set: interalign uploads nothing"),
        ("dpo", {"hub_token": "x"}, "hub_token cannot be set: interalign uploads nothing"),
        ("dpo", {"trust_remote_code": True}, "trust_remote_code cannot be set: interalign runs no code"),
        ("sft", {"completion_only_loss": False}, "completion_only_loss cannot be set: the loss always falls on"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(method, given, message):
    with pytest.raises(ConfigError) as refusal:
        read_settings(method, given)

    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "expected `name: value` lines, got a list"),
        (b"a: [1", "cannot be read as YAML"),
        (b"\xff", "YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "train.yaml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=f"train.yaml: .*{message}"):
        read_settings("sft", path)
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read"):
        read_settings("sft", tmp_path / "gone.yaml")


@pytest.mark.train
@pytest.mark.usefixtures("trl")
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_every_default_of_trl_is_a_value_its_key_may_have(method):
    # The kinds are read from TRL's own annotations; this is the tripwire for one we could not read.
    accepted = 0
    for field in dataclasses.fields(config_class(method)):
        default = field.default_factory() if field.default is dataclasses.MISSING else field.default
        try:
            assert field.name in read_settings(method, {field.name: default}).trl
            accepted += 1
        except ConfigError as refusal:
            assert "cannot be set" in str(refusal)  # noqa: PT017 (most keys must not raise at all)
    assert accepted > 100


@pytest.mark.train
@pytest.mark.usefixtures("trl")
def test_the_documented_settings_are_settings(tmp_path):
    page = (Path(__file__).parent.parent / "docs" / "data-format.md").read_text(encoding="utf-8")
    shown = tmp_path / "train.yaml"
    shown.write_text(page.partition("```yaml\n")[2].partition("```")[0])

    settings = read_settings("sft", shown)

    assert settings.trl["learning_rate"] == 1e-5
    assert settings.trl["bf16"] is True
    assert "model_init_kwargs" not in settings.trl  # weights in bfloat16 and 1e-5 do not go together
    assert settings.lora == LoraSettings()
