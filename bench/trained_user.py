"""Does a model that is trained on a user's messages play that user? `python bench/trained_user.py --out FOLDER`.

The user of the embedded world talks with `world:blind` and `world:oracle`; `export --format user` and `train sft` make
a tiny model of its messages, which before could read a persona's prompt and nothing else. The model then takes the
user's seat (`--user hf:FOLDER`) and meets `world:blind`, `world:average` (whom it has never met) and `world:oracle`, as
personas that it was not trained on. Beside it the scripted user itself with the same seed, and once more with another
seed: so far apart are two draws of one user. The scripted user is a function of its prompt and of chance, so the rows
hold all that it goes by.

Prints, for all seeds together, how the messages of the three differ and how the candidates come out; intervals resample
personas within seeds. Exit code 1 if a distance is larger than stated or candidates rank otherwise. Run again with the
same folder, it only reads. Figures from the embedded world validate the pipeline; they say nothing about how well a
language model plays a person.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from interalign import api
from interalign.agents.templates import builtin_prompts
from interalign.agents.user import user_prompt
from interalign.config import Runtime
from interalign.models.world import Split, world_personas
from interalign.models.world.people import Person, any_person, person_of
from interalign.models.world.people import persona_of as written_out
from interalign.models.world.reading import read_reply, read_talk, read_user, words_of
from interalign.models.world.sentences import tell
from interalign.personas import Persona
from interalign.seeds import addressed_rng
from interalign.store import Store
from interalign.training import world_base_model as base
from interalign.training.library_output import quiet_libraries
from interalign.tree import Message

BATCHED = Runtime(concurrency=64)
TURNS = 10
CANDIDATES = ("blind", "average", "oracle")
USERS = ("scripted", "again", "trained")
ALLOWED: Mapping[str, float] = {
    "facts told by turn 3": 0.5,
    "facts told by turn 10": 0.5,
    "answers what is asked": 0.1,
    "tells a fact unasked": 0.1,
    "tells a fact again": 0.05,
    "tells a wrong fact": 0.05,
    "words, short style": 1.5,
    "words, long style": 1.5,
    "emoji, if it uses any": 0.1,
    "emoji, if it uses none": 0.05,
    "exclaims, if lively": 0.1,
    "exclaims, if calm": 0.05,
    "asks about one new topic": 0.1,
    "complains of style": 0.1,
    "corrects a wrong claim": 0.2,
}
"""What is measured, and how far the trained user's mean may be from the scripted one's."""
TRAINING = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,
    "adam_beta2": 0.98,
    "share_prefixes": True,
}


class Scale(NamedTuple):
    """How much of everything."""

    talks: int
    epochs: float
    cases: int
    exercises: int
    lr: float


class Turn(NamedTuple):
    """A message of the user and the reply it got."""

    said: str
    reply: str


Counts = dict[str, tuple[float, int]]
"""Measure -> the sum over the places where it applies, and their number."""


def observed(person: Person, talk: Sequence[Turn]) -> Counts:
    """What the user did in one conversation."""
    found: Counts = {}
    for place, turn in enumerate(talk):
        before = [earlier.said for earlier in talk[:place]]
        for name, value in _of_message(person, turn.said, before, talk[place - 1].reply if place else None):
            total, count = found.get(name, (0.0, 0))
            found[name] = total + value, count + 1
    return found


def _of_message(person: Person, said: str, before: Sequence[str], reply: str | None) -> Iterator[tuple[str, float]]:
    known = read_talk(before).told if before else {}
    meanings = read_user(said).meanings
    told = [meaning.fact for meaning in meanings if meaning.kind == "told" and meaning.fact is not None]
    yield "tells a wrong fact", any(person.facts[fact.slot] != fact for fact in told)
    yield "tells a fact again", any(fact.slot in known for fact in told)
    if len(before) in (2, TURNS - 1):
        yield f"facts told by turn {len(before) + 1}", len(known.keys() | {fact.slot for fact in told})
    if reply is not None:
        yield from _of_answer(person, [fact.slot for fact in told], known.keys(), reply, meanings)
    yield from _of_style(person, said)
    topics = [meaning.topic for meaning in meanings if meaning.kind == "topic"]
    raised = {meaning.topic for text in before for meaning in read_user(text).meanings}
    yield "asks about one new topic", len(topics) == 1 and topics[0] not in raised


def _of_answer(
    person: Person, told: Sequence[int], known: object, reply: str, meanings: Sequence[object]
) -> Iterator[tuple[str, float]]:
    heard = read_reply(reply)
    kinds = [meaning.kind for meaning in meanings]
    asked = next((slot for slot in heard.asks if slot is not None and slot not in known), None)
    if asked is not None:
        yield "answers what is asked", asked in told
    elif len(known) < len(person.facts):
        yield "tells a fact unasked", any(slot not in known for slot in told)
    yield "complains of style", "complaint" in kinds
    if any(person.facts[fact.slot] != fact for fact in heard.claims):
        yield "corrects a wrong claim", "denied" in kinds


def _of_style(person: Person, said: str) -> Iterator[tuple[str, float]]:
    content = read_user(said)
    yield f"words, {'long' if person.style.long else 'short'} style", len(words_of(said))
    yield f"emoji, if it uses {'any' if person.style.emoji else 'none'}", content.emoji
    yield f"exclaims, if {'lively' if person.style.lively else 'calm'}", content.lively


# The chain


def trained(out: Path, seed: int, scale: Scale) -> str:
    """Talks of the scripted user, their rows, and the model made of them; what came out, in words."""
    api.simulate(
        out / "talks.db", trees=scale.talks, turns=TURNS, branch=2, inducer="none", judging="score", seed=seed,
        candidate=["blind=world:blind", "oracle=world:oracle"], runtime=BATCHED,
    )  # fmt: skip
    if not (out / "user.jsonl").exists():
        api.export(out / "talks.db", out / "user.jsonl", format="user")
    if not (out / "base").exists():
        base_model(out / "base", seed, scale.exercises)
    config = {**TRAINING, "learning_rate": scale.lr, "num_train_epochs": scale.epochs, "seed": seed}
    return str(api.train("sft", model=str(out / "base"), data=out / "user.jsonl", out=out / "user", config=config))


def base_model(out: Path, seed: int, exercises: int) -> None:
    """A model of 0.4 million weights that has learnt to read a persona's prompt and nothing else of the user.

    From random weights it learns the manner and not the facts: it tells any value of a slot. So exercises come first,
    as for the demo's base model.
    """
    import torch

    shown = [prompt_of(persona) for persona in world_personas("heldout", 64, 0) + world_personas("train", 512, 0)]
    tokenizer = base.world_tokenizer(texts=[text for prompt in shown for text in prompt])
    torch.manual_seed(seed)
    recipe = base.BaseRecipe()
    model = base.new_model(tokenizer, recipe)
    talks = [base.encode(tokenizer, exercise(addressed_rng("user exercise", seed, n))) for n in range(exercises)]
    if talks:
        losses, _ = base.pretrain(model, [talks], recipe)
        last = losses[-20:]
        print(f"seed {seed}: {exercises} exercises, loss {losses[0]:.2f} to {sum(last) / len(last):.2f}", flush=True)
    with quiet_libraries():
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)


def exercise(rng: Random) -> list[Message]:
    """A persona of any values, and a message that tells all its facts in some order: no talk, no style, no question."""
    person = any_person(rng)
    asked = user_prompt(builtin_prompts(), written_out(person, "exercise"), None, ())
    facts = [tell(fact) for fact in rng.sample(person.facts, len(person.facts))]
    return [*asked, Message(role="assistant", content=" ".join(facts))]


def prompt_of(persona: Persona) -> list[str]:
    """What the user's seat is sent before the first message."""
    return [message.content for message in user_prompt(builtin_prompts(), persona, None, ())]


