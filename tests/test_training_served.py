"""What is served is what was trained: the saved folder answers as the model did, however the adapter sits on it."""

import json
from dataclasses import replace
from typing import ClassVar

import pytest
from training_runs import dpo_rows, sft_rows, weights, write

from interalign.errors import ConfigError
from interalign.training.dpo import train_dpo
from interalign.training.fit import Job, fit
from interalign.training.library_output import quiet_libraries
from interalign.training.served import rounding
from interalign.training.settings_file import read_settings
from interalign.training.sft import SFT, sft_trainer, train_sft

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train

QUICK = {"learning_rate": 3e-2, "max_steps": 6, "per_device_train_batch_size": 4, "use_cpu": True}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def twin(base, tmp_path_factory):
    """A model of a kind of its own, whose two layers share a matrix."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    class TwinConfig(LlamaConfig):
        model_type = "twin"

    class Twin(LlamaForCausalLM):
        config_class = TwinConfig
        _tied_weights_keys: ClassVar = {
            **LlamaForCausalLM._tied_weights_keys,
            "model.layers.1.mlp.up_proj.weight": "model.layers.0.mlp.up_proj.weight",
        }

    AutoConfig.register("twin", TwinConfig)
    AutoModelForCausalLM.register(TwinConfig, Twin)
    folder = tmp_path_factory.mktemp("twin")
    settings = {key: part for key, part in config_of(base).items() if key != "model_type"}
    Twin(TwinConfig(**settings)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "sft.jsonl", *sft_rows(12))


def logits(folder, adapter=None):
    """What the model in a folder makes of a row of the training data, with an adapter on it if one is given."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_libraries():
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        model = model if adapter is None else PeftModel.from_pretrained(model, adapter)
    talk = next(iter(sft_rows(1)))["messages"]
    ids = tokenizer.apply_chat_template(talk, return_tensors="pt", return_dict=True)["input_ids"]
    with torch.no_grad():
        return model(input_ids=ids).logits[0]


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("modules", "rank"),
    [("all-linear", 8), (["embed_tokens"], 1), (["embed_tokens", "q_proj"], 40), (".*(embed_tokens|down_proj)", 2)],
)
def test_merged_weights_answer_as_base_and_adapter_do(base, data, tmp_path, modules, rank):
    lora = {"r": rank, "alpha": 64, "target_modules": modules}
    train_sft(str(base), data, tmp_path / "out", config={**QUICK, "lora": lora})

    merged, apart, before = (logits(folder) for folder in (tmp_path / "out", tmp_path / "out" / "adapter", base))
    torch.testing.assert_close(merged, apart, rtol=1e-4, atol=1e-4)
    assert (merged - before).abs().max() > 0.01


def test_an_adapter_on_tied_embeddings_changes_what_is_read_and_not_what_is_written(base, data, tmp_path):
    train_sft(str(base), data, tmp_path / "out", config={**QUICK, "lora": {"target_modules": ["embed_tokens"]}})

    before, after = weights(base), weights(tmp_path / "out")
    assert HEAD not in before
    assert torch.equal(after[HEAD], before[EMBEDDING])
    assert not torch.equal(after[EMBEDDING], before[EMBEDDING])
    assert config_of(tmp_path / "out")["tie_word_embeddings"] is False


@pytest.mark.parametrize("modules", [["lm_head"], ["q_proj", "lm_head"]])
def test_an_adapter_on_the_output_layer_is_refused_before_training(base, data, tmp_path, modules):
    """TRL computes the loss past it, so that it would never be trained."""
    with pytest.raises(ConfigError, match=r"^TRL refuses the run: .*lm_head.* is not supported"):
        train_sft(str(base), data, tmp_path / "out", config={**QUICK, "lora": {"target_modules": modules}})
    assert not (tmp_path / "out" / "interalign_training.json").exists()


