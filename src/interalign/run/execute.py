"""Carrying out a run: plan its trees, grow the unfinished ones, say what came of it."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from interalign.agents.protocols import Judge
from interalign.agents.watched_judge import WatchedJudge
from interalign.config import EvaluationSettings, RunSettings, Runtime, SimulationSettings, build, models_of
from interalign.errors import ConfigError, StopError
from interalign.graphs.many_trees import Finish, Job, each_tree
from interalign.graphs.policy import Policy, branching_policy, caterpillar
from interalign.graphs.rejudge import judge_tree
from interalign.graphs.seats import Seating, all_evaluation_seats, simulation_seats
from interalign.graphs.tree import Growth, grow_tree
from interalign.graphs.turn import Conversation, Farewell, Seats, Turn
from interalign.personas import Persona, dump_personas
from interalign.records import Progress, RunRecord, RunSummary, TreeRecord
from interalign.run.session import Session, open_session, refuse_unknown_prices
from interalign.store import Store
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
    policy = branching_policy(settings.policy)
    async with open_session(path, runtime, progress, fork_of) as session:
        seats = simulation_seats(settings, session.ledger, session.resolve, session.prompts)
        source = {"personas": _source(settings.personas, personas)}
        met = personas if len(personas) <= settings.trees else personas[: settings.trees]
        session.begin(settings, "simulation", source, met, _simulation_plan(settings, met))
        return await _grow(session, {None: seats}, policy, settings)


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
    async with open_session(path, runtime, progress, fork_of) as session:
        seats = all_evaluation_seats(settings, session.ledger, session.resolve, session.prompts)
        met = cases[: settings.limit]
        source = {"cases": _source(settings.cases, cases)}
        session.begin(settings, "evaluation", source, met, _evaluation_plan(settings, met))
        return await _grow(session, seats, caterpillar, settings)


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
    """Judge every finished tree of which this judge has no readable answer yet, in the way the run was judged."""
    Store.open(path).close()  # a file that is not there must not be made here
    refuse_unknown_prices([judge], runtime)
    async with open_session(path, runtime, progress) as session:
        run = session.store.run
        if run is None:
            raise ConfigError(f"{path}: nothing was run in it yet")
        session.count()
        settings = settings_of(run)
        role = _watched(
            session,
            cast(Judge, Seating(settings, session.ledger, session.resolve, session.prompts).role("judge", judge)),
            judge,
        )
        judging = settings.judging if isinstance(settings, SimulationSettings) else "score"
        session.trees, session.done = session.done, 0

        async def judge_one(record: TreeRecord, judged: JudgedTree) -> None:
            conversation = _conversation(record, session.store.persona(record.persona), settings)
            said = await judge_tree(judged.tree, conversation, role, judge, judging)
            await session.store.save_judgement(record.id, *said)

        def jobs() -> Iterator[Job]:
            for record in session.store.walk_trees("done"):
                judged = session.store.judged_tree(record.id)
                if judged is None or judged.by_judge(judge).is_readable:
                    session.done += 1
                else:
                    yield record.id, partial(judge_one, record, judged)

        await _carry_out(session, jobs(), session.judged, lambda: session.store.allow_more_samples(role.unread_trees))
        return session.outcome(judge)


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


async def _grow(session: Session, seats: Mapping[Any, Seats], policy: Policy, settings: RunSettings) -> RunSummary:
    """Grow every tree that is not done; `seats` by the candidate measured, None in a simulation."""
    await session.load_models()
    session.failed.clear()  # they are tried again
    judge = _watched(session, next(iter(seats.values())).judge, settings.judge)
    growths = {
        name: Growth(seats=replace(seated, judge=judge), policy=policy, save=_saver(session.store))
        for name, seated in seats.items()
    }

    def jobs() -> Iterator[Job]:
        for record in session.store.walk_trees("planned", "failed"):
            conversation = _conversation(record, session.store.persona(record.persona), settings)
            yield record.id, partial(grow_tree, conversation, growths[record.candidate])

    async def ask_anew() -> None:
        for tree in judge.unread_trees:
            await session.store.finish_tree(tree, failed="the judge gave no readable answer")

    await _carry_out(session, jobs(), session.ended, ask_anew)
    return session.outcome(settings.judge)


def _watched(session: Session, judge: Judge | None, name: str) -> WatchedJudge:
    """The judge, which stops the run if it cannot be read. All seats of a run share one."""
    assert judge is not None, "every run has a judge"
    return WatchedJudge(judge, name, session.stop, trusted=session.store.has_readable(name))


async def _carry_out(
    session: Session, jobs: Iterator[Job], finish: Finish, ask_anew: Callable[[], Awaitable[None]]
) -> None:
    """Do the work on all trees. A role that turns out to be broken stops the run; `ask_anew` is called before.

    Raises StopError then: what a broken judge was asked is not missing for good, but asked anew when the run goes on.
    """
    try:
        # Twice as many trees as calls in flight: while one tree waits for its commit, another one asks.
        await each_tree(jobs, finish, at_once=2 * session.runtime.concurrency)
    except StopError:
        if session.broken is None:
            raise
    if session.broken is not None:
        await ask_anew()
        raise StopError(session.broken)


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
