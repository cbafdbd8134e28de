"""Auditing the simulated user of a run: findings about its messages are stored beside them."""

from functools import partial
from pathlib import Path

from interalign.agents.audit_rules import audit_tree
from interalign.agents.findings import RULES, as_annotations
from interalign.config import EngineSettings, Runtime
from interalign.errors import ConfigError
from interalign.records import AUDITED, FINDING, Progress, RunSummary
from interalign.run.auditing import audit_here, auditor
from interalign.run.engines import work_on
from interalign.run.session import open_session, refuse_unknown_people, refuse_unknown_prices
from interalign.run.tree_work import judging
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
    path: Path,
    judge: str,
    runtime: Runtime,
    progress: Progress | None = None,
    engine: EngineSettings = EngineSettings(),  # noqa: B008  (frozen)
) -> RunSummary:
    """Store what a judge finds in every finished tree; how many of its answers could not be read is in the summary.

    Its calls are on record: a tree that was audited by it costs nothing the second time.
    """
    _refuse_without_talks(path)
    with Store.open(path) as stored:
        refuse_unknown_people(stored, judge)
    refuse_unknown_prices([judge], runtime)
    async with open_session(path, runtime, progress) as session:
        session.count()
        session.share_budget()
        role = auditor(session, judge)
        session.count_to_judge()
        work = judging(session, "audit", judge, partial(session.store.walk_trees, "done"))
        await work_on(session, work, engine, partial(audit_here, session, judge, role))
        return session.summary()


def _refuse_without_talks(path: Path) -> None:
    with Store.open(path) as stored:  # a missing file must not be created here
        stored.refuse_personas("audit")
        if stored.run is None:
            raise ConfigError(f"{path}: nothing was run in it yet")