def test_tied_embeddings_without_an_adapter_stay_one_tensor(base, data, tmp_path):
    train_sft(str(base), data, tmp_path / "out", config=QUICK, lora=True)

    assert HEAD not in weights(tmp_path / "out")
    assert config_of(tmp_path / "out")["tie_word_embeddings"] is True


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["lm_head"]},
        {"target_modules": ["embed_tokens", "lm_head", "up_proj"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["embed_tokens", "q_proj"], "use_rslora": True},
        {"target_modules": ["q_proj", "down_proj"], "use_dora": True},
        {"target_modules": ["embed_tokens"], "ensure_weight_tying": True},
        {"target_modules": ["q_proj"], "trainable_token_indices": [3, 70]},
    ],
    ids=lambda options: " ".join(str(part) for pair in options.items() for part in pair),
)
@pytest.mark.filterwarnings("ignore")  # PEFT advises against each of these, which is why they are here
def test_adapters_made_elsewhere_answer_the_same_when_dpo_starts_from_them(base, tmp_path, options):
    """DPO is to be held against that adapter, so its model before the first step is base and adapter, merged."""
    adapter = _foreign_adapter(base, tmp_path / "adapter", options)
    data = write(tmp_path / "dpo.jsonl", *dpo_rows(4))
    train_dpo(str(adapter), data, tmp_path / "out", config={**QUICK, "max_steps": 1, "learning_rate": 0.0})

    known = logits(base, adapter)
    torch.testing.assert_close(logits(tmp_path / "out"), known, rtol=1e-4, atol=1e-4)
    assert (known - logits(base)).abs().max() > 0.01


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options", [{"lora_bias": True}, {"alora_invocation_tokens": [5]}], ids=["bias", "activated by a token"]
)
def test_an_adapter_of_a_kind_that_cannot_be_merged_is_refused_before_training(base, tmp_path, options):
    adapter = _foreign_adapter(base, tmp_path / "adapter", {"target_modules": ["q_proj"], **options})

    with pytest.raises(ConfigError, match=r"^cannot load the model .*adapter: this adapter cannot be merged into its"):
        train_dpo(str(adapter), write(tmp_path / "dpo.jsonl", *dpo_rows(4)), tmp_path / "out", config=QUICK)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_answers_otherwise_once_it_is_merged_is_refused_before_training(twin, tmp_path):
    adapter = _foreign_adapter(twin, tmp_path / "adapter", {"target_modules": r".*layers\.0\.mlp\.up_proj"})

    with pytest.raises(
        ConfigError, match=r"adapter: merged, the adapter answers otherwise: on 4 rows .* differ by 0\.\d"
    ):
        train_dpo(str(adapter), write(tmp_path / "dpo.jsonl", *dpo_rows(4)), tmp_path / "out", config=QUICK)
    assert not (tmp_path / "out").exists()


def _foreign_adapter(base, folder, options):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = LoraConfig(r=4, lora_alpha=32, init_lora_weights=False, task_type="CAUSAL_LM", **options)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    adapted.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def test_a_lora_run_that_began_from_an_adapter_leaves_no_adapter_that_would_lack_it(base, data, tmp_path):
    train_sft(str(base), data, tmp_path / "sft", config=QUICK, lora=True)
    pairs = write(tmp_path / "dpo.jsonl", *dpo_rows(8))

    train_dpo(str(tmp_path / "sft" / "adapter"), pairs, tmp_path / "dpo", config=QUICK, lora=True)

    assert (tmp_path / "sft" / "adapter").is_dir()
    assert not (tmp_path / "dpo" / "adapter").exists()
    assert "began from an adapter: merged weights only" in (tmp_path / "dpo" / "README.md").read_text()


@pytest.mark.parametrize(
    ("dtype", "config"),
    [
        ("float32", {"freeze_embeddings": True}),
        ("bfloat16", {}),
        ("bfloat16", {"lora": {"r": 4}}),
        ("float16", {"lora": {"r": 4, "target_modules": ["embed_tokens", "v_proj"]}}),
    ],
)
def test_weights_of_every_kind_come_back_as_they_were_trained(base, data, tmp_path, dtype, config):
    init = {"model_init_kwargs": {"dtype": dtype}}
    train_sft(str(base), data, tmp_path / "out", config={**QUICK, "learning_rate": 1e-3, **init, **config})

    saved = weights(tmp_path / "out")
    assert {str(part.dtype) for part in saved.values()} == {f"torch.{dtype}"}
    assert (tmp_path / "out" / "interalign_training.json").is_file()


