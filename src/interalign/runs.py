"""Carrying out a run: plan its trees, grow the unfinished ones, say what came of it."""

import hashlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, cast

from interalign import __version__
from interalign.agents.protocols import Judge
from interalign.agents.templates import prompt_versions
from interalign.config import EvaluationSettings, RunSettings, Runtime, SimulationSettings, build, identity_of
from interalign.errors import ConfigError
from interalign.graphs.forest import Job, each_tree
from interalign.graphs.policy import branching_policy, caterpillar
from interalign.graphs.rejudge import judge_tree
from interalign.graphs.seating import Seating, all_evaluation_seats, simulation_seats
from interalign.graphs.tree import Growth, grow_tree
from interalign.graphs.turn import Conversation, Turn
from interalign.ledger import Ledger
from interalign.models.base import ChatModel
from interalign.models.resolve import resolve_model
from interalign.personas import Persona, dump_personas
from interalign.store import RunRecord, Store, TreeRecord
from interalign.tree import Frozen, JudgedTree


class RunSummary(Frozen):
    """What came of a run so far."""

    run: Path
    trees: int
    done: int
    failed: dict[str, str]
    """Tree id -> why it failed. Running the same command again tries just these again."""
    calls: int
    """Model calls made now; what the ledger already had is not among them."""
    replayed: int
    """Calls answered from the ledger."""


Progress = Callable[[RunSummary], None]


async def run_simulation(
    path: Path,
    settings: SimulationSettings,
    personas: Sequence[Persona],
    runtime: Runtime,
    progress: Progress | None = None,
    *,
    fork_of: Path | None = None,
) -> RunSummary:
    """Grow the trees of a simulation that are not done yet. Tree i is about persona i modulo their number."""
    chosen = [personas[index % len(personas)] for index in range(settings.trees)]
    async with _desk(path, runtime, fork_of) as desk:
        seats = simulation_seats(settings, desk.ledger, desk.resolve)
        plan = [
            TreeRecord(id=f"t{index:05}", index=index, persona=persona.id, seed=settings.seed)
            for index, persona in enumerate(chosen)
        ]
        desk.begin(settings, "simulation", {"personas": _source(settings.personas, personas)}, chosen, plan)
        growth = Growth(seats=seats, policy=branching_policy(settings.policy), save=_saver(desk.store))
        return await _grow(desk, {None: growth}, settings.turns, progress)


async def run_evaluation(
    path: Path,
    settings: EvaluationSettings,
    cases: Sequence[Persona],
    runtime: Runtime,
    progress: Progress | None = None,
    *,
    fork_of: Path | None = None,
) -> RunSummary:
    """Let every candidate talk to every case, one scored path each; what is done already is not done again."""
    async with _desk(path, runtime, fork_of) as desk:
        seats = all_evaluation_seats(settings, desk.ledger, desk.resolve)
        met = cases[: settings.limit]
        source = {"cases": _source(settings.cases, cases)}
        desk.begin(settings, "evaluation", source, met, list(_evaluation_plan(settings, met)))
        growths: dict[str | None, Growth] = {
            name: Growth(seats=seated, policy=caterpillar, save=_saver(desk.store)) for name, seated in seats.items()
        }
        return await _grow(desk, growths, settings.turns, progress)


def _source(given: str, personas: Sequence[Persona]) -> str:
    """`world`, or what is in the file: a file may move, but another persona in it is another run."""
    if given == "world":
        return given
    return f"sha256:{hashlib.sha256(''.join(dump_personas(personas)).encode()).hexdigest()[:16]}"


def _evaluation_plan(settings: EvaluationSettings, cases: Sequence[Persona]) -> Iterator[TreeRecord]:
    # Case by case, so that a longer list of cases only appends, and an early look compares like with like.
    index = 0
    for case in cases:
        for candidate in settings.candidate:
            name = candidate.name
            yield TreeRecord(
                id=f"{name}/{case.id}", index=index, persona=case.id, seed=settings.seed, candidate=name, case=case.id
            )
            index += 1


async def run_judging(path: Path, judge: str, runtime: Runtime, progress: Progress | None) -> RunSummary:
    """Judge every finished tree that this judge has not judged yet, in the way the run was judged."""
    Store.open(path).close()  # a file that is not there must not be made here
    async with _desk(path, runtime) as desk:
        run = desk.store.run
        if run is None:
            raise ConfigError(f"{path}: nothing was run in it yet")
        desk.count()
        settings = settings_of(run)
        role = cast(Judge, Seating(settings, desk.ledger, desk.resolve).role("judge", judge))
        judging = settings.judging if isinstance(settings, SimulationSettings) else "score"
        personas = desk.store.personas()
        done = [record for record in desk.store.trees() if record.status == "done"]

        async def judge_one(record: TreeRecord, judged: JudgedTree) -> None:
            conversation = _conversation(record, personas[record.persona], settings.turns)
            said = await judge_tree(judged.tree, conversation, role, judge, judging)
            await desk.store.save_judgement(record.id, *said)

        def jobs() -> Iterator[Job]:
            for record in done:
                judged = desk.store.judged_tree(record.id)
                if judged is not None and judge not in judged.judges():
                    yield record.id, partial(judge_one, record, judged)

        async def finish(tree: str, failed: str | None) -> None:
            if failed is not None:
                desk.failed[tree] = f"not judged: {failed}"  # the tree itself stays done
            if progress:
                progress(desk.summary())

        await each_tree(jobs(), finish, at_once=2 * runtime.concurrency)
        return desk.summary()


