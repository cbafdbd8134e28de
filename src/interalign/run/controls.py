"""The wrong-persona control: stored replies scored again as if they had been meant for somebody else.

What a reply loses under another persona is its personal fit; what it keeps anybody might like.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from interalign.agents.own_prompts import refuse_world
from interalign.agents.protocols import Judge
from interalign.config import Runtime
from interalign.errors import ConfigError
from interalign.graphs.many_trees import Job
from interalign.graphs.rejudge import judge_tree
from interalign.graphs.seats import Seating
from interalign.personas import Persona
from interalign.records import CONTROL, Progress, RunRecord, RunSummary, TreeRecord
from interalign.run.growing import carry_out, conversation_of, settings_of, watched
from interalign.run.session import open_session, refuse_unknown_prices
from interalign.seeds import addressed_rng
from interalign.store import Store
from interalign.tree import Annotation, Score


async def run_controls(
    path: Path, judge: str, cases: int, runtime: Runtime, progress: Progress | None = None
) -> RunSummary:
    """Have the judge score every reply of so many cases again, each case under another profile of the run.

    All candidates of a case meet the same other persona; which cases and personas is drawn by address, so that more
    cases extend the sample. Scores are stored as annotations `control`; every call is on record.

    Raises ConfigError for a run whose replies this judge did not score, or with a single profile.
    """
    with Store.open(path) as stored:
        stored.refuse_personas("judge --controls")
        _refuse_unscored(stored, judge)
    refuse_unknown_prices([judge], runtime)
    async with open_session(path, runtime, progress) as session:
        session.count()
        session.share_budget()
        store, settings = session.store, settings_of(cast(RunRecord, session.store.run))
        prompts = session.recorded_prompts()
        refuse_world(prompts, settings.model_copy(update={"judge": judge}))
        seating = Seating(settings, session.ledger, session.resolve, prompts)
        role = watched(session, cast(Judge, seating.role("judge", judge)), judge)
        others = _other_personas(list(store.walk_trees("done")), list(store.personas().values()), cases)
        session.trees, session.done = len(others), 0

        async def control_one(record: TreeRecord, other: Persona) -> None:
            judged = store.judged_tree(record.id)
            if judged is not None:
                conversation = conversation_of(record, other, settings)
                _, scores = await judge_tree(judged.tree, conversation, role, judge, "score", aspects=settings.aspects)
                await store.replace_annotations(record.id, (CONTROL,), judge, [_note(each, other) for each in scores])

        def jobs() -> Iterator[Job]:
            for record, other in others:
                yield record.id, partial(control_one, record, other)

        await carry_out(session, jobs(), session.judged, lambda: store.allow_more_samples(role.unread_trees))
        return session.outcome(judge)


def _note(score: Score, other: Persona) -> Annotation:
    return Annotation(node=score.node, name=CONTROL, by=score.judge, value={"persona": other.id, "score": score.value})


def _refuse_unscored(store: Store, judge: str) -> None:
    if not any(score.value is not None for tree in store.judged_trees() for score in tree.by_judge(judge).scores):
        raise ConfigError(
            f"{store.path} has no score by {judge}: a control is compared with the score under the own persona; use a "
            "judge of an evaluation, or a run with --judging score"
        )
    if len({persona.profile for persona in store.personas().values()}) < 2:
        raise ConfigError(f"{store.path} is about one profile only: there is nobody else to judge for")


def _other_personas(
    records: Sequence[TreeRecord], personas: Sequence[Persona], cases: int
) -> list[tuple[TreeRecord, Persona]]:
    """The trees of the first so many cases in an order of chance, each with a persona of another profile."""
    by_id = {persona.id: persona for persona in personas}
    names = {_case(record): record.persona for record in records if record.persona in by_id}
    drawn = sorted(names, key=lambda case: addressed_rng("control", case).random())[:cases]
    others = {}
    for case in drawn:
        strangers = [each for each in personas if each.profile != by_id[names[case]].profile]
        others[case] = addressed_rng("control persona", case).choice(strangers)
    return [(record, others[_case(record)]) for record in records if _case(record) in others]


def _case(record: TreeRecord) -> str:
    return record.case or record.id