def meet(out: Path, seed: int, scale: Scale, split: Split) -> None:
    """Each user meets all candidates."""
    file = out / f"{split}.jsonl"
    first = scale.talks if split == "train" else 0
    personas = world_personas(split, first + scale.cases, seed)[first:]
    file.write_text("".join(persona.model_dump_json() + "\n" for persona in personas), encoding="utf-8")
    models = {"scripted": "world:user", "again": "world:user", "trained": f"hf:{out / 'user'}"}
    for name, model in models.items():
        api.evaluate(
            out / f"{split}-{name}.db", cases=str(file), turns=TURNS, user=model, runtime=BATCHED,
            seed=seed + 1000 * (name == "again"), candidate=[f"{each}=world:{each}" for each in CANDIDATES],
        )  # fmt: skip


# The figures


class Seen(NamedTuple):
    """What one user did as one persona with all candidates."""

    counts: Counts
    levels: Mapping[str, float]
    """Candidate -> its mean score with this persona."""


def seen(file: Path) -> dict[str, Seen]:
    """By persona."""
    found: dict[str, Seen] = {}
    with Store.open(file) as store:
        people = store.personas()
        for judged in store.judged_trees():
            path = judged.tree.path(judged.tree.leaves()[-1].id)
            talk = [Turn(said.text, reply.text) for said, reply in zip(path[::2], path[1::2], strict=True)]
            earlier = found.get(judged.tree.persona, Seen({}, {}))
            counts = _added(earlier.counts, observed(person_of(people[judged.tree.persona]), talk))
            scores = [score.value for score in judged.scores if score.value is not None]
            levels = {**earlier.levels, path[1].by: sum(scores) / len(scores)}
            found[judged.tree.persona] = Seen(counts, levels)
    return found


def _added(one: Counts, other: Counts) -> Counts:
    none = (0.0, 0)
    pairs = {name: (one.get(name, none), other.get(name, none)) for name in one.keys() | other.keys()}
    return {name: (a[0] + b[0], a[1] + b[1]) for name, (a, b) in pairs.items()}


