"""A session: an open run file with its ledger and models, the state of its trees, and progress reports."""

import asyncio
import hashlib
import inspect
import json
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path
from typing import Final, Literal

from pydantic import JsonValue

from interalign.agents.own_prompts import read_prompts, recorded_prompts
from interalign.agents.templates import PromptSet
from interalign.config import RunSettings, Runtime, SimulationSettings, identity_of
from interalign.errors import ConfigError, FailedTreeError, InteralignError
from interalign.files import refuse_shared
from interalign.ledger import Ledger
from interalign.ledger.budget import Budget, Prices, counted
from interalign.model_spec import ModelSpec
from interalign.models.base import ChatModel, version_of
from interalign.models.names import is_model_name
from interalign.models.resolve import resolve_model
from interalign.personas import Persona
from interalign.records import Progress, RunRecord, RunSummary, Spent, Usage, by_role
from interalign.run.branching import BranchPlan, BranchPoint
from interalign.run.plan import Plan
from interalign.signals import leave_if_it_takes_too_long, stopping_on_signals
from interalign.store import Store
from interalign.store.branches import BRANCH, BRANCHER
from interalign.store.lease_file import LeaseFile, refuse_no_lease_file
from interalign.store.worker_files import gather
from interalign.tree import IMPORTED, SYSTEM, Annotation
from interalign.version import __version__

NO_PERSONA: Final = (
    "a judge needs the persona, and the imported rows have none; give each row a `persona` with profile and "
    "personality, or one's id and `import` them into a new file with --personas FILE.jsonl"
)
_REPORT_INTERVAL = 0.5
"""Seconds between two progress reports."""
_SAME_FAULT = 3
"""First trees that fail with the same fault after which the run stops: all others would fail, too."""


