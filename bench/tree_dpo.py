"""DPO over packed trees against TRL's own: `python bench/tree_dpo.py [--trees 16] [--width 256] [--repeats 2]`.

The same preference pairs (caterpillars of ten turns, two replies a turn, user : reply 1 : 2 in tokens) train a random
Qwen2 for one epoch, each way in a process of its own on one thread:

    tree      TreeDPOTrainer, one tree a batch
    sorted    TRL's DPOTrainer, batches of the size that reads a tree's pairs, rows of like length together
    default   TRL's DPOTrainer, shuffled batches of 4

Prints, for each: tokens put through the model a pair (policy, forward), CPU seconds a tree, peak memory; then the
ratios to `tree`. Weights are random: what is learnt does not matter here (that it is the same, tests hold).
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

TURNS, USER, REPLY = 10, 20, 40
WAYS = ("tree", "sorted", "default")
VOCABULARY = 4096
GOALS = {"tokens": 6.0, "sorted": 4.5, "default": 7.0}


def pairs(trees: int) -> Iterator[dict[str, Any]]:
    """Token ids of the pairs of all trees; the chosen reply is the one that is continued."""
    draw = random.Random(0)

    def words(count: int) -> list[int]:
        return [draw.randrange(5, VOCABULARY) for _ in range(count)]

    for tree in range(trees):
        prompt: list[int] = []
        for _ in range(TURNS):
            prompt = prompt + words(USER)
            chosen, rejected = words(REPLY), words(REPLY)
            row = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
            yield {**row, "tree": str(tree), "length": len(prompt) + REPLY}
            prompt = prompt + chosen


def measured(way: str, trees: int, width: int) -> dict[str, float]:
    """One epoch this way in this process: tokens a pair, CPU seconds a tree, peak memory in MB."""
    import torch
    import trl
    from datasets import Dataset
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from interalign.training.library_output import quiet_libraries
    from interalign.training.tree_dpo import TreeDPOConfig, TreeDPOTrainer
    from interalign.training.world_base_model import world_tokenizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = Qwen2Config(**sizes, num_key_value_heads=2, vocab_size=VOCABULARY, max_position_embeddings=2048)
    model, reference = Qwen2ForCausalLM(config), Qwen2ForCausalLM(config)

    class Pairs(trl.DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    batch = {"tree": 1, "sorted": TURNS, "default": 4}[way]
    order = {"sorted": "group_by_length"}.get(way, "random")
    read = 0

    def count(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal read
        ids = kwargs["input_ids"]
        packed = kwargs.get("packed")
        read += ids.numel() if packed is None else sum(part["tokens"].numel() for part in packed["parts"])

    with quiet_libraries(), tempfile.TemporaryDirectory() as out:
        made, settings = (TreeDPOTrainer, TreeDPOConfig) if way == "tree" else (Pairs, trl.DPOConfig)
        args = settings(
            out, use_cpu=True, bf16=False, report_to="none", save_strategy="no", num_train_epochs=1, disable_tqdm=True,
            per_device_train_batch_size=batch, train_sampling_strategy=order, activation_checkpointing=False,
            max_length=None, logging_steps=1000, remove_unused_columns=False,
            **({"check_first_batch": False} if way == "tree" else {}),
        )  # fmt: skip
        data = Dataset.from_list(list(pairs(trees)))
        trainer = made(
            model=model, ref_model=reference, args=args, train_dataset=data, processing_class=world_tokenizer()
        )
        model.register_forward_pre_hook(count, with_kwargs=True)
        began = time.process_time()
        trainer.train()
        seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"tokens": read / (trees * TURNS), "seconds": seconds / trees, "peak": peak}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=16)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2, help="The ways alternate; medians are printed.")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(measured(asked.way, asked.trees, asked.width)))
        return 0
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(asked.repeats):
        for way in WAYS:
            words = [sys.executable, Path(__file__), "--trees", str(asked.trees), "--width", str(asked.width)]
            done = subprocess.run([*words, "--way", way], stdout=subprocess.PIPE, text=True, check=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
    middle = {way: {name: median(run[name] for run in runs) for name in runs[0]} for way, runs in found.items()}
    print("| | tokens a pair | CPU s a tree | peak MB | tokens, x tree | CPU, x tree | goal |")
    print("|---|---|---|---|---|---|---|")
    tree = middle["tree"]
    for way, figures in middle.items():
        tokens, seconds = (figures[name] / tree[name] for name in ("tokens", "seconds"))
        goal = "" if way == "tree" else f">= {GOALS['tokens']:g} tokens, >= {GOALS[way]:g} CPU"
        print(
            f"| {way} | {figures['tokens']:.0f} | {figures['seconds']:.2f} | {figures['peak']:.0f} | {tokens:.2f} "
            f"| {seconds:.2f} | {goal} |"
        )
    holds = all(
        middle[way]["seconds"] / tree["seconds"] >= GOALS[way] and middle[way]["tokens"] / tree["tokens"] >= 6
        for way in WAYS[1:]
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
