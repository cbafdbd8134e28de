"""Carry a generation out: a pool of profiles, one of personalities, crossed; every call in a run file of its own."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from interalign.agents.numbered_people import asked_for, read_people
from interalign.agents.own_prompts import persona_prompts
from interalign.agents.reply_text import clean_reply
from interalign.agents.templates import PromptSet
from interalign.config import Parameters, PersonaSettings, Runtime
from interalign.errors import BadContentError, ConfigError, FailedTreeError, StopError
from interalign.graphs.many_trees import unwrapped
from interalign.graphs.persona_pool import PER_CALL, Judged, Kind, Lines, Pool, PoolWork, Written, grow_pool
from interalign.ledger import Calls
from interalign.models.base import ChatModel, version_of
from interalign.models.endings import Ending, ending_of
from interalign.nearest_text import NearestText
from interalign.people.crossing import crossed
from interalign.people.seeds import Seeds
from interalign.personas import Persona
from interalign.records import Place, Progress, Reply, TreeRecord
from interalign.run.session import Session, open_session, recorded_hashes, refuse_unknown_prices
from interalign.seeds import addressed_seed
from interalign.store import Store
from interalign.tree import Annotation, Message, Node
from interalign.version import __version__

ITEMS: Final = "items"
"""Name of the annotation that says what became of the items of a reply."""
_PROMPTS: Final[dict[Kind, str]] = {"profile": "persona_profiles", "personality": "persona_personalities"}
_PLURAL: Final[dict[Kind, str]] = {"profile": "profiles", "personality": "personalities"}
_SHOWN_REASONS: Final = 3


@dataclass(frozen=True)
class GeneratedPool:
    """What came of a generation."""

    personas: tuple[Persona, ...]
    pools: tuple[Pool, Pool]
    """Profiles and personalities."""
    wanted: int
    run: Path

    @property
    def shortfall(self) -> str:
        """In words what was not reached, and why; empty if everything was."""
        return "; ".join(_dry(pool) for pool in self.pools if pool.is_dry)

    def __str__(self) -> str:
        profiles, personalities = self.pools
        asked = sum(len(pool.by_call) for pool in self.pools)
        return (
            f"{len(profiles.kept):,} profiles, {len(personalities.kept):,} personalities, out of {asked:,} calls for "
            f"{PER_CALL} each (kept: {_share(profiles)} profiles, {_share(personalities)} personalities)"
        )


def _share(pool: Pool) -> str:
    """How many were kept of those that were asked for."""
    asked = PER_CALL * len(pool.by_call)
    return f"{len(pool.kept):,} of {asked:,} ({len(pool.kept) / max(1, asked):.0%})"


def _dry(pool: Pool) -> str:
    curve = ", ".join(f"{share:.0%}" for share in pool.curve)
    most = pool.reasons.most_common(_SHOWN_REASONS)
    why = f" Dropped: {', '.join(f'{count:,} {reason}' for reason, count in most)}." if most else ""
    return (
        f"only {len(pool.kept):,} of {pool.target:,} {_PLURAL[pool.kind]}: of what the last calls were asked for, "
        f"{pool.rate:.1%} was kept (per ten calls: {curve}).{why}"
    )


async def run_generation(
    path: Path, settings: PersonaSettings, seeds: Seeds, runtime: Runtime, progress: Progress | None = None
) -> GeneratedPool:
    """Generate personas; the calls are on record in `path`, and the same command goes on where it stopped.

    Raises StopError when it stopped and can be resumed, ConfigError if nothing could be made of the replies.
    """
    refuse_unknown_prices([settings.model], runtime)
    indices = seeds_held(seeds, settings)
    async with open_session(path, runtime, progress) as session:
        prompts = persona_prompts(settings, recorded_hashes(session.store.run))
        model = session.resolve(settings.model)
        session.store.begin_run(
            path.stem, "personas", _identity(settings, prompts, seeds, version_of(model)), __version__
        )
        session.share_budget()
        await session.load_models()
        writer = Writer(session.ledger, model, settings, prompts, session)
        pools = await both_pools(settings, seeds, indices, writer)
        session.note = ""
    personas = crossed(pools[0].kept, pools[1].kept, settings)
    if not personas:
        raise ConfigError(f"no persona could be made: {'; '.join(_dry(pool) for pool in pools if not pool.kept)}")
    return GeneratedPool(personas, pools, settings.n, path)


async def both_pools(
    settings: PersonaSettings, seeds: Seeds, indices: "dict[Kind, NearestText]", writer: "Writer"
) -> tuple[Pool, Pool]:
    """Profiles and personalities, collected side by side: neither depends on the other."""
    works = [writer.work(kind, settings.targets[kind], seeds.of(kind), indices[kind]) for kind in _PROMPTS]
    async with unwrapped(), asyncio.TaskGroup() as group:
        tasks = [group.create_task(grow_pool(work)) for work in works]
    profiles, personalities = (task.result() for task in tasks)
    return profiles, personalities


def seeds_held(seeds: Seeds, settings: PersonaSettings) -> dict[Kind, NearestText]:
    """By kind, what new texts are compared with at first. ConfigError for an embedding that cannot be used."""
    return {
        kind: NearestText([" ".join(lines) for lines in seeds.of(kind)], settings.threshold, settings.embedding)
        for kind in _PROMPTS
    }


def _identity(settings: PersonaSettings, prompts: PromptSet, seeds: Seeds, version: str | None) -> dict[str, JsonValue]:
    """What must not change while a generation goes on. More personas extend it."""
    dumped = settings.model_dump(mode="json", exclude={"n", "personalities", "per_profile", "seeds", "prompts"})
    texts = hashlib.sha256(json.dumps(seeds).encode()).hexdigest()[:16]
    weights: dict[str, JsonValue] = {"weights": {settings.model: version}} if version else {}
    own: dict[str, JsonValue] = {"own_prompts": dict(prompts.own)} if prompts.own else {}
    hashes: JsonValue = {name: prompts.hashes[name] for name in _PROMPTS.values()}
    return {**dumped, "seeds": f"sha256:{texts}", "prompts": hashes, **own, **weights}


@dataclass
class Writer:
    """The model that writes, and the record of what it wrote."""

    ledger: Calls
    model: ChatModel
    settings: PersonaSettings
    prompts: PromptSet
    session: Session | None = None
    """None in a dry run: nothing is kept."""
    _replies: dict[str, tuple[str, Reply, str, str]] = field(default_factory=dict)
    """By tree, until it is saved: the prompt, the reply, its key, and why it could not be used."""
    _rates: dict[Kind, str] = field(default_factory=dict)

    def work(self, kind: Kind, target: int, seeds: tuple[Lines, ...], index: NearestText) -> PoolWork:
        """The context of one graph."""
        lengths = [len(lines) for lines in seeds]
        span = min(lengths), max(lengths)
        parameters = self.settings.parameters
        kept: list[int] = []

        async def ask(number: int, examples: Sequence[Lines]) -> Written:
            prompt = self.prompts.render(
                _PROMPTS[kind], count=PER_CALL, lines=asked_for(*span), examples=[list(lines) for lines in examples]
            )
            reply, fault = await self._call(kind, number, prompt, parameters)
            if fault:
                return Written(number, ())
            cut = ending_of(reply.finish_reason) is Ending.cut
            said = clean_reply(reply.text, "assistant")
            return Written(number, read_people(said, fewest=span[0], most=span[1], cut=cut))

        async def save(number: int, judged: Sequence[Judged]) -> None:
            kept.append(sum(each.is_kept for each in judged))
            self._rates[kind] = (
                f"{sum(kept):,}/{target:,} {_PLURAL[kind]}, {sum(kept[-10:]) / PER_CALL / len(kept[-10:]):.0%} kept"
            )
            await self._save(kind, number, judged)

        def plan(numbers: Sequence[int]) -> None:
            if self.session is not None:
                _plan(self.session, kind, numbers, self.settings.seed)

        return PoolWork(kind, target, seeds, self.settings.seed, self.settings.threshold, index, ask, plan, save)

    async def _call(self, kind: Kind, number: int, prompt: str, parameters: Parameters) -> tuple[Reply, str]:
        """The reply, and why it cannot be used; StopError if none came: without it the next ones would be others."""
        tree, messages = _tree(kind, number), [Message(role="user", content=prompt)]
        seed = addressed_seed(self.settings.seed, kind, number)
        fault, key = "", ""
        try:
            call = await self.ledger.call(Place(tree, "0", "writer", 0), self.model, messages, parameters, seed)
            reply, key = call.reply, call.key
            clean_reply(reply.text, "assistant")
        except BadContentError as error:
            reply, fault = Reply(text=error.reply, model=self.model.name), str(error)
        except FailedTreeError as error:
            raise StopError(
                f"call {number} for {_PLURAL[kind]}: {error}; run the same command again to go on"
            ) from None
        self._replies[tree] = (prompt, reply, key, fault)
        return reply, fault

    async def _save(self, kind: Kind, number: int, judged: Sequence[Judged]) -> None:
        tree = _tree(kind, number)
        prompt, reply, key, fault = self._replies.pop(tree)
        if self.session is None:
            return
        nodes = [Node(id="u", parent=None, turn=1, role="user", text=prompt, by="user")]
        if reply.text:
            nodes.append(
                Node(
                    id="0", parent="u", turn=1, role="assistant", text=reply.text, by=self.model.name, call=key or None
                )
            )
        value: JsonValue = fault if fault else [_told(each) for each in judged]
        note = Annotation(node=nodes[-1].id, name=ITEMS, by="filter", value=value)
        await self.session.store.save_turn(tree, nodes, annotations=[note])
        await self.session.store.finish_tree(tree)
        self.session.done += 1
        self.session.note = "; ".join(self._rates.values())


def _told(judged: Judged) -> dict[str, JsonValue]:
    told: dict[str, JsonValue] = {"text": " ".join(judged.entry.lines), "kept": judged.is_kept}
    if judged.reason:
        told["reason"] = judged.reason
    if judged.near.text is not None:
        told |= {"cosine": judged.near.cosine, "nearest": judged.near.text}
    return told


def _plan(session: Session, kind: Kind, numbers: Sequence[int], seed: int) -> None:
    place = {"profile": 0, "personality": 1}[kind]
    session.store.plan_trees(
        TreeRecord(id=_tree(kind, number), index=2 * number + place, persona="", seed=seed) for number in numbers
    )
    session.trees += len(numbers)


def _tree(kind: Kind, number: int) -> str:
    return f"{kind}-{number:05}"


def refuse_other(path: Path, settings: PersonaSettings, seeds: Seeds) -> Mapping[str, str] | None:
    """The hashes of the prompts that are on record in this file, None for none; ConfigError if it is another run's."""
    if not path.exists():
        return None
    with Store.open(path) as store:
        recorded = recorded_hashes(store.run)
        if store.run is not None:
            asked = _identity(settings, persona_prompts(settings, recorded), seeds, version=None)
            store.begin_run(path.stem, "personas", {**store.run.identity, **asked}, __version__)
        return recorded
