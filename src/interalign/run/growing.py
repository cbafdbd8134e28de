"""Growing the unfinished trees of an open run, in this process; what else works on all trees of a run is done alike."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from interalign.agents.protocols import Judge
from interalign.agents.watched_judge import WatchedJudge
from interalign.config import (
    WORDING,
    EvaluationSettings,
    RunSettings,
    Runtime,
    SimulationSettings,
    build,
)
from interalign.errors import FailedTreeError, StopError
from interalign.graphs.many_trees import Finish, Job, each_tree
from interalign.graphs.policy import Policy, branching_policy, caterpillar, turns_of_a_tree
from interalign.graphs.seats import all_evaluation_seats, simulation_seats
from interalign.graphs.tree import Growth, Start, grow_tree
from interalign.graphs.turn import Conversation, Farewell, Seats, Turn
from interalign.personas import Persona
from interalign.records import Progress, RunRecord, TreeRecord, split_case
from interalign.run.branching import branched_seats
from interalign.run.session import NO_PERSONA, Session, open_session
from interalign.store import Store
from interalign.tree import Annotation


async def run_planned(
    path: Path,
    settings: RunSettings,
    runtime: Runtime,
    progress: Progress | None = None,
    trusted: Collection[str] = (),
) -> None:
    """Grow the trees that are planned in this file, which was split off a run: what a worker does."""
    async with open_session(path, runtime, progress) as session:
        session.trusted = trusted
        prompts = session.prompts(settings)
        session.count()
        session.share_budget()
        if isinstance(settings, SimulationSettings):
            seats = {None: simulation_seats(settings, session.ledger, session.resolve, prompts)}
            await grow(session, seats, branching_policy(settings.policy), settings)
            return
        assert isinstance(settings, EvaluationSettings)
        measured = all_evaluation_seats(settings, session.ledger, session.resolve, prompts)
        await grow(session, measured, caterpillar, settings)


def persona_of(store: Store, record: TreeRecord) -> Persona:
    """Whom the tree is about; FailedTreeError if that is not known, as it may be of an imported one."""
    try:
        return store.persona(record.persona)
    except KeyError:
        raise FailedTreeError(NO_PERSONA) from None


def settings_of(run: RunRecord) -> SimulationSettings | EvaluationSettings:
    """The settings a run was begun with."""
    identity = (run.grown_with or {}) if run.kind == "import" else run.identity
    given = {name: value for name, value in identity.items() if name not in (*WORDING, "own_prompts", "weights")}
    if run.kind in ("simulation", "import"):
        return build(SimulationSettings, given)
    return build(EvaluationSettings, given)


def _saver(session: Session) -> Callable[[str, Turn | Farewell], Awaitable[None]]:
    store = session.store

    async def save(tree: str, turn: Turn | Farewell) -> None:
        if isinstance(turn, Farewell):
            await store.save_turn(tree, (), annotations=turn.annotations)
        else:
            notes = (*turn.annotations, *_actions(store, turn))
            await store.save_turn(tree, turn.nodes, turn.verdicts, turn.scores, notes)
            session.turns[tree] += 1

    return save


def _actions(store: Store, turn: Turn) -> Iterator[Annotation]:
    """Notes at each message for which an agent used tools, or in which it asks what it interrupted itself for."""
    actions = store.actions_of(node.call for node in turn.nodes if node.call)
    for node in turn.nodes:
        made = actions.get(node.call or "", [])
        if tools := [each for each in made if "tool" in each]:
            yield Annotation(node=node.id, name="tool", by=node.by, value=tools)
        if asked := [each["interrupt"] for each in made if "interrupt" in each]:
            yield Annotation(node=node.id, name="interrupt", by=node.by, value=asked[0])


async def grow(session: Session, seats: Mapping[Any, Seats], policy: Policy, settings: RunSettings) -> None:
    """Grow every tree that is not done; `seats` as `_seated` names them."""
    await session.load_models()
    session.failed.clear()  # they are tried again
    session.turns_of_a_tree = _turns_of_a_tree(settings)
    seated = next(iter(seats.values())).judges
    judges = {name: watched(session, judge, name) for name, judge in seated.items()}
    growths = {
        name: Growth(seats=replace(each, judges=judges), policy=policy, save=_saver(session))
        for name, each in seats.items()
    }

    branches = session.store.branches()

    def jobs() -> Iterator[Job]:
        for record in session.store.walk_trees("planned", "failed"):
            conversation = conversation_of(record, session.store.persona(record.persona), settings)
            growth, start = growths[_seated(record, settings)], None
            if record.id in branches:
                growth, start = _branched(session.store, record.id, branches[record.id], growth)
            yield record.id, partial(grow_tree, conversation, growth, start)

    async def ask_anew() -> None:
        for tree in {tree: None for judge in judges.values() for tree in judge.unread_trees}:
            await session.store.finish_tree(tree, failed="the judge gave no readable answer")

    await carry_out(session, jobs(), session.ended, ask_anew)


def _seated(record: TreeRecord, settings: RunSettings) -> tuple[str, int] | None:
    """Whose seats a tree is grown in: the candidate measured and the user's number; None in a simulation."""
    if record.candidate is None:
        return None
    return record.candidate, split_case(record.case or record.id, len(settings.users))[1]


def _turns_of_a_tree(settings: RunSettings) -> int | None:
    if isinstance(settings, SimulationSettings):
        return turns_of_a_tree(settings.policy, settings.turns, settings.branch)
    return settings.turns


def _branched(store: Store, tree: str, node: str, growth: Growth) -> tuple[Growth, Start]:
    """How a branch is grown, and from where."""
    judged = store.judged_tree(tree)
    assert judged is not None  # planned together with its first messages
    seats, start = branched_seats(growth.seats, judged.tree.path(node), judged.tree.system)
    return replace(growth, seats=seats), start


def watched(session: Session, judge: Judge, name: str, *, trusted: bool | None = None) -> WatchedJudge:
    """The judge, which stops the run if its first answers cannot be read. All seats of a run share one.

    `trusted` by default where it had readable answers in this run before.
    """
    known = name in session.trusted or session.store.has_readable(name)
    return WatchedJudge(judge, name, session.stop, trusted=known if trusted is None else trusted)


async def carry_out(
    session: Session, jobs: Iterator[Job], finish: Finish, ask_anew: Callable[[], Awaitable[None]]
) -> None:
    """Do the work on all trees. A role that turns out to be broken stops the run; `ask_anew` is called before.

    Raises StopError then: what a broken judge was asked is asked again when the run is resumed.
    """
    try:
        # Twice as many trees as calls in flight: while one tree waits for a commit, another one calls a model.
        await each_tree(jobs, finish, at_once=2 * session.runtime.concurrency)
    except StopError:
        if session.broken is None:
            raise
    if session.broken is not None:
        await ask_anew()
        raise StopError(session.broken)


def conversation_of(record: TreeRecord, persona: Persona, settings: RunSettings) -> Conversation:
    """What the roles of a tree are told of it."""
    return Conversation(
        tree=record.id,
        case=record.case or record.id,
        seed=record.seed,
        persona=persona,
        turns=settings.turns,
        end_mark=settings.end_mark,
        # A tree that failed keeps its recorded replies, and gets new sample numbers after those of unusable ones.
        samples=3 * (1 + record.attempts),
    )
