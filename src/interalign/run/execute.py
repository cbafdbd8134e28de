"""Execute a run: plan its trees, grow the unfinished ones, summarize the outcome."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from interalign.config import EvaluationSettings, RunSettings, Runtime, SimulationSettings, models_of
from interalign.graphs.policy import Policy, branching_policy, caterpillar
from interalign.graphs.seats import all_evaluation_seats, simulation_seats
from interalign.graphs.turn import Seats
from interalign.panel import PANEL
from interalign.people.source import persona_source
from interalign.personas import Persona
from interalign.records import Progress, RunSummary
from interalign.run.branching import simulation_plan
from interalign.run.engines import work_on
from interalign.run.growing import grow
from interalign.run.plan import EvaluationPlan
from interalign.run.session import Session, open_session, refuse_unknown_prices
from interalign.run.tree_work import growing


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
    """Grow every tree that is not done, by the engine of the settings."""
    session.failed.clear()  # they are tried again
    await work_on(session, growing(session, settings), settings, partial(grow, session, seats, policy, settings))
    return session.outcome(PANEL if len(settings.judges) > 1 else settings.judges[0])
