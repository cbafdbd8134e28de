"""TreeDPOTrainer against TRL's DPOTrainer on the same pairs: loss, gradients and metrics are the same numbers."""

import importlib.util
import logging
import math
import sys
import types
from pathlib import Path

import pytest
from tree_pairs import pairs_of_tree, tiny, trainer

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore::FutureWarning")]

SHAPES = ("caterpillar", "binary", "ternary", "uneven")
LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
OURS = {"tree/packed_tokens", "tree/sharing"}
TIMES = {"train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "epoch"}


@pytest.fixture(autouse=True)
def quiet():
    from interalign.training.library_output import quiet_libraries

    with quiet_libraries():
        yield


@pytest.fixture
def exact(monkeypatch):
    """Both trainers in float64: norms and TRL's fused head compute in float32 whatever the model's type."""
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
    from trl.trainer import utils

    def norm(self, hidden):
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    class Head:
        @staticmethod
        def apply(hidden, weight, bias, labels, temperature, chunk, softcap, scale, outputs):
            logits = torch.nn.functional.linear(hidden, weight, bias)
            logs = logits.log_softmax(-1)
            known = logs.gather(-1, labels[:, None])[:, 0]
            entropy, top = -(logs.exp() * logs).sum(-1), logits.argmax(-1) == labels
            return known, entropy.detach(), None, logits.mean(-1).detach(), top

    monkeypatch.setattr(Qwen2RMSNorm, "forward", norm)
    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Head)


def one_step(which, pairs, out, *, model=None, reference=True, trees=1, **settings):
    """The trainer after one optimisation step over all pairs, the gradients of that step, and what it logged."""
    model = model or tiny()
    seen = {}
    made = trainer(
        which, model, pairs, out, reference=_like(model) if reference else None,
        per_device_train_batch_size=len(pairs) if which == "pairs" else trees, **settings,
    )  # fmt: skip
    made.create_optimizer()
    step = made.optimizer.step

    def keep(*args, **kwargs):
        seen.update({n: w.grad.clone() for n, w in made.model.named_parameters() if w.grad is not None})
        return step(*args, **kwargs)

    made.optimizer.step = keep
    made.train()
    return made, seen, made.state.log_history[0]


def _like(model):
    """A reference that is not the policy: a step of noise away from it."""
    import copy

    torch.manual_seed(1)
    other = copy.deepcopy(model)
    for weight in other.parameters():
        weight.data.add_(0.05 * torch.randn_like(weight))
    return other


def assert_same(known, found, rel):
    (_, gradients, log), (_, ours, our_log) = known, found
    assert gradients.keys() == ours.keys()
    for name, gradient in gradients.items():
        # A gradient that is nothing but rounding is held against the size of the others.
        apart = (gradient - ours[name]).norm() / max(gradient.norm().item(), 1e-2 * _size(gradients), 1e-2)
        assert apart <= rel, name
    assert our_log.keys() - OURS == log.keys()
    for name in log.keys() - TIMES:
        # A rejected reply's mean logit may be near zero: of the figures' own size, not of their difference from it.
        assert our_log[name] == pytest.approx(log[name], rel=rel, abs=rel), name


def _size(gradients) -> float:
    return max(gradient.norm().item() for gradient in gradients.values())


@pytest.mark.parametrize("shape", SHAPES)
def test_loss_every_gradient_and_every_metric_are_trls_in_float64(shape, exact, tmp_path):
    pairs = [pair for name in "ab" for pair in pairs_of_tree(name, shape)]
    known = one_step("pairs", pairs, tmp_path, model=tiny(dtype="float64"))
    found = one_step("tree", pairs, tmp_path, model=tiny(dtype="float64"), trees=2)

    assert_same(known, found, 1e-10)
    assert found[2]["tree/sharing"] > 1.5


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_of_trl_is_the_same(loss, tmp_path):
    settings = {"loss_type": [loss], "label_smoothing": 0.1 if loss in ("exo_pair", "robust") else 0.0}
    pairs = pairs_of_tree("a", "uneven")
    known, found = (one_step(which, pairs, tmp_path, **settings) for which in ("pairs", "tree"))

    assert_same(known, found, 1e-4 if loss == "discopop" else 2e-5)


