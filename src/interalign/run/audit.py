"""Auditing the simulated user of a run: findings about its messages are stored beside them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast

from interalign.agents.audit_rules import audit_tree
from interalign.agents.findings import AUDITED, FINDING, RULES, as_annotations
from interalign.agents.own_prompts import refuse_world
from interalign.agents.protocols import Judge
from interalign.agents.templates import PromptSet, prompts_of
from interalign.config import Runtime
from interalign.errors import ConfigError
from interalign.graphs.many_trees import Job
from interalign.graphs.seats import Seating
from interalign.graphs.user_audit import audit_users
from interalign.records import Progress, RunRecord, RunSummary, TreeRecord
from interalign.run.growing import carry_out, conversation_of, persona_of, settings_of, watched
from interalign.run.session import Session, open_session, refuse_unknown_people, refuse_unknown_prices
from interalign.store import Store


async def audit_by_rules(path: Path) -> None:
    """Store what the rules find in every tree that has ended; what they found before is replaced.

    Raises ConfigError for a file without conversations, LockedError while another process writes to it.
    """
    _refuse_without_talks(path)
    with Store.create_or_open(path) as store:
        personas = store.personas()
        for record in store.walk_trees("done", "failed"):
            judged = store.judged_tree(record.id)
            if judged is not None:
                found = audit_tree(judged.tree, personas.get(record.persona))
                notes = as_annotations(judged.tree, found, RULES)
                await store.replace_annotations(record.id, (AUDITED, FINDING), RULES, notes)


async def audit_by_judge(
    path: Path, judge: str, runtime: Runtime, progress: Progress | None = None
) -> tuple[RunSummary, int]:
    """Store what a judge finds in every finished tree; also the number of its answers that could not be read.

    Its calls are on record: a tree that was audited by it costs nothing the second time.
    """
    _refuse_without_talks(path)
    with Store.open(path) as stored:
        refuse_unknown_people(stored, judge)
    refuse_unknown_prices([judge], runtime)
    async with open_session(path, runtime, progress) as session:
        run = cast(RunRecord, session.store.run)
        session.count()
        session.share_budget()
        settings = settings_of(run)
        prompts = _audit_prompts(session)
        refuse_world(prompts, settings.model_copy(update={"judge": judge}))
        seating = Seating(settings, session.ledger, session.resolve, prompts)
        role = watched(session, cast(Judge, seating.role("judge", judge)), judge, trusted=False)
        session.trees, session.done = session.done, 0
        unread = 0

        async def audit_one(record: TreeRecord) -> None:
            nonlocal unread
            judged = session.store.judged_tree(record.id)
            if judged is not None:
                conversation = conversation_of(record, persona_of(session.store, record), settings)
                found, missing = await audit_users(judged.tree, conversation, role)
                unread += missing
                notes = as_annotations(judged.tree, found, judge)
                await session.store.replace_annotations(record.id, (AUDITED, FINDING), judge, notes)

        def jobs() -> Iterator[Job]:
            for record in session.store.walk_trees("done"):
                yield record.id, partial(audit_one, record)

        await carry_out(session, jobs(), session.judged, lambda: session.store.allow_more_samples(role.unread_trees))
        return session.summary(), unread


def _refuse_without_talks(path: Path) -> None:
    with Store.open(path) as stored:  # a missing file must not be created here
        stored.refuse_personas("audit")
        if stored.run is None:
            raise ConfigError(f"{path}: nothing was run in it yet")


def _audit_prompts(session: Session) -> PromptSet:
    """The newest prompts, with the user's own where the run has them: a run from before there were audits has none."""
    return prompts_of(None, own=session.recorded_prompts().own)
