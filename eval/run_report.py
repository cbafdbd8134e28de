"""From a run file to its report."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from interalign.errors import ConfigError
from interalign.eval.aspects import AspectFigures, AspectTally
from interalign.eval.controls import ControlFigures, ControlTally
from interalign.eval.corrected import as_json
from interalign.eval.corrections import correction_lines, corrections
from interalign.eval.panel_weights import MemberWeight, weight_lines
from interalign.eval.results import Report, ScoredCase, candidate_scores, evaluation_report, simulation_report
from interalign.eval.simulator_swap import scores_by_user, simulator_swaps
from interalign.eval.tallies import SimulatorFigures, UserTally
from interalign.ledger.budget import Prices
from interalign.records import ASPECTS_NOTE, CONTROL, RunRecord, Usage, by_role, split_case
from interalign.store import Store
from interalign.tree import IMPORTED


def run_report(store: Store, prices: Prices, weights: Sequence[MemberWeight] = ()) -> Report:
    """The figures of an open run; ConfigError if nothing was run in it. A failed conversation's scores are missing.

    `weights`: those by which the store weighs the members of the run's panel.
    """
    run = store.run
    if run is None:
        raise ConfigError("nothing was run in this file yet; `interalign simulate` or `evaluate` begins a run")
    usage = by_role({seat: prices.priced(seat[1], used) for seat, used in store.usage_by_model().items()})
    report = _evaluation(store, run, usage) if run.kind == "evaluation" else _simulation(store, run, usage)
    told = (*store.speaker_warnings(), *store.judge_warnings(store.newest_judge()))
    warnings = (f"Warning: {each}." for each in told)
    notes = (*warnings, *_how_far(store, run), *(weight_lines(weights) if weights else ()), *report.notes)
    more = {
        "notes": notes,
        "replies": store.reply_counts(),
        "controls": _controls(store),
        "siblings": store.sibling_counts(),
    }
    more |= {"aspects": _aspects(store, report.turns), "panel_weights": tuple(weights)}
    return report.model_copy(update=more)


def _controls(store: Store) -> tuple[ControlFigures, ...]:
    """Personal fit by the newest judge; the trees are read for it only where there is any."""
    if CONTROL not in store.note_names():
        return ()
    tally, personas = ControlTally(store.newest_judge()), store.personas()
    for judged in store.judged_trees():
        persona = personas.get(judged.tree.persona)
        tally.add(judged, "\n".join(persona.profile) if persona else judged.tree.id)
    return tally.figures()


def _aspects(store: Store, turns: int) -> tuple[AspectFigures, ...]:
    """Content, style and engagement by the newest judge; the trees are read for it only where there is any."""
    if ASPECTS_NOTE not in store.note_names():
        return ()
    tally, personas = AspectTally(store.newest_judge(), turns), store.personas()
    for judged in store.judged_trees():
        persona = personas.get(judged.tree.persona)
        tally.add(judged, "\n".join(persona.profile) if persona else judged.tree.id)
    return tally.figures()


def _how_far(store: Store, run: RunRecord) -> Iterator[str]:
    """What a reader must know of a run that is not, or not all, done: its figures look like those of any other."""
    counts = store.count_trees()
    planned, failed, trees = counts.get("planned", 0), counts.get("failed", 0), sum(counts.values())
    what = "conversations" if run.kind == "evaluation" else "trees"
    if planned:
        yield f"Not finished: {trees - planned:,} of {trees:,} {what} have ended; the figures are those of these alone."
    if failed:
        then = "what was not scored is missing" if run.kind == "evaluation" else "they are not in the figures"
        yield f"Failed: {failed:,} of {trees:,} {what}; {then}. The same command tries them again."


def scored_cases(store: Store) -> list[ScoredCase]:
    """The conversations of an evaluation that have ended, well or not."""
    personas = store.personas()
    return [
        ScoredCase(
            candidate=record.candidate or "",
            case=record.case or record.id,
            profile=personas[record.persona].profile,
            judged=store.judged_tree(record.id),
        )
        for record in store.trees()
        if record.status != "planned"
    ]


def _evaluation(store: Store, run: RunRecord, usage: Mapping[str, Usage]) -> Report:
    cases = scored_cases(store)
    judged = [case.judged for case in cases if case.judged is not None]
    judge = store.newest_judge()
    scores = candidate_scores(cases, run.begun_with.turns, judge)
    profiles = {persona.id: "\n".join(persona.profile) for persona in store.personas().values()}
    report = evaluation_report(_facts(run), scores, judged, usage, judge=judge, profile_of=profiles)
    if len(users := run.begun_with.users) > 1:
        swaps = simulator_swaps(scores_by_user(scores, users))
        simulator = report.simulator.model_copy(update={"members": _each_user(cases, users, report.turns)})
        report = report.model_copy(update={"simulator_swap": swaps, "simulator": simulator})
    found = corrections(cases, scores, store.labels(), store.label_questions())
    if found is None:
        return report
    notes = (*correction_lines(found), *report.notes)
    return report.model_copy(update={"corrected": as_json(found), "notes": notes})


def _each_user(cases: Sequence[ScoredCase], users: Sequence[str], turns: int) -> tuple[SimulatorFigures, ...]:
    """The figures of each user of an evaluation by itself."""
    tallies = [UserTally() for _ in users]
    for case in cases:
        if case.judged is not None:
            number = split_case(case.case, len(users))[1]
            tallies[number - 1].add(case.judged, "\n".join(case.profile))
    return tuple(tally.figures(user, turns) for tally, user in zip(tallies, users, strict=True))


def _simulation(store: Store, run: RunRecord, usage: Mapping[str, Usage]) -> Report:
    personas = list(store.personas().values())
    judge = store.newest_judge()
    turns = run.begun_with.turns
    trees, imported = store.judged_trees(), run.kind == "import"
    report = simulation_report(_facts(run), trees, personas, usage, turns=turns, judge=judge, imported=imported)
    return report.model_copy(update={"notes": (*_of_import(store, judge), *report.notes)}) if imported else report


def _of_import(store: Store, judge: str | None) -> Iterator[str]:
    """What a reader must know of conversations that were recorded elsewhere."""
    yield "The conversations were recorded elsewhere: what is said of the user is said of whoever wrote there."
    if judge == IMPORTED:
        yield f"The preferences of `{IMPORTED}` came with the file: no judge was asked, and in both orders they agree."
    personas, trees = store.personas(), store.trees()
    if unknown := sum(record.persona not in personas for record in trees):
        yield f"No persona is known for {unknown:,} of {len(trees):,} trees; each of them counts as a profile."


def _facts(run: RunRecord) -> dict[str, JsonValue]:
    return {"name": run.name, "kind": run.kind, "created": run.created, "version": run.version, **run.identity}