@pytest.mark.parametrize(
    "settings",
    [{"use_weighting": True}, {"ld_alpha": 0.5}, {"f_divergence_type": "js_divergence"}, {"max_length": 16}],
    ids=str,
)
def test_other_settings_of_trl_are_the_same_too(settings, tmp_path):
    pairs = pairs_of_tree("a", "caterpillar", turns=2)
    known, found = (one_step(which, pairs, tmp_path, **settings) for which in ("pairs", "tree"))

    assert_same(known, found, 2e-5)


SIBLINGS = [
    ("equal replies", [([7, 8], [9, 10, 2], [9, 10, 2])]),
    ("a branch of one token", [([7, 8], [9], [10])]),
    ("a chosen reply that begins the rejected one", [([7, 8], [9, 2], [9, 2, 11, 12])]),
    ("a rejected reply that begins the chosen one", [([7, 8], [9, 2, 11], [9, 2])]),
    ("a reply that is also the next prompt", [([7, 8], [9, 10], [11]), ([7, 8, 9, 10], [11], [12])]),
    ("no shared token", [([7], [8], [9]), ([10], [8], [9])]),
]


@pytest.mark.parametrize("rows", [rows for _, rows in SIBLINGS], ids=[name for name, _ in SIBLINGS])
def test_odd_siblings_are_the_same(rows, tmp_path):
    pairs = [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r, "tree": "t"} for p, c, r in rows]
    known, found = (one_step(which, pairs, tmp_path) for which in ("pairs", "tree"))

    assert_same(known, found, 2e-5)


FAMILIES = {
    "Qwen3": {},
    "Llama": {"tie_word_embeddings": True},
    "Gemma": {},
    "Qwen2 with eager attention": {"attn_implementation": "eager"},
    "Mistral with a window": {"sliding_window": 6},
    "Gemma2 with alternating windows": {"sliding_window": 6, "attn_implementation": "eager"},
    "Gemma3Text with alternating windows": {
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "GPT2 with learnt positions": {"n_positions": 512, "n_embd": 32, "n_layer": 2, "n_head": 4},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_model_families_are_the_same(family, tmp_path):
    pairs = pairs_of_tree("a", "uneven")
    kind = family.partition(" ")[0]
    models = [tiny(kind, **FAMILIES[family]) for _ in range(2)]
    known = one_step("pairs", pairs, tmp_path, model=models[0])
    found = one_step("tree", pairs, tmp_path, model=models[1])

    assert found[0].fell_back is None
    assert_same(known, found, 5e-5)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
def test_lora_whose_reference_is_the_model_without_its_adapter_is_the_same(checkpointing, tmp_path):
    from peft import LoraConfig

    config = LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "v_proj", "up_proj"])
    settings = {"peft_config": config, "reference": False, "activation_checkpointing": checkpointing}
    pairs = pairs_of_tree("a", "uneven")
    known, found = (one_step(which, pairs, tmp_path, **settings) for which in ("pairs", "tree"))

    assert len(found[1]) == 2 * 2 * 3
    assert_same(known, found, 2e-5)


def test_gradient_checkpointing_of_all_weights_is_the_same(tmp_path):
    pairs = pairs_of_tree("a", "binary")
    known, found = (one_step(which, pairs, tmp_path, activation_checkpointing=True) for which in ("pairs", "tree"))

    assert_same(known, found, 2e-5)


@pytest.mark.parametrize("limit", [None, 70, 1])
def test_a_tree_read_in_parts_is_the_same(limit, tmp_path):
    pairs = pairs_of_tree("a", "binary")
    known = one_step("pairs", pairs, tmp_path)
    found = one_step("tree", pairs, tmp_path, max_tree_tokens=limit)

    assert_same(known, found, 2e-5)


def test_accumulated_trees_of_unequal_size_weigh_by_their_pairs(exact, tmp_path):
    pairs = [*pairs_of_tree("a", "binary"), *pairs_of_tree("b", "caterpillar", turns=1)]
    assert len(pairs) == 16
    known = one_step("pairs", pairs, tmp_path, model=tiny(dtype="float64"))
    found = one_step("tree", pairs, tmp_path, model=tiny(dtype="float64"), gradient_accumulation_steps=2)

    # Means over tokens are means over batches of means here, and TRL counts accuracies in float32.
    by_token = {"entropy", "logits/chosen", "logits/rejected", "mean_token_accuracy", "rewards/accuracies"}
    logs = [{key: value for key, value in log.items() if key not in by_token} for log in (known[2], found[2])]
    assert_same((*known[:2], logs[0]), (*found[:2], logs[1]), 1e-10)
    assert found[2]["rewards/accuracies"] == pytest.approx(known[2]["rewards/accuracies"], rel=1e-6)