def test_a_model_trained_in_mixed_precision_is_compared_in_the_precision_it_is_saved_in(base, data, tmp_path):
    result = train_sft(str(base), data, tmp_path / "out", config={**QUICK, "learning_rate": 1e-3, "bf16": True})

    assert result.status == "trained"
    assert {part.dtype for part in weights(tmp_path / "out").values()} == {torch.float32}


def _louder(prepared):
    """A trainer whose model says everything half as loud again, by a hook that no folder keeps."""
    prepared.model.get_output_embeddings().register_forward_hook(lambda module, asked, said: 1.5 * said)
    return sft_trainer(prepared)


@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "LoRA"])
def test_a_folder_that_answers_otherwise_than_what_was_trained_is_refused_and_holds_no_model(
    base, data, tmp_path, lora
):
    out = tmp_path / "out"
    job = Job(read_settings("sft", {**QUICK, "save_steps": 3}, lora=lora), str(base), data, out)

    with pytest.raises(ConfigError) as refusal:
        fit(job, replace(SFT, trainer=_louder))

    told = str(refusal.value)
    assert told.startswith(f"{out} is not finished: the saved model does not answer as the trained one did: on 4 rows ")
    assert "the logits differ by 0.33 of their size, where rounding explains 0.00035 at most (torch.float32)" in told
    assert ("lora target_modules that leave the embeddings" in told) == lora
    assert "\n" not in told
    kept = {"interalign_training.json", "checkpoints"} | ({"adapter"} if lora else set())
    assert {path.name for path in out.iterdir()} == kept
    assert json.loads((out / "interalign_training.json").read_text())["result"] is None
    assert (out / "checkpoints" / "checkpoint-6").is_dir()


def test_a_refused_run_can_be_finished_once_the_reason_is_gone(base, data, tmp_path):
    job = Job(read_settings("sft", QUICK), str(base), data, tmp_path / "out")
    with pytest.raises(ConfigError, match="is not finished"):
        fit(job, replace(SFT, trainer=_louder))

    assert fit(job, SFT).status == "resumed"
    assert fit(job, SFT).status == "finished before"


@pytest.mark.parametrize("modules", ["all-linear", ["up_proj"], r".*layers\.0\.mlp\.up_proj"])
def test_an_adapter_on_weights_that_two_layers_share_is_refused_before_training(twin, data, tmp_path, modules):
    config = {**QUICK, "lora": {"target_modules": modules}}

    with pytest.raises(ConfigError, match=r"layers\.0\.mlp\.up_proj and .*layers\.1\.mlp\.up_proj share their weights"):
        train_sft(str(twin), data, tmp_path / "out", config=config)
    assert not (tmp_path / "out" / "interalign_training.json").exists()


def test_an_adapter_beside_weights_that_two_layers_share_is_trained_and_merged(twin, data, tmp_path):
    train_sft(str(twin), data, tmp_path / "out", config={**QUICK, "lora": {"target_modules": ["q_proj"]}})

    torch.testing.assert_close(logits(tmp_path / "out"), logits(tmp_path / "out" / "adapter"), rtol=1e-4, atol=1e-4)


def test_what_rounding_explains_depends_on_the_kind_of_number(base, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    found = [rounding(model.to(dtype)) for dtype in (torch.float32, torch.float16, torch.bfloat16)]

    assert found == pytest.approx([0.000345, 0.03125, 0.0884], rel=1e-2)


def test_a_leftover_of_a_run_killed_while_it_saved_is_replaced(base, data, tmp_path):
    half = tmp_path / "out" / "unchecked"
    with pytest.raises(KeyboardInterrupt):
        train_sft(str(base), data, tmp_path / "out", config={**QUICK, "save_steps": 2}, progress=_stop_at(5))
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")

    assert train_sft(str(base), data, tmp_path / "out", config={**QUICK, "save_steps": 2}).status == "resumed"
    assert not half.exists()
    assert len(weights(tmp_path / "out")) > 1


def _stop_at(step):
    def progress(done, total, loss):
        if done == step:
            raise KeyboardInterrupt

    return progress