@dataclass
class Session:
    """An open run file with its ledger and the models in use."""

    path: Path
    store: Store
    ledger: Ledger
    runtime: Runtime
    budget: Budget | None = None
    models: dict[str, ChatModel] = field(default_factory=dict)
    is_new: bool = False
    """The file was made for this run."""
    trees: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    turns_of_a_tree: int | None = None
    """How many turns a tree will have; None: not known."""
    turns: Counter[str] = field(default_factory=Counter)
    """Tree -> its turns that are saved, of the trees being grown now."""
    note: str = ""
    """What else there is to say of how it stands, in words."""
    unread: int = 0
    """Answers of an audit's judge that could not be read."""
    trusted: Collection[str] = ()
    """Judges that are known to answer readably, whatever this file has of them: it may be a part of a run."""
    parts: dict[int, RunSummary] = field(default_factory=dict)
    """How the shares of worker processes stand, by the worker's number."""
    budget_file: Path | None = None
    """By which the limits are shared with other processes."""
    broken: str | None = None
    """Why the run stops although no call raised StopError: its first trees all failed with the same fault."""
    _first_faults: list[object] = field(default_factory=list)

    def resolve(self, spec: str) -> ChatModel:
        """One model object a name, so that what it batches or pools is shared by all seats.

        ConfigError if there is no such model, or if money is counted and its price is not known.
        """
        if spec not in self.models:
            refuse_unknown_prices([spec], self.runtime)
            self.models[spec] = resolve_model(spec, self.runtime)
        return self.models[spec]

    def prompts(self, settings: RunSettings) -> PromptSet:
        """The prompts that these settings name; of the built-in versions the one the run was begun with."""
        return read_prompts(settings, recorded_hashes(self.store.run))

    def recorded_prompts(self) -> PromptSet:
        """The prompts the run was begun with."""
        return recorded_prompts(None if self.store.run is None else self.store.run.begun_with)

    def begin(
        self,
        settings: RunSettings,
        prompts: PromptSet,
        kind: Literal["simulation", "evaluation"],
        source: Mapping[str, str],
        plan: Plan,
    ) -> None:
        """Record the run, or check that the recorded one is the same; then plan the trees.

        `source` says in the run's identity where the personas come from.
        """
        refuse_strangers(plan.personas, settings)
        identity = {**identity_of(settings, **prompts.identity), **source, **self.weights()}
        if isinstance(plan, BranchPlan):
            self.store.begin_branches(self.path.stem, identity, __version__)
        else:
            self.store.begin_run(self.path.stem, kind, identity, __version__)
        self.count()
        part = self.store.part
        refuse_fewer(self.path, plan.size, part.trees if part else plan.planned(self.trees, self.store.branches()))
        self.store.begin_part(settings.shard, plan.size)
        shared = self.path.with_name(f"{kind}-{_short_hash(identity)}.budget") if settings.shard else None
        self.share_budget(shared)
        self.store.add_personas(plan.met(settings.shard))
        if isinstance(plan, BranchPlan):
            self.store.plan_branches(plan.trees(None), plan.point.path, [*_notes_of(plan.point, prompts)])
        else:
            self.store.plan_trees(plan.trees(settings.shard))
        self.count()

    def share_budget(self, path: Path | None = None) -> None:
        """Keep to the limits, if there are any, together with all processes that have the budget's file, else this."""
        budget = self.budget
        path = Path(self.runtime.budget) if self.runtime.budget is not None else path
        if budget is not None and path is not None:
            self.budget_file = path
            usd, tokens = self.runtime.max_usd, self.runtime.max_tokens
            spent_in = partial(_spent_in, budget)
            budget.share(LeaseFile(path, self.store.path, max_usd=usd, max_tokens=tokens, spent_in=spent_in))

    def register_spent(self) -> None:
        """Set this run's part of a shared budget to what its file has on record."""
        if self.budget is not None and self.budget_file is not None and self.budget_file.exists():
            self.settle_spent()
            self.share_budget(self.budget_file)

    def settle_spent(self) -> None:
        """Count as spent what the run's file has on record now."""
        if self.budget is not None:
            self.budget.settle_again(_used(self.store))

    async def load_models(self) -> None:
        """Load the local models before the first call of a run: one that cannot be loaded must not cost any.

        Raises what loading raises, and StopError at once if the run is stopped meanwhile.
        """
        if self.is_new or not self.store.usage():
            for model in self.models.values():
                if load := getattr(model, "load", None):
                    await self.ledger.unless_stopped(asyncio.to_thread(load))

    def weights(self) -> dict[str, JsonValue]:
        """Which weights the local models have: trained anew under the same name they are other models."""
        versions = {name: version_of(model) for name, model in sorted(self.models.items())}
        weights: dict[str, JsonValue] = {name: version for name, version in versions.items() if version}
        return {"weights": weights} if weights else {}

    def count(self) -> None:
        """Count the trees in the file by status."""
        count = self.store.count_trees()
        self.trees, self.done = sum(count.values()), count.get("done", 0)
        self.failed = {tree.id: tree.reason or "" for tree in self.store.walk_trees("failed")}

    def count_to_judge(self) -> None:
        """Count finished trees only, none of which is judged so far."""
        self.trees, self.done = self.store.count_trees().get("done", 0), 0

    async def ended(self, tree: str, failed: Exception | None) -> None:
        """Record that a tree ended. If the first trees all fail with the same fault, the run stops.

        Waits for the calls that a failed tree has in flight: they are paid for, and the next attempt replays them.
        """
        if failed is None:
            self.ledger.failed_call(tree, None)
            await self.store.finish_tree(tree)
            self.failed.pop(tree, None)
            self.done += 1
        else:
            await self.ledger.settled(tree)
            await self.store.finish_tree(tree, failed=str(failed), on=self.ledger.failed_call(tree, failed))
            self.failed[tree] = str(failed)
        self.turns.pop(tree, None)
        self._notice(failed)

    async def judged(self, tree: str, failed: Exception | None) -> None:
        """Count a finished tree that was judged again, or could not be; on record it stays done."""
        if failed is None:
            self.done += 1
        else:
            await self.ledger.settled(tree)
            self.ledger.failed_call(tree, failed)
            self.failed[tree] = f"not judged: {failed}"
        self._notice(failed)

    def _notice(self, failed: Exception | None) -> None:
        faults = self._first_faults
        if len(faults) == _SAME_FAULT:
            return
        same = failed.same if isinstance(failed, FailedTreeError) else ()
        faults.append(same or object())  # without a kind it is like no other
        if len(faults) == _SAME_FAULT and len(set(faults)) == 1:
            self.stop(f"the first {_SAME_FAULT} trees failed alike: {failed}; mend it and run the same command again")

    def stop(self, reason: str) -> None:
        """Stop the run: its models answer, but their answers cannot be used."""
        self.broken = reason
        self.ledger.stop(reason)

    def outcome(self, judge: str) -> RunSummary:
        """The summary of the run, with its shortfalls by this judge's verdicts."""
        return self.summary().model_copy(update={"shortfalls": self.store.shortfalls(judge)})

    def summary(self) -> RunSummary:
        """The run as it stands, with what its workers do."""
        return reduce(RunSummary.with_part, self.parts.values(), self._own_summary())

    def _under_way(self) -> float:
        whole = self.turns_of_a_tree
        return sum(min(1.0, turns / whole) for turns in self.turns.values()) if whole else 0.0

    def _own_summary(self) -> RunSummary:
        used, prices = self.store.usage_by_model(), Prices(self.runtime.prices)
        priced = {seat: prices.priced(seat[1], use) for seat, use in used.items()}
        return RunSummary(
            run=self.path,
            trees=self.trees,
            done=self.done,
            failed=dict(self.failed),
            calls=self.ledger.fresh,
            replayed=self.ledger.replayed,
            under_way=self._under_way(),
            in_flight=self.ledger.in_flight,
            note=self.note,
            stopping=self.ledger.stopping,
            retried=sum(getattr(model, "retried", 0) for model in self.models.values()),
            unread=self.unread,
            usage=by_role(priced),
            usd=sum(use.usd or 0.0 for use in priced.values()) if prices else None,
        )


