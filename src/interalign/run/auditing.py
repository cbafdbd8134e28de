"""Having a judge audit the finished trees of an open run: what is done in the process that does it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast

from interalign.agents.findings import as_annotations
from interalign.agents.own_prompts import refuse_world
from interalign.agents.protocols import Judge
from interalign.agents.templates import PromptSet, prompts_of
from interalign.agents.watched_judge import WatchedJudge
from interalign.config import Runtime
from interalign.graphs.many_trees import Job
from interalign.graphs.seats import Seating
from interalign.graphs.user_audit import audit_users
from interalign.records import AUDITED, FINDING, Progress, RunRecord, TreeRecord
from interalign.run.growing import carry_out, conversation_of, persona_of, settings_of, watched
from interalign.run.session import Session, open_session


async def audit_planned(path: Path, judge: str, runtime: Runtime, progress: Progress) -> None:
    """Have a judge audit the trees in this file, which were copied from a run: what a worker does."""
    async with open_session(path, runtime, progress) as session:
        session.share_budget()
        session.count_to_judge()
        await audit_here(session, judge, auditor(session, judge))


def auditor(session: Session, judge: str) -> WatchedJudge:
    """The judge of this name, asked with the prompts of an audit. ConfigError if there is none."""
    settings, prompts = settings_of(cast(RunRecord, session.store.run)), _audit_prompts(session)
    refuse_world(prompts, settings.model_copy(update={"judge": judge}))
    seating = Seating(settings, session.ledger, session.resolve, prompts)
    return watched(session, cast(Judge, seating.role("judge", judge)), judge, trusted=False)


async def audit_here(session: Session, judge: str, role: WatchedJudge) -> None:
    """Have the judge read the user's messages of every finished tree, in this process."""
    settings = settings_of(cast(RunRecord, session.store.run))

    async def audit_one(record: TreeRecord) -> None:
        judged = session.store.judged_tree(record.id)
        if judged is not None:
            conversation = conversation_of(record, persona_of(session.store, record), settings)
            found, missing = await audit_users(judged.tree, conversation, role)
            session.unread += missing
            notes = as_annotations(judged.tree, found, judge)
            await session.store.replace_annotations(record.id, (AUDITED, FINDING), judge, notes)

    def jobs() -> Iterator[Job]:
        for record in session.store.walk_trees("done"):
            yield record.id, partial(audit_one, record)

    await carry_out(session, jobs(), session.judged, lambda: session.store.allow_more_samples(role.unread_trees))


def _audit_prompts(session: Session) -> PromptSet:
    """The newest prompts, with the user's own where the run has them: a run from before there were audits has none."""
    return prompts_of(None, own=session.recorded_prompts().own)
