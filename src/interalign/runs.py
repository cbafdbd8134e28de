"""Carrying out a run: plan its trees, grow the unfinished ones, say what came of it."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from interalign.agents.protocols import Judge
from interalign.config import EvaluationSettings, RunSettings, Runtime, SimulationSettings, build, models_of
from interalign.desk import Desk, open_desk, refuse_unknown_prices
from interalign.errors import ConfigError
from interalign.graphs.forest import Job, each_tree
from interalign.graphs.policy import branching_policy, caterpillar
from interalign.graphs.rejudge import judge_tree
from interalign.graphs.seating import Seating, all_evaluation_seats, simulation_seats
from interalign.graphs.tree import Growth, grow_tree
from interalign.graphs.turn import Conversation, Farewell, Turn
from interalign.personas import Persona, dump_personas
from interalign.store import RunRecord, Store, TreeRecord
from interalign.summary import Progress, RunSummary
from interalign.tree import JudgedTree


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
    refuse_unknown_prices(models_of(settings), runtime)
    async with open_desk(path, runtime, progress, fork_of) as desk:
        seats = simulation_seats(settings, desk.ledger, desk.resolve)
        source = {"personas": _source(settings.personas, personas)}
        met = personas if len(personas) <= settings.trees else personas[: settings.trees]
        desk.begin(settings, "simulation", source, met, _simulation_plan(settings, met))
        growth = Growth(seats=seats, policy=branching_policy(settings.policy), save=_saver(desk.store))
        return await _grow(desk, {None: growth}, settings)


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
    refuse_unknown_prices(models_of(settings), runtime)
    async with open_desk(path, runtime, progress, fork_of) as desk:
        seats = all_evaluation_seats(settings, desk.ledger, desk.resolve)
        met = cases[: settings.limit]
        source = {"cases": _source(settings.cases, cases)}
        desk.begin(settings, "evaluation", source, met, _evaluation_plan(settings, met))
        growths: dict[str | None, Growth] = {
            name: Growth(seats=seated, policy=caterpillar, save=_saver(desk.store)) for name, seated in seats.items()
        }
        return await _grow(desk, growths, settings)


def _source(given: str, personas: Sequence[Persona]) -> str:
    """`world`, or what is in the file: a file may move, but another persona in it is another run."""
    if given == "world":
        return given
    return f"sha256:{hashlib.sha256(''.join(dump_personas(personas)).encode()).hexdigest()[:16]}"


def _simulation_plan(settings: SimulationSettings, personas: Sequence[Persona]) -> Iterator[TreeRecord]:
    for index in range(settings.trees):
        persona = personas[index % len(personas)]
        yield TreeRecord(id=f"t{index:05}", index=index, persona=persona.id, seed=settings.seed)


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
    refuse_unknown_prices([judge], runtime)
    async with open_desk(path, runtime, progress) as desk:
        run = desk.store.run
        if run is None:
            raise ConfigError(f"{path}: nothing was run in it yet")
        desk.count()
        settings = settings_of(run)
        role = cast(Judge, Seating(settings, desk.ledger, desk.resolve).role("judge", judge))
        judging = settings.judging if isinstance(settings, SimulationSettings) else "score"
        desk.trees, desk.done = desk.done, 0

        async def judge_one(record: TreeRecord, judged: JudgedTree) -> None:
            conversation = _conversation(record, desk.store.persona(record.persona), settings)
            said = await judge_tree(judged.tree, conversation, role, judge, judging)
            await desk.store.save_judgement(record.id, *said)

        def jobs() -> Iterator[Job]:
            for record in desk.store.walk_trees("done"):
                judged = desk.store.judged_tree(record.id)
                if judged is None or judge in judged.judges():
                    desk.done += 1
                else:
                    yield record.id, partial(judge_one, record, judged)

        await each_tree(jobs(), desk.judged, at_once=2 * runtime.concurrency)
        return desk.outcome()


def settings_of(run: RunRecord) -> SimulationSettings | EvaluationSettings:
    """The settings a run was begun with."""
    given = {name: value for name, value in run.identity.items() if name not in ("prompts", "weights")}
    if run.kind == "simulation":
        return build(SimulationSettings, given)
    return build(EvaluationSettings, given)


def _saver(store: Store) -> Callable[[str, Turn | Farewell], Awaitable[None]]:
    async def save(tree: str, turn: Turn | Farewell) -> None:
        if isinstance(turn, Farewell):
            await store.save_turn(tree, (), annotations=turn.annotations)
        else:
            await store.save_turn(tree, turn.nodes, turn.verdicts, turn.scores, turn.annotations)

    return save


async def _grow(desk: Desk, growths: Mapping[str | None, Growth], settings: RunSettings) -> RunSummary:
    """Grow every tree that is not done; `growths` by the candidate measured, None in a simulation."""
    await desk.load_models()
    desk.failed.clear()  # they are tried again

    def jobs() -> Iterator[Job]:
        for record in desk.store.walk_trees("planned", "failed"):
            conversation = _conversation(record, desk.store.persona(record.persona), settings)
            yield record.id, partial(grow_tree, conversation, growths[record.candidate])

    # Twice as many trees as calls in flight: while one tree waits for its commit, another one asks.
    await each_tree(jobs(), desk.ended, at_once=2 * desk.runtime.concurrency)
    return desk.outcome()


def _conversation(record: TreeRecord, persona: Persona, settings: RunSettings) -> Conversation:
    return Conversation(
        tree=record.id,
        case=record.case or record.id,
        seed=record.seed,
        persona=persona,
        turns=settings.turns,
        end_mark=settings.end_mark,
        # A tree that failed keeps the replies it paid for, and gets fresh samples after those that were of no use.
        samples=3 * (1 + record.attempts),
    )