def settings_of(run: RunRecord) -> SimulationSettings | EvaluationSettings:
    """The settings a run was begun with."""
    given = {name: value for name, value in run.identity.items() if name != "prompts"}
    if run.kind == "simulation":
        return build(SimulationSettings, given)
    return build(EvaluationSettings, given)


@dataclass
class _Desk:
    """An open run file with its ledger and the models in use."""

    path: Path
    store: Store
    ledger: Ledger
    runtime: Runtime
    models: dict[str, ChatModel] = field(default_factory=dict)
    trees: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def resolve(self, spec: str) -> ChatModel:
        """One model object a name, so that what it batches or pools is shared by all seats."""
        if spec not in self.models:
            self.models[spec] = resolve_model(spec, self.runtime)
        return self.models[spec]

    def begin(
        self,
        settings: RunSettings,
        kind: Literal["simulation", "evaluation"],
        source: Mapping[str, str],
        personas: Sequence[Persona],
        plan: Sequence[TreeRecord],
    ) -> None:
        """Put the run on record, or make sure that it is the same one; then what is planned.

        `source` says in the run's identity where the personas come from.
        """
        _check_personas(personas, settings)
        identity = {**identity_of(settings, prompts=dict(prompt_versions())), **source}
        self.store.begin_run(self.path.stem, kind, identity, __version__)
        self.store.add_personas(personas)
        self.store.plan_trees(plan)
        self.count()

    def count(self) -> None:
        """Take stock of the trees in the file."""
        trees = self.store.trees()
        self.trees = len(trees)
        self.done = sum(tree.status == "done" for tree in trees)
        self.failed = {tree.id: tree.reason or "" for tree in trees if tree.status == "failed"}

    def ended(self, tree: str, failed: str | None) -> None:
        """Count a tree that ended; the file is not read again for it."""
        self.failed.pop(tree, None)
        if failed is None:
            self.done += 1
        else:
            self.failed[tree] = failed

    def summary(self) -> RunSummary:
        """The run as it stands."""
        return RunSummary(
            run=self.path,
            trees=self.trees,
            done=self.done,
            failed=dict(self.failed),
            calls=self.ledger.fresh,
            replayed=self.ledger.replayed,
        )


@asynccontextmanager
async def _desk(path: Path, runtime: Runtime, fork_of: Path | None = None) -> AsyncIterator[_Desk]:
    """The run file, open, with its ledger. A file that is made here goes again if no run was begun in it."""
    is_new = not path.exists()  # noqa: ASYNC240  (a look at the disk before anything runs)
    if fork_of is not None:
        Store.fork(fork_of, path)
    begun = False
    try:
        with Store.create_or_open(path) as store:
            desk = _Desk(path, store, Ledger(store, concurrency=runtime.concurrency), runtime)
            try:
                yield desk
            finally:
                await _close(desk.models.values())
                begun = store.run is not None
    finally:
        if is_new and not begun:
            path.unlink(missing_ok=True)  # noqa: ASYNC240


async def _close(models: Iterable[ChatModel]) -> None:
    for model in models:
        close = getattr(model, "close", None)
        closing = close() if close else None
        if inspect.isawaitable(closing):
            await closing


def _saver(store: Store) -> Callable[[str, Turn], Awaitable[None]]:
    async def save(tree: str, turn: Turn) -> None:
        nodes = (turn.user, *turn.replies)
        await store.save_turn(tree, nodes, turn.verdicts, turn.scores, turn.annotations)

    return save


async def _grow(desk: _Desk, growths: Mapping[str | None, Growth], turns: int, progress: Progress | None) -> RunSummary:
    """Grow every tree that is not done; `growths` by the candidate measured, None in a simulation."""
    personas = desk.store.personas()
    unfinished = [record for record in desk.store.trees() if record.status != "done"]

    async def finish(tree: str, failed: str | None) -> None:
        await desk.store.finish_tree(tree, failed=failed)
        desk.ended(tree, failed)
        if progress:
            progress(desk.summary())

    jobs = (
        (
            record.id,
            partial(grow_tree, _conversation(record, personas[record.persona], turns), growths[record.candidate]),
        )
        for record in unfinished
    )
    # Twice as many trees as calls in flight: while one tree waits for its commit, another one asks.
    await each_tree(jobs, finish, at_once=2 * desk.runtime.concurrency)
    return desk.summary()


def _conversation(record: TreeRecord, persona: Persona, turns: int) -> Conversation:
    return Conversation(
        tree=record.id,
        case=record.case or record.id,
        seed=record.seed,
        persona=persona,
        turns=turns,
        # A tree that failed keeps the replies it paid for, and gets fresh samples after those that were of no use.
        samples=3 * (1 + record.attempts),
    )


def _check_personas(personas: Sequence[Persona], settings: RunSettings) -> None:
    """The world's user and judge understand only the world's personas: ConfigError for others."""
    from interalign.models.world import is_world_persona

    seats = [("user", settings.user), ("judge", settings.judge)]
    for option, spec in seats:
        stranger = next((persona for persona in personas if not is_world_persona(persona)), None)
        if spec.startswith("world:") and stranger is not None:
            raise ConfigError(
                f"--{option} {spec} understands only the embedded world's personas, and {stranger.id!r} is not one; "
                f"name a model for --{option}, such as openai:gpt-4o-mini"
            )