class Figure(NamedTuple):
    """A measure of the scripted user and another one, and their difference with its 95 % interval."""

    scripted: float
    other: float
    low: float
    high: float
    n: int
    """Places of the other user at which it was measured."""

    @property
    def apart(self) -> float:
        """The difference of the means."""
        return self.other - self.scripted


def figure(scripted: Sequence[tuple[float, int]], other: Sequence[tuple[float, int]], draws: np.ndarray) -> Figure:
    """Sums and counts by persona, the same personas on both sides; `draws`: resampled personas, a row each."""
    one, two = (np.array(side, dtype=float) for side in (scripted, other))
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = [side[draws].sum(axis=1) for side in (one, two)]
        differences = apart[1][:, 0] / apart[1][:, 1] - apart[0][:, 0] / apart[0][:, 1]
        means = [side[:, 0].sum() / side[:, 1].sum() for side in (one, two)]
    low, high = np.nanquantile(differences, [0.025, 0.975])
    return Figure(means[0], means[1], float(low), float(high), int(two[:, 1].sum()))


def draws_of(sizes: Sequence[int], resamples: int = 2000) -> np.ndarray:
    """Places of resampled personas, drawn within each seed."""
    rng, starts = np.random.default_rng(0), np.cumsum([0, *sizes[:-1]])
    parts = [start + rng.integers(0, size, (resamples, size)) for start, size in zip(starts, sizes, strict=True)]
    return np.concatenate(parts, axis=1)


def printed(found: Sequence[Mapping[str, dict[str, Seen]]], title: str) -> bool:
    """The tables of all seeds, each a user -> persona -> what was seen; whether all is as near as stated."""
    draws = draws_of([len(each["scripted"]) for each in found])
    people = [(each, persona) for each in found for persona in each["scripted"]]
    print(f"\n{title}: {len(people)} personas in {len(found)} seeds, {len(CANDIDATES)} talks of {TURNS} turns each\n")
    print("| the user's messages | scripted | trained | trained - scripted | n | scripted again - scripted | allowed |")
    print("|---|---|---|---|---|---|---|")
    near = True
    for name, allowed in ALLOWED.items():
        sides = {user: [each[user][persona].counts.get(name, (0.0, 0)) for each, persona in people] for user in USERS}
        again, model = (figure(sides["scripted"], sides[user], draws) for user in ("again", "trained"))
        near &= abs(model.apart) <= allowed
        print(
            f"| {name} | {model.scripted:.2f} | {model.other:.2f} | {_interval(model)} | {model.n} "
            f"| {_interval(again)} | {allowed:g}{'' if abs(model.apart) <= allowed else ', missed'} |"
        )
    return _levels(found, people, draws) and near


def _interval(found: Figure) -> str:
    return f"{found.apart:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _levels(
    found: Sequence[Mapping[str, dict[str, Seen]]],
    people: Sequence[tuple[Mapping[str, dict[str, Seen]], str]],
    draws: np.ndarray,
) -> bool:
    print("\n| candidate | mean AL, scripted user | trained user | trained - scripted | scripted again - scripted |")
    print("|---|---|---|---|---|")
    for name in CANDIDATES:
        sides = {user: [(each[user][persona].levels[name], 1) for each, persona in people] for user in USERS}
        again, model = (figure(sides["scripted"], sides[user], draws) for user in ("again", "trained"))
        print(f"| {name} | {model.scripted:.2f} | {model.other:.2f} | {_interval(model)} | {_interval(again)} |")
    ranks = [[ranking(each[user]) for user in USERS] for each in found]
    same = sum(one == other for one, _, other in ranks)
    print(f"\nCandidates rank the same in {same} of {len(found)} seeds: {' < '.join(ranks[0][0])}")
    return same == len(found)


def ranking(personas: Mapping[str, Seen]) -> list[str]:
    """Candidates from the lowest to the highest mean."""
    return sorted(CANDIDATES, key=lambda name: sum(each.levels[name] for each in personas.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Folder for run files and models.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--talks", type=int, default=500, help="Conversations to train on.")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--cases", type=int, default=40, help="Personas in each evaluation.")
    parser.add_argument(
        "--split", choices=("train", "heldout"), default="train", help="Whose values the personas have."
    )
    parser.add_argument("--exercises", type=int, default=2500, help="In reading a persona, before; 0: random weights.")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    asked = parser.parse_args()
    scale = Scale(asked.talks, asked.epochs, asked.cases, asked.exercises, asked.lr)
    import torch

    torch.set_num_threads(1)
    found = []
    for seed in asked.seeds:
        out, began = asked.out / f"seed-{seed}", time.process_time()
        out.mkdir(parents=True, exist_ok=True)
        print(f"seed {seed}: {trained(out, seed, scale)}", flush=True)
        meet(out, seed, scale, asked.split)
        print(f"seed {seed}: {time.process_time() - began:.0f} CPU s", flush=True)
        found.append({user: seen(out / f"{asked.split}-{user}.db") for user in USERS})
    return 0 if printed(found, f"Personas of {asked.split} values, none trained on") else 1


if __name__ == "__main__":
    sys.exit(main())
