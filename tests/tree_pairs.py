"""Trees of preference pairs as token ids, and two trainers over them: TRL's own and ours."""

import random
from collections.abc import Iterator

from tiny import CHAT_TEMPLATE, _byte_tokenizer

VOCABULARY = 261
"""The ids of the tokenizer of `tiny`, which TRL takes its padding token from."""


def pairs_of_tree(name: str, shape: str, seed: int = 0, turns: int = 4) -> list[dict]:
    """Pairs of a tree of a shape: caterpillar, binary, ternary or uneven; deeper than three turns but for ternary."""
    return list(_grow(random.Random(f"{name}{seed}"), name, shape, [], turns if shape != "ternary" else 3))


def _grow(draw: random.Random, name: str, shape: str, path: list[int], turns: int) -> Iterator[dict]:
    if not turns:
        return
    prompt = [*path, *_words(draw, 2, 5)]
    replies = [_words(draw, 3, 7) for _ in range(3 if shape == "ternary" else 2)]
    for rejected in replies[1:]:
        yield {"prompt_ids": prompt, "chosen_ids": replies[0], "rejected_ids": rejected, "tree": name}
    going_on = {"caterpillar": [draw.choice(replies)], "uneven": draw.sample(replies, draw.choice([1, 1, 2]))}
    for reply in going_on.get(shape, replies):
        yield from _grow(draw, name, shape, prompt + reply, turns - 1)


def _words(draw: random.Random, least: int, most: int) -> list[int]:
    return [draw.randrange(5, VOCABULARY) for _ in range(draw.randint(least, most))]


def tiny(kind: str = "Qwen2", *, dtype: str = "float32", seed: int = 0, **changes):
    """A random model of a family, two layers of width 32."""
    import torch
    import transformers

    torch.manual_seed(seed)
    sizes = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **changes})
    name = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM"}.get(kind, f"{kind}ForCausalLM")
    model = getattr(transformers, name)(config).to(getattr(torch, dtype))
    for weight in model.parameters():
        if weight.ndim == 1:  # norms and biases that are not all the same hide nothing
            weight.data.add_(0.1 * torch.randn_like(weight))
    return model


def trainer(
    which: str, model, pairs: list[dict], out, *, reference=None, peft_config=None, eval_pairs=None, **settings
):
    """TRL's DPOTrainer (`pairs`) or TreeDPOTrainer (`tree`) over rows of token ids."""
    import trl
    from datasets import Dataset

    from interalign.training import tree_dpo

    class Pairs(trl.DPOTrainer):
        def _prepare_dataset(self, dataset, *_):
            return dataset

    made, config = (Pairs, trl.DPOConfig) if which == "pairs" else (tree_dpo.TreeDPOTrainer, tree_dpo.TreeDPOConfig)
    args = {
        "use_cpu": True, "bf16": False, "report_to": "none", "logging_steps": 1, "save_strategy": "no", "max_steps": 1,
        "learning_rate": 1e-2, "lr_scheduler_type": "constant", "activation_checkpointing": False, "max_grad_norm": 0.0,
        "disable_tqdm": True, "train_sampling_strategy": "sequential", "beta": 0.3, **settings,
    }  # fmt: skip
    return made(
        model=model,
        ref_model=reference,
        args=config(str(out), **args),
        train_dataset=Dataset.from_list(pairs),
        eval_dataset=None if eval_pairs is None else Dataset.from_list(eval_pairs),
        processing_class=_byte_tokenizer(CHAT_TEMPLATE),
        peft_config=peft_config,
    )
