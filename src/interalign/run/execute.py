"""Execute a run: plan its trees, grow the unfinished ones, summarize the outcome."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from interalign.agents.own_prompts import refuse_world
from interalign.agents.protocols import Judge
from interalign.config import (
    EvaluationSettings,
    Judging,
    RunSettings,
    Runtime,
    SimulationSettings,
    models_of,
)
from interalign.config.engines import LOCAL
from interalign.errors import ConfigError
from interalign.graphs.many_trees import Job
from interalign.graphs.policy import Policy, branching_policy, caterpillar
from interalign.graphs.rejudge import judge_tree
from interalign.graphs.seats import Seating, all_evaluation_seats, simulation_seats
from interalign.graphs.turn import Seats
from interalign.panel import PANEL
from interalign.people.source import persona_source
from interalign.personas import Persona
from interalign.records import Progress, RunRecord, RunSummary, TreeRecord
from interalign.run.branching import simulation_plan
from interalign.run.growing import carry_out, conversation_of, grow, persona_of, settings_of, watched
from interalign.run.plan import EvaluationPlan
from interalign.run.session import Session, open_session, refuse_unknown_people, refuse_unknown_prices
from interalign.run.workers import grow_in_workers
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
    """Grow the trees of a simulation that are not done yet. Tree i is about persona i modulo their number.

    With `settings.from_` they are branches of a stored conversation, here or in the run that is forked.
    """
    refuse_unknown_prices(models_of(settings), runtime)
    policy = branching_policy(settings.policy)
    plan, source = simulation_plan(fork_of or path, settings, personas)
    async with open_session(path, runtime, progress, fork_of) as session:
        prompts = session.prompts(settings)
        seats = simulation_seats(settings, session.ledger, session.resolve, prompts)
        session.begin(settings, prompts, "simulation", {"personas": source}, plan)
        return await _grow_all(session, {None: seats}, policy, settings)


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
        prompts = session.prompts(settings)
        seats = all_evaluation_seats(settings, session.ledger, session.resolve, prompts)
        source = {"cases": persona_source(settings.cases, cases)}
        session.begin(settings, prompts, "evaluation", source, EvaluationPlan(settings, cases))
        return await _grow_all(session, seats, caterpillar, settings)


async def _grow_all(session: Session, seats: Mapping[Any, Seats], policy: Policy, settings: RunSettings) -> RunSummary:
    """Grow every tree that is not done: here, in worker processes or on Ray."""
    workers = min(settings.workers, session.trees - session.done)
    if settings.engine != LOCAL and session.done < session.trees:
        from interalign.run.ray_engine import grow_on_ray

        await grow_on_ray(session, settings)
    elif workers < 2:
        return await grow(session, seats, policy, settings)
    else:
        await grow_in_workers(session, settings, workers)
    return session.outcome(PANEL if len(settings.judges) > 1 else settings.judges[0])


async def run_judging(path: Path, judge: str, runtime: Runtime, progress: Progress | None) -> RunSummary:
    """Judge every finished tree of which this judge has no readable answer yet, in the way the run was judged."""
    with Store.open(path) as stored:  # a missing file must not be created here
        stored.refuse_personas("judge")
        refuse_unknown_people(stored, judge)
    refuse_unknown_prices([judge], runtime)
    async with open_session(path, runtime, progress) as session:
        run = session.store.run
        if run is None:
            raise ConfigError(f"{path}: nothing was run in it yet")
        session.count()
        session.share_budget()
        settings = settings_of(run)
        prompts = session.recorded_prompts()
        refuse_world(prompts, settings.model_copy(update={"judge": judge}))
        seating = Seating(settings, session.ledger, session.resolve, prompts)
        role = watched(session, cast(Judge, seating.role("judge", judge)), judge)
        judging = _judging(run, settings)
        session.trees, session.done = session.done, 0

        async def judge_one(record: TreeRecord, judged: JudgedTree) -> None:
            conversation = conversation_of(record, persona_of(session.store, record), settings)
            said = await judge_tree(judged.tree, conversation, role, judge, judging, aspects=settings.aspects)
            await session.store.save_judgement(record.id, *said)

        def jobs() -> Iterator[Job]:
            for record in session.store.walk_trees("done"):
                judged = session.store.judged_tree(record.id)
                if judged is None or judged.by_judge(judge).is_readable:
                    session.done += 1
                else:
                    yield record.id, partial(judge_one, record, judged)

        await carry_out(session, jobs(), session.judged, lambda: session.store.allow_more_samples(role.unread_trees))
        return session.outcome(judge)


def _judging(run: RunRecord, settings: RunSettings) -> Judging | None:
    """How the run is judged; None, of imported conversations: replies with siblings are compared, others scored."""
    if run.kind == "import":
        return None
    return settings.judging if isinstance(settings, SimulationSettings) else "score"
