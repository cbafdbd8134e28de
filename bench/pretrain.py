"""How good is the demo's base model, and does SFT-like continuation move it? Prints one line per model and seed.

    python bench/pretrain.py --seeds 0 1 2 [--set lr=5e-3 short_talks=3500] [--sft 200] [--dpo]

The true score is read off the world directly, without graphs and ledger: this measures the model and nothing else.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from interalign.errors import BadContentError
from interalign.models.base import Parameters
from interalign.models.local import LocalModel, hf_model
from interalign.models.world import true_score, world_personas
from interalign.models.world.candidate import POLICIES, candidate_reply
from interalign.models.world.people import person_of
from interalign.models.world.user import toss, user_message
from interalign.personas import Persona
from interalign.seeds import addressed_rng, addressed_seed
from interalign.training import world_base_model as base
from interalign.tree import Message

TURNS = 10


class Turn(NamedTuple):
    prompt: tuple[Message, ...]
    replies: tuple[str, ...]
    scores: tuple[float, ...]


def next_prompt(persona: Persona, texts: Sequence[str], seed: int) -> tuple[Message, ...]:
    coins = toss(addressed_rng("bench user", seed, persona.id, len(texts)))
    said = user_message(person_of(persona), texts[::2], texts[-1] if texts else None, coins)
    return tuple(Message(role=("user", "assistant")[i % 2], content=t) for i, t in enumerate([*texts, said]))


async def one_reply(model: LocalModel, prompt: Sequence[Message], temperature: float, seed: int) -> str:
    try:
        return (await model(prompt, Parameters(temperature=temperature), seed)).text
    except BadContentError:
        return "."


async def talks(
    model: LocalModel, personas: Sequence[Persona], seed: int, samples: int = 1, temperature: float = 1.0
) -> list[list[Turn]]:
    """Ten turns with every persona, `samples` replies a turn, of which the best goes on."""

    async def talk(persona: Persona) -> list[Turn]:
        texts: list[str] = []
        turns: list[Turn] = []
        for turn in range(TURNS):
            prompt = next_prompt(persona, texts, seed)
            seeds = [addressed_seed("bench", seed, persona.id, turn, sample) for sample in range(samples)]
            replies = await asyncio.gather(*(one_reply(model, prompt, temperature, s) for s in seeds))
            scores = tuple(true_score(persona, prompt, reply) for reply in replies)
            turns.append(Turn(prompt, tuple(replies), scores))
            texts = [*(message.content for message in prompt), replies[int(np.argmax(scores))]]
        return turns

    return await asyncio.gather(*(talk(persona) for persona in personas))


def scripted(policy: str, personas: Sequence[Persona], seed: int) -> list[list[Turn]]:
    found = []
    for persona in personas:
        texts: list[str] = []
        turns = []
        for turn in range(TURNS):
            prompt = next_prompt(persona, texts, seed)
            users = [message.content for message in prompt if message.role == "user"]
            reply = candidate_reply(
                POLICIES[policy], users, None, addressed_rng("bench", policy, seed, persona.id, turn)
            )
            turns.append(Turn(prompt, (reply,), (true_score(persona, prompt, reply),)))
            texts = [*(message.content for message in prompt), reply]
        found.append(turns)
    return found


def figures(all_turns: Sequence[Sequence[Turn]]) -> dict:
    scores = np.array([[turn.scores[0] for turn in turns] for turns in all_turns])
    levels = scores.mean(0)
    slope = float(np.polyfit(np.arange(1, TURNS + 1), levels, 1)[0])
    return {
        "al": [round(float(level), 2) for level in levels],
        "mean": round(float(scores.mean()), 3),
        "ir": round(slope, 3),
    }


def sft_talks(tokenizer, trees: int, policy: str, seed: int) -> list[base.Encoded]:
    """Ten-turn talks in which the better of two scripted replies, one with and one without the hint, goes on.

    One row a talk trains all its replies at once. The product trains one row a reply, which reads a talk ten times.
    """
    rows = []
    for persona in world_personas("train", trees, seed):
        texts: list[str] = []
        for turn in range(TURNS):
            prompt = next_prompt(persona, texts, seed)
            users = [message.content for message in prompt if message.role == "user"]
            rng = addressed_rng("bench caterpillar", seed, persona.id, turn)
            replies = [candidate_reply(way, users, None, rng) for way in (POLICIES[policy], POLICIES[policy].hinted)]
            best = max(replies, key=lambda reply: true_score(persona, prompt, reply))
            texts = [*(message.content for message in prompt), best]
        talk = [Message(role=("user", "assistant")[i % 2], content=text) for i, text in enumerate(texts)]
        rows.append(base.encode(tokenizer, talk))
    return rows


def row(tokenizer, prompt: Sequence[Message], reply: str) -> base.Encoded:
    """Prompt and reply; only the reply is a target."""
    encoded = base.encode(tokenizer, [*prompt, Message(role="assistant", content=reply)])
    start = len(encoded.targets) - encoded.targets[::-1].index(False)
    return base.Encoded(encoded.ids, [flag and place >= start for place, flag in enumerate(encoded.targets)])


def continue_on(
    folder: Path, out: Path, rows: Sequence[base.Encoded], lr: float, batch: int, epochs: int, seed: int
) -> None:
    """SFT: AdamW, cosine, `batch` rows a step, embeddings frozen."""
    model, tokenizer = loaded(folder)
    order = [r for epoch in range(epochs) for r in addressed_rng("sft", seed, epoch).sample(rows, len(rows))]
    step_all(model, [order[i : i + batch] for i in range(0, len(order), batch)], base.reply_loss, lr)
    save(model, tokenizer, out)


def dpo_round(
    folder: Path, out: Path, found: Sequence[Sequence[Turn]], lr: float, beta: float, trees: int, seed: int
) -> int:
    """DPO on best against worst of every turn; the start is the reference; `trees` trees a step."""
    model, tokenizer = loaded(folder)
    reference, _ = loaded(folder)
    by_tree = [tree for turns in found if (tree := tree_pairs(tokenizer, turns))]
    addressed_rng("dpo", seed).shuffle(by_tree)
    batches = [[pair for tree in by_tree[i : i + trees] for pair in tree] for i in range(0, len(by_tree), trees)]

    def loss(model, batch):
        flat = [side for pair in batch for side in pair]
        with torch.no_grad():
            before = log_likelihood(reference, flat)
        margins = beta * (log_likelihood(model, flat) - before).view(-1, 2).diff(dim=1)
        return torch.nn.functional.softplus(margins).mean()

    step_all(model, batches, loss, lr)
    save(model, tokenizer, out)
    return sum(map(len, by_tree))


def tree_pairs(tokenizer, turns: Sequence[Turn]) -> list[tuple[base.Encoded, base.Encoded]]:
    pairs = []
    for turn in turns:
        best, worst = int(np.argmax(turn.scores)), int(np.argmin(turn.scores))
        if turn.scores[best] - turn.scores[worst] > 0.1:
            pairs.append(
                (row(tokenizer, turn.prompt, turn.replies[best]), row(tokenizer, turn.prompt, turn.replies[worst]))
            )
    return pairs


def log_likelihood(model, rows: Sequence[base.Encoded]):
    """Sum of the log-probabilities of each row's targets, [rows]."""
    ids, targets = base._padded(rows)
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    wanted = targets[:, 1:]
    said = model.lm_head(hidden[wanted]).log_softmax(-1).gather(1, ids[:, 1:][wanted].unsqueeze(1)).squeeze(1)
    return torch.zeros(len(rows)).index_add(0, wanted.nonzero()[:, 0], said)


