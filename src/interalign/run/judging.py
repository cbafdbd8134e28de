"""Having a judge judge the finished trees of an open run again: what is done in the process that does it."""

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import cast

from interalign.agents.own_prompts import refuse_world
from interalign.agents.protocols import Judge
from interalign.agents.watched_judge import WatchedJudge
from interalign.config import Judging, RunSettings, Runtime, SimulationSettings
from interalign.graphs.many_trees import Job
from interalign.graphs.rejudge import judge_tree
from interalign.graphs.seats import Seating
from interalign.records import Progress, RunRecord, TreeRecord
from interalign.run.growing import carry_out, conversation_of, persona_of, settings_of, watched
from interalign.run.session import Session, open_session
from interalign.tree import JudgedTree


async def judge_planned(
    path: Path, judge: str, runtime: Runtime, progress: Progress, trusted: Collection[str] = ()
) -> None:
    """Judge the trees in this file, which were copied from a run: what a worker does."""
    async with open_session(path, runtime, progress) as session:
        session.trusted = trusted
        session.share_budget()
        session.count_to_judge()
        await judge_here(session, judge, judge_role(session, judge))


def judge_role(session: Session, judge: str) -> WatchedJudge:
    """The judge of this name, asked with the run's prompts. ConfigError if there is none."""
    settings, prompts = settings_of(cast(RunRecord, session.store.run)), session.recorded_prompts()
    refuse_world(prompts, settings.model_copy(update={"judge": judge}))
    seating = Seating(settings, session.ledger, session.resolve, prompts)
    return watched(session, cast(Judge, seating.role("judge", judge)), judge)


def unjudged(session: Session, record: TreeRecord, judge: str) -> JudgedTree | None:
    """A finished tree of which this judge has no readable answer; None for any other."""
    judged = session.store.judged_tree(record.id)
    return None if judged is None or judged.by_judge(judge).is_readable else judged


async def judge_here(session: Session, judge: str, role: WatchedJudge) -> None:
    """Have the judge judge every tree that waits for it, in this process."""
    run = cast(RunRecord, session.store.run)
    settings = settings_of(run)
    how = _judging(run, settings)
    session.done = 0

    async def judge_one(record: TreeRecord, judged: JudgedTree) -> None:
        conversation = conversation_of(record, persona_of(session.store, record), settings)
        said = await judge_tree(judged.tree, conversation, role, judge, how, aspects=settings.aspects)
        await session.store.save_judgement(record.id, *said)

    def jobs() -> Iterator[Job]:
        for record in session.store.walk_trees("done"):
            if (judged := unjudged(session, record, judge)) is None:
                session.done += 1
            else:
                yield record.id, partial(judge_one, record, judged)

    await carry_out(session, jobs(), session.judged, lambda: session.store.allow_more_samples(role.unread_trees))


def _judging(run: RunRecord, settings: RunSettings) -> Judging | None:
    """How the run is judged; None, of imported conversations: replies with siblings are compared, others scored."""
    if run.kind == "import":
        return None
    return settings.judging if isinstance(settings, SimulationSettings) else "score"