def test_a_hundred_steps_stay_together_in_float64(exact, tmp_path):
    pairs = [pair for name in "ab" for pair in pairs_of_tree(name, "uneven", turns=3)]
    known, found = (
        one_step(which, pairs, tmp_path, model=tiny(dtype="float64"), trees=2, max_steps=100, learning_rate=1e-3)[0]
        for which in ("pairs", "tree")
    )

    losses = [[line["loss"] for line in made.state.log_history if "loss" in line] for made in (known, found)]
    assert len(losses[0]) == 100
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    assert losses[1][-1] < losses[1][0] / 2
    start = dict(tiny(dtype="float64").named_parameters())
    ours = dict(found.model.named_parameters())
    for name, weight in known.model.named_parameters():
        moved = (weight - start[name]).norm().item()
        assert (weight - ours[name]).norm().item() <= 1e-8 * moved, name


def test_an_evaluation_is_the_same(tmp_path):
    pairs = pairs_of_tree("a", "uneven")
    model = tiny()
    logs = [
        trainer(
            which, model if which == "pairs" else tiny(), pairs, tmp_path, reference=_like(model), eval_pairs=pairs,
            per_device_eval_batch_size=len(pairs) if which == "pairs" else 1,
        ).evaluate()
        for which in ("pairs", "tree")
    ]  # fmt: skip

    for name in ("eval_loss", "eval_rewards/margins", "eval_logps/chosen"):
        assert logs[1][name] == pytest.approx(logs[0][name], rel=1e-5)