def loaded(folder: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    base.freeze_embeddings(model)
    return model, AutoTokenizer.from_pretrained(folder)


def save(model, tokenizer, out: Path) -> None:
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def step_all(model, batches, loss_of, lr: float) -> None:
    optimizer = torch.optim.AdamW(
        [w for w in model.parameters() if w.requires_grad], lr=lr, betas=(0.9, 0.98), weight_decay=0.0
    )
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = lr * base._schedule(step, len(batches), 0.05)
        loss = loss_of(model, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def measure(folder: Path | str, seed: int, temperature: float = 1.0, query: str = "") -> dict:
    started = time.process_time()
    model = hf_model(f"hf:{folder}{query}")
    found = asyncio.run(talks(model, world_personas("heldout", 64, seed), seed, temperature=temperature))
    return {**figures(found), "eval_cpu_s": round(time.process_time() - started, 1)}


def report(seed: int, what: str, **values: object) -> None:
    print(json.dumps({"seed": seed, "model": what, **values}), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="fields of BaseRecipe")
    parser.add_argument("--out", type=Path, default=None, help="keep the models here; a base that is there is used")
    parser.add_argument("--scripted", action="store_true", help="the scripted candidates, for comparison")
    parser.add_argument("--sft", type=int, default=0, metavar="TREES", help="go on with SFT on so many caterpillars")
    parser.add_argument("--policy", default="attentive", help="who speaks in them")
    parser.add_argument("--sft-batch", type=int, default=4, metavar="TALKS")
    parser.add_argument("--sft-epochs", type=int, default=2)
    parser.add_argument("--sft-lr", type=float, default=1e-3)
    parser.add_argument("--dpo", type=int, default=0, metavar="ROUNDS", help="then so many rounds of on-policy DPO")
    parser.add_argument("--dpo-lr", type=float, default=1e-3)
    parser.add_argument("--dpo-trees", type=int, default=8, metavar="TREES", help="trees of one DPO step")
    parser.add_argument("--beta", type=float, default=0.1)
    return parser.parse_args()


def main() -> None:
    asked = parse()
    torch.set_num_threads(1)
    home = asked.out or Path(tempfile.mkdtemp(prefix="bench-"))
    for seed in asked.seeds:
        if asked.scripted:
            personas = world_personas("heldout", 64, seed)
            for policy in POLICIES:
                report(seed, policy, **figures(scripted(policy, personas, seed)))
        folder = home / f"base-{seed}"
        run_base(asked, folder, seed)
        if asked.sft:
            folder = run_sft(asked, folder, home / f"sft-{seed}", seed)
        for number in range(asked.dpo):
            folder = run_dpo(asked, folder, home / f"dpo{number + 1}-{seed}", seed, number)


def run_base(asked: argparse.Namespace, folder: Path, seed: int) -> None:
    if not (folder / "base.json").exists():
        recipe = base.BaseRecipe.model_validate(dict(pair.split("=", 1) for pair in asked.set))
        started = time.process_time()
        card = base.make_base(folder, seed=seed, recipe=recipe)
        report(
            seed, "base", cpu_s=round(time.process_time() - started, 1), **card.model_dump(exclude={"recipe", "seed"})
        )
    report(seed, "base", T=1, **measure(folder, seed))


def run_sft(asked: argparse.Namespace, folder: Path, out: Path, seed: int) -> Path:
    started = time.process_time()
    rows = sft_talks(base.world_tokenizer(), asked.sft, asked.policy, seed)
    continue_on(folder, out, rows, asked.sft_lr, asked.sft_batch, asked.sft_epochs, seed)
    report(seed, "sft", rows=len(rows), cpu_s=round(time.process_time() - started, 1), **measure(out, seed))
    return out


def run_dpo(asked: argparse.Namespace, folder: Path, out: Path, seed: int, number: int) -> Path:
    started = time.process_time()
    personas = world_personas("train", 64 * (number + 1), seed + 1000)[64 * number :]
    found = asyncio.run(talks(hf_model(f"hf:{folder}"), personas, seed + 1000 + number, samples=4))
    sampled = time.process_time()
    pairs = dpo_round(folder, out, found, asked.dpo_lr, asked.beta, asked.dpo_trees, seed)
    report(seed, out.name, pairs=pairs, sample_cpu_s=round(sampled - started, 1),
           dpo_cpu_s=round(time.process_time() - sampled, 1), **measure(out, seed))  # fmt: skip
    return out


if __name__ == "__main__":
    main()
