"""What it saves that `hf:` models keep what they read: `python bench/local_cache.py [--models demo larger]`.

The same conversations of ten turns are grown without and with kept keys and values, one after the other in one
process. Every turn asks two siblings, as `simulate` does: the plain transcript, and the same with a hint behind its
last message; the talk goes on from the plain reply. Weights are random (what is said does not matter here), words are
the world's.

One line a run and one of medians a model:
    read      tokens put through the model to read prompts, padding included
    read CPU  CPU seconds of those forward passes
    CPU       CPU seconds of everything: reading, writing replies, laying out what was kept, event loop
"""

import argparse
import asyncio
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from interalign.models.base import Parameters
from interalign.models.local import LocalModel, hf_model
from interalign.models.world import vocabulary
from interalign.training.library_output import quiet_libraries
from interalign.training.world_base_model import BaseRecipe, new_model, world_tokenizer
from interalign.tree import Message

TURNS = 10
POSITIONS = 2048
WORDS = [word for word in vocabulary() if word.isalpha()]


@dataclass(frozen=True)
class Shape:
    """How much is said, in words of one token each."""

    trees: int
    message: int
    reply: int
    hint: int


SHAPES = {
    "demo": Shape(trees=16, message=16, reply=20, hint=30),
    "larger": Shape(trees=4, message=50, reply=40, hint=60),
}


@dataclass
class Cost:
    read: int = 0
    read_cpu: float = 0.0
    cpu: float = 0.0
    prompt: int = 0
    """Tokens of all prompts: what is read if nothing is shared."""


def save_model(kind: str, folder: Path) -> int:
    torch.manual_seed(0)
    tokenizer = world_tokenizer(POSITIONS)
    if kind == "demo":
        model = new_model(tokenizer, BaseRecipe(positions=POSITIONS))
    else:
        sizes = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8}
        model = LlamaForCausalLM(
            LlamaConfig(**sizes, vocab_size=len(tokenizer), max_position_embeddings=POSITIONS, pad_token_id=0)
        )
    # Random weights would end a reply anywhere; so that all runs do the same work, nothing ends one but its length.
    model.generation_config.eos_token_id = tokenizer.eos_token = None
    with quiet_libraries():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return model.num_parameters()


def words(*address: object, count: int) -> str:
    return " ".join(random.Random(str(address)).choices(WORDS, k=count))


async def conversation(model: LocalModel, tree: int, shape: Shape, cost: Cost) -> None:
    texts: list[str] = []
    parameters = Parameters(temperature=1.0, max_tokens=shape.reply)
    for turn in range(TURNS):
        texts.append(words(tree, turn, count=shape.message))
        prompts = [chat(texts), chat([*texts[:-1], f"{texts[-1]} {words('hint', tree, turn, count=shape.hint)}"])]
        replies = await asyncio.gather(*(model(p, parameters, 100 * tree + turn) for p in prompts))
        cost.prompt += sum(reply.prompt_tokens for reply in replies)
        texts.append(replies[0].text)


def chat(texts: list[str]) -> list[Message]:
    return [Message(role=("user", "assistant")[place % 2], content=text) for place, text in enumerate(texts)]


def watch(model: LocalModel, cost: Cost) -> None:
    """Count the forward passes that read; those that write have one column."""
    started = [0.0]

    def before(_module, _args, kwargs) -> None:
        started[0] = time.thread_time()

    def after(_module, _args, kwargs, _out) -> None:
        if kwargs["input_ids"].shape[1] > 1:
            cost.read += kwargs["input_ids"].numel()
            cost.read_cpu += time.thread_time() - started[0]

    inner = model._queues[0].engine.weights.model
    inner.register_forward_pre_hook(before, with_kwargs=True)
    inner.register_forward_hook(after, with_kwargs=True)


def measure(name: str, shape: Shape) -> Cost:
    model, cost = hf_model(name), Cost()
    model.load()
    watch(model, cost)

    async def grow() -> None:
        await asyncio.gather(*(conversation(model, tree, shape, cost) for tree in range(shape.trees)))

    started = time.process_time()
    asyncio.run(grow())
    cost.cpu = time.process_time() - started
    model.close()
    return cost


def show(label: str, cost: Cost) -> None:
    print(
        f"  {label:9} prompts {cost.prompt:7,}  read {cost.read:7,} tokens  read CPU {cost.read_cpu:7.2f} s"
        f"  CPU {cost.cpu:7.2f} s",
        flush=True,
    )


def compare(kind: str, repeats: int) -> None:
    shape, pairs = SHAPES[kind], []
    with tempfile.TemporaryDirectory() as folder:
        weights = save_model(kind, Path(folder))
        print(f"{kind}: {weights / 1e6:.1f} M weights, {shape.trees} conversations of {TURNS} turns, two siblings each")
        for _ in range(repeats):
            costs = [measure(f"hf:{folder}?cache_mb={room}", shape) for room in (0, 1024)]
            show("anew", costs[0])
            show("kept", costs[1])
            pairs.append(costs)
    for what in ("read", "read_cpu", "cpu"):
        ratios = [getattr(anew, what) / getattr(kept, what) for anew, kept in pairs]
        print(f"  anew / kept, {what:8}: median {median(ratios):.2f} of {', '.join(f'{r:.2f}' for r in ratios)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    for each in arguments.models:
        compare(each, arguments.repeats)