def test_texts_are_tokenised_by_trl_and_a_template_that_writes_earlier_turns_anew_shares_less(tmp_path):
    from tiny import CHAT_TEMPLATE, _byte_tokenizer

    rows = [
        {
            "prompt": [{"role": "user", "content": text} for text in talk],
            "chosen": [{"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "assistant", "content": "yes no"}],
            "tree": "t",
        }
        for talk in (["one"], ["one", "two"], ["one", "two", "three"])
    ]
    anew = "{{ messages | length }}" + CHAT_TEMPLATE
    sharing = []
    for template in (CHAT_TEMPLATE, anew):
        logs = [_step_of_texts(which, rows, _byte_tokenizer(template), tmp_path) for which in ("pairs", "tree")]
        for name in ("loss", "grad_norm", "logps/chosen", "logps/rejected", "num_tokens"):
            assert logs[1][name] == pytest.approx(logs[0][name], rel=2e-5)
        sharing.append(logs[1]["tree/sharing"])
    assert sharing[0] > sharing[1] > 1


def _step_of_texts(which, rows, tokenizer, out):
    import trl
    from datasets import Dataset

    from interalign.training.tree_dpo import TreeDPOConfig, TreeDPOTrainer

    model = tiny(vocab_size=len(tokenizer))
    kind, config = (trl.DPOTrainer, trl.DPOConfig) if which == "pairs" else (TreeDPOTrainer, TreeDPOConfig)
    args = config(
        str(out), use_cpu=True, bf16=False, report_to="none", max_steps=1, logging_steps=1, save_strategy="no",
        per_device_train_batch_size=len(rows) if which == "pairs" else 1, disable_tqdm=True,
    )  # fmt: skip
    made = kind(model, _like(model), args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    made.train()
    return made.state.log_history[0]


def test_trls_own_config_will_do_and_pairs_need_name_no_tree(tmp_path):
    import trl
    from datasets import Dataset
    from tiny import CHAT_TEMPLATE, _byte_tokenizer

    from interalign.training.tree_dpo import TreeDPOTrainer

    pairs = [{k: v for k, v in pair.items() if k != "tree"} for pair in pairs_of_tree("a", "caterpillar")]
    made = TreeDPOTrainer(
        tiny(), tiny(), trl.DPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none"),
        train_dataset=Dataset.from_list(pairs), processing_class=_byte_tokenizer(CHAT_TEMPLATE),
    )  # fmt: skip
    assert len(made.train_dataset) == 1


def test_a_checkpoint_is_written_and_gone_on_from(tmp_path):
    pairs = [pair for name in "abcd" for pair in pairs_of_tree(name, "caterpillar", turns=2)]
    settings = {"per_device_train_batch_size": 1, "reference": tiny()}
    whole = trainer("tree", tiny(), pairs, tmp_path / "whole", max_steps=4, **settings)
    whole.train()
    half = trainer(
        "tree", tiny(), pairs, tmp_path / "half", max_steps=2, save_strategy="steps", save_steps=2, **settings
    )
    half.train()
    again = trainer("tree", tiny(), pairs, tmp_path / "half", max_steps=4, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "half" / "checkpoint-2"))

    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


REFUSED = [
    ("Bloom", {"n_head": 4, "n_layer": 2}, r"BloomForCausalLM \(bloom\) cannot be packed"),
    ("Mamba", {"state_size": 4}, r"MambaForCausalLM \(mamba\) cannot be packed: its layers carry a state"),
    ("Qwen2", {"attn_implementation": "flex_attention"}, "its attention flex_attention takes no mask"),
    ("Qwen2", {"layer_types": ["full_attention", "chunked_attention"]}, "layers of the kind chunked_attention"),
    ("GPTNeo", {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4}, r"\(gpt_neo\) cannot"),
]


@pytest.mark.parametrize(("kind", "changes", "words"), REFUSED, ids=[f"{k} {sorted(c)[0]}" for k, c, _ in REFUSED])
def test_a_model_that_cannot_follow_a_tree_is_refused_by_its_name(kind, changes, words, tmp_path):
    with pytest.raises(ValueError, match=words) as refused:
        trainer("tree", tiny(kind, **changes), pairs_of_tree("a", "binary"), tmp_path, reference=tiny(kind, **changes))
    assert "trl.DPOTrainer" in str(refused.value)


def test_settings_that_do_not_go_with_trees_are_refused(tmp_path):
    pairs = pairs_of_tree("a", "binary")
    with pytest.raises(ValueError, match="precompute_ref_log_probs is not supported"):
        trainer("tree", tiny(), pairs, tmp_path, reference=tiny(), precompute_ref_log_probs=True)


MUTATIONS = {
    "siblings see each other": ("attention", "& (place[:, None] < end)", ""),
    "a token does not see itself": ("attention", "(place <= place[:, None])", "(place < place[:, None])"),
    "the window is counted in the layout": ("attention", "depth[:, None] - depth <", "place[:, None] - place <"),
    "positions are places in the layout": ("trie", "np.arange(prefix, len(row.ids))", "np.arange(new.start, new.stop)"),
    "a branching token stands once only": ("trie", "else max(same - 1, 0)", "else same"),
    "a subtree ends too late": ("trie", "end[path[prefix:]] = used  #", "end[path[prefix:]] = used + 1  #"),
}  # fmt: skip


@pytest.mark.parametrize("planted", MUTATIONS)
def test_a_planted_bug_is_found_by_the_check_of_the_first_batch_and_training_goes_on_with_pairs(
    planted, tmp_path, monkeypatch, caplog
):
    pairs = pairs_of_tree("a", "binary")
    family = ("Mistral", {"sliding_window": 6})
    known = one_step("pairs", pairs, tmp_path, model=tiny(family[0], **family[1]))
    made = trainer("tree", tiny(family[0], **family[1]), pairs, tmp_path, reference=_like(tiny(family[0], **family[1])))
    plant(monkeypatch, *MUTATIONS[planted])
    with caplog.at_level(logging.WARNING, logger="interalign"):
        made.train()

    assert "training goes on with plain pairs" in caplog.text
    assert made.state.log_history[0]["loss"] == pytest.approx(known[2]["loss"], rel=1e-5)
    assert not OURS & made.state.log_history[0].keys()


def plant(monkeypatch, module: str, right: str, wrong: str) -> None:
    """Put a version of a module with one text changed in the places where it is used."""
    whole = sys.modules[f"interalign.training.packing.{module}"]
    source = Path(whole.__file__).read_text()
    assert source.count(right) == 1
    spec = importlib.util.spec_from_loader("planted", loader=None)
    other = importlib.util.module_from_spec(spec)
    exec(compile(source.replace(right, wrong), "planted", "exec"), vars(other))
    for user in [each for name, each in sys.modules.items() if name.startswith("interalign.training.packing.")]:
        for name, value in list(vars(user).items()):
            if isinstance(value, types.FunctionType) and value.__module__ == whole.__name__:
                monkeypatch.setattr(user, name, getattr(other, name))


def test_no_planted_bug_no_fall_back(tmp_path):
    made, _, log = one_step("tree", pairs_of_tree("a", "binary"), tmp_path)

    assert made.fell_back is None
    assert log["tree/packed_tokens"] < 250
    assert math.isclose(log["tree/sharing"], log["num_tokens"] / log["tree/packed_tokens"])