@asynccontextmanager
async def open_session(
    path: Path, runtime: Runtime, progress: Progress | None, fork_of: Path | None = None
) -> AsyncIterator[Session]:
    """The run file, open, with its ledger. A file that is created here is removed if no run could be begun in it.

    SIGINT and SIGTERM make the run stop cleanly; `progress` gets a summary twice a second, and at the end.
    """
    _refuse_budget(path, runtime)
    if fork_of is not None:
        Store.fork(fork_of, path)
    with Store.create_or_open(path) as store:
        refused, used, is_new = False, store.usage(), store.is_new or fork_of is not None
        try:
            gather(store)

            def stopping(reason: str) -> None:
                leave_if_it_takes_too_long(reason)
                if progress is not None:
                    progress(session.summary())

            budget = _budget(runtime, store)
            ledger = Ledger(store, concurrency=runtime.concurrency, budget=budget, stopping=stopping)
            session = Session(path, store, ledger, runtime, budget, is_new=is_new)
            try:
                with stopping_on_signals(ledger.stop):
                    async with _reporting(session, progress), _ended(ledger):
                        yield session
            finally:
                await close_models(session.models.values())
                if budget is not None:
                    budget.close()
        except ConfigError:
            refused = store.usage() == used  # calls that are on record were paid for, whoever made them
            raise
        finally:
            if is_new and (refused or store.run is None):
                store.discard()


def _notes_of(point: BranchPoint, prompts: PromptSet) -> Iterator[Annotation]:
    """What is noted at the first messages of a branch: where they come from, and their system message."""
    yield Annotation(node=point.node.id, name=BRANCH, by=BRANCHER, value=point.origin)
    system = point.system if prompts.system is None else prompts.system
    if system is not None:
        yield Annotation(node=point.path[0].id, name=SYSTEM, by=IMPORTED, value=system)


def recorded_hashes(run: RunRecord | None) -> Mapping[str, str] | None:
    """The hashes of the prompts a run was begun with, by name; None for a new run."""
    return None if run is None else run.begun_with.prompts


def refuse_fewer(path: Path, asked: int, planned: int) -> None:
    """ConfigError if a run is asked for fewer trees than it was begun with: it would grow, and pay for, all of them."""
    if asked < planned:
        raise ConfigError(
            f"{path} was begun with {planned} trees, and {asked} are asked for now; ask for at least as many "
            "(--trees, --limit), or begin a file of its own"
        )


def refuse_unjudgeable(path: Path, command: str, judge: str, runtime: Runtime) -> None:
    """ConfigError unless this command can have this judge look at the conversations of this file, which is not made."""
    refuse_without_talks(path, command)
    with Store.open(path) as store:
        refuse_unknown_people(store, judge)
    refuse_unknown_prices([judge], runtime)


def refuse_without_talks(path: Path, command: str) -> None:
    """ConfigError for a file that is no run of conversations, of which this command is for nothing else."""
    with Store.open(path) as store:  # a missing file must not be created here
        store.refuse_personas(command)
        if store.run is None:
            raise ConfigError(f"{path}: nothing was run in it yet")


