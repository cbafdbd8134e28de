"""Auditing the simulated user of a run: findings about its messages are stored beside them."""

from functools import partial
from pathlib import Path

from interalign.agents.audit_rules import audit_tree
from interalign.agents.findings import RULES, as_annotations
from interalign.config import EngineSettings, Runtime
from interalign.records import AUDITED, FINDING, Progress, RunSummary
from interalign.run.auditing import audit_here, auditor
from interalign.run.engines import work_on
from interalign.run.session import open_session, refuse_unjudgeable, refuse_without_talks
from interalign.run.tree_work import judging
from interalign.store import Store


async def audit_by_rules(path: Path) -> None:
    """Store what the rules find in every tree that has ended; what they found before is replaced.

    Raises ConfigError for a file without conversations, LockedError while another process writes to it.
    """
    refuse_without_talks(path, "audit")
    with Store.create_or_open(path) as store:
        personas = store.personas()
        for record in store.walk_trees("done", "failed"):
            judged = store.judged_tree(record.id)
            if judged is not None:
                found = audit_tree(judged.tree, personas.get(record.persona))
                notes = as_annotations(judged.tree, found, RULES)
                await store.replace_annotations(record.id, (AUDITED, FINDING), RULES, notes)


async def audit_by_judge(
    path: Path,
    judge: str,
    runtime: Runtime,
    progress: Progress | None = None,
    engine: EngineSettings = EngineSettings(),  # noqa: B008  (frozen)
) -> RunSummary:
    """Store what a judge finds in every finished tree; how many of its answers could not be read is in the summary.

    Its calls are on record: a tree that was audited by it costs nothing the second time.
    """
    refuse_unjudgeable(path, "audit", judge, runtime)
    async with open_session(path, runtime, progress) as session:
        session.count()
        session.share_budget()
        role = auditor(session, judge)
        session.count_to_judge()
        work = judging(session, "audit", judge, partial(session.store.walk_trees, "done"))
        await work_on(session, work, engine, partial(audit_here, session, judge, role))
        return session.summary()