def refuse_unknown_people(store: Store, judge: str) -> None:
    """ConfigError for imported conversations of which no persona is known, or that this judge does not understand."""
    if store.run is None or store.run.kind != "import":
        return
    personas = store.personas()
    if not any(record.persona in personas for record in store.walk_trees("done")):
        raise ConfigError(f"{store.path}: {NO_PERSONA}")
    if ModelSpec.parse(judge).is_world:
        refuse_strangers(personas.values(), SimulationSettings(judge=judge))


def refuse_unknown_prices(models: Iterable[str], runtime: Runtime) -> None:
    """ConfigError if money is to be counted and one of these models has no price; plug-ins count nothing."""
    if runtime.max_usd is not None or runtime.prices:
        asked = [model for model in models if is_model_name(model)]
        Prices(runtime.prices).refuse_unknown(asked, "--max-usd" if runtime.max_usd is not None else "--prices")


def _refuse_budget(run: Path, runtime: Runtime) -> None:
    """ConfigError for a shared budget that cannot be one, or has no limit."""
    if runtime.budget is not None:
        refuse_no_lease_file(Path(runtime.budget))
        refuse_shared([Path(runtime.budget), run], inputs=())
        if runtime.max_usd is None and runtime.max_tokens is None:
            raise ConfigError("--budget names a file to share a limit by; give --max-usd or --max-tokens, too")


def _short_hash(identity: Mapping[str, JsonValue]) -> str:
    """Twelve hexadecimal digits for a run, the same for all of its shards."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def _spent_in(budget: Budget, run: Path) -> Spent | None:
    """What the calls in a run file cost; None if it cannot be read."""
    try:
        with Store.open(run) as store:
            return budget.spent(_used(store))
    except InteralignError:
        return None


def _budget(runtime: Runtime, store: Store) -> Budget | None:
    if runtime.max_usd is None and runtime.max_tokens is None:
        return None
    if runtime.max_usd is not None:  # for example a judge asked earlier that has no seat now
        refuse_unknown_prices((model for _, model in store.usage_by_model()), runtime)
    return Budget(runtime, _used(store))


def _used(store: Store) -> Iterator[tuple[str, Usage]]:
    """What the calls on record took, by model. Where a server counted nothing, each call counts as when it was made."""
    used = [(model, use) for (_, model), use in store.usage_by_model().items()]
    if all(use.prompt_tokens and use.completion_tokens for model, use in used if is_model_name(model)):
        yield from used
        return
    for tree in store.walk_trees("planned", "failed", "done"):
        for call in store.calls_of(tree.id):
            if is_model_name(call.asked):
                tokens = counted(
                    (call.reply.prompt_tokens, call.reply.completion_tokens), call.messages, call.reply.text
                )
                yield call.asked, Usage(calls=1, prompt_tokens=tokens[0], completion_tokens=tokens[1], bad=0)


@asynccontextmanager
async def _reporting(session: Session, progress: Progress | None) -> AsyncIterator[None]:
    """Report to `progress` at intervals, and at the end in any case."""
    if progress is None:
        yield
        return

    async def tell() -> None:
        while True:
            progress(session.summary())
            await asyncio.sleep(_REPORT_INTERVAL)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        progress(session.summary())


@asynccontextmanager
async def _ended(ledger: Ledger) -> AsyncIterator[None]:
    """Whatever ends the run, calls in flight are finished or abandoned first."""
    try:
        yield
    finally:
        await ledger.close()


async def close_models(models: Iterable[ChatModel]) -> None:
    """Close what models keep open, such as connections."""
    for model in models:
        close = getattr(model, "close", None)
        closing = close() if close else None
        if inspect.isawaitable(closing):
            await closing


def refuse_strangers(personas: Iterable[Persona], settings: RunSettings) -> None:
    """The world's user and judge understand only the world's personas: ConfigError for others."""
    from interalign.models.world import WorldPersonas, is_world_persona

    if isinstance(personas, WorldPersonas):
        return
    seats = [*(("user", user) for user in settings.users), *(("judge", judge) for judge in settings.judges)]
    for option, spec in seats:
        stranger = next((persona for persona in personas if not is_world_persona(persona)), None)
        if ModelSpec.parse(spec).is_world and stranger is not None:
            raise ConfigError(
                f"--{option} {spec} understands only the embedded world's personas, and {stranger.id!r} is not one; "
                f"name a model for --{option}, such as openai:gpt-4o-mini"
            )
