"""From scores to the report: typed results in the schema of `interalign report --json` (docs/report.md)."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, Self

from pydantic import JsonValue, model_validator

from interalign.errors import MetricError
from interalign.eval import metrics
from interalign.eval.aspects import AspectFigures
from interalign.eval.controls import ControlFigures
from interalign.eval.intervals import LEVEL, RESAMPLES, Interval, holm, level_intervals, paired_difference
from interalign.eval.note_figures import NoteFigures, NoteTally
from interalign.eval.panel_tally import PanelTally
from interalign.eval.panel_weights import MemberWeight
from interalign.eval.tallies import (
    JudgeFigures,
    JudgeTally,
    SimulatorFigures,
    UserTally,
    ended_after,
    newest_judge,
)
from interalign.panel import PANEL
from interalign.personas import Persona
from interalign.records import ReplyCounts, SiblingCounts, Usage
from interalign.tree import Frozen, JudgedTree

SCHEMA: Literal[1] = 1
FEW_PROFILES = 8
"""With fewer profiles the intervals are noticeably too narrow (simulated in docs/report.md)."""
WORLD_NOTE = (
    "Figures from the embedded world (world:...) validate the pipeline; they say nothing about how good a language "
    "model is."
)


class ScoredCase(Frozen):
    """One conversation of an evaluation: which candidate, which case, and its linear tree with the judge's scores."""

    candidate: str
    case: str
    profile: tuple[str, ...]
    """The persona's profile: cases with equal profiles are resampled together."""
    judged: JudgedTree | None
    """None if the conversation failed before its first reply: every score is missing."""


class CandidateScores(Frozen):
    """s(c, k) of one candidate: for every case its scores at turns 1..K, None where missing."""

    name: str
    scores: Mapping[str, Sequence[float | None]]
    """Case id -> K scores. A reply's score is 1 to 5; where several replies share a turn, their mean."""
    profile_of: Mapping[str, str]
    """Case id -> profile."""
    ended: Mapping[str, int] = {}
    """Case id -> last turn, of the cases whose user ended the talk. Their later turns are absent, not missing."""

    @model_validator(mode="after")
    def _is_rectangular(self) -> Self:
        if len({len(row) for row in self.scores.values()}) > 1:
            raise MetricError(f"candidate {self.name!r}: every case needs a score, or None, for each of the K turns")
        if missing := self.scores.keys() - self.profile_of.keys():
            raise MetricError(f"candidate {self.name!r}: no profile for case {min(missing)!r}")
        return self

    @property
    def turns(self) -> int:
        """K; 0 without cases."""
        return len(next(iter(self.scores.values()), ()))  # every case has K; asked for once a case

    @property
    def reached(self) -> int:
        """The last turn that any case has: below K only where the user ended every talk before."""
        return max((self.ended.get(case, self.turns) for case in self.scores), default=0)


class CandidateResult(Frozen):
    """The ALOE figures of one candidate; None is a figure that is not defined (`Report.notes` says why)."""

    name: str
    n_cases: int
    n_profiles: int
    missing: int
    """Scores that should be there and are not: the turns that the cases have, K each, less the sum of n. A case that
    the user ended has no turns after that."""
    n: tuple[int, ...]
    """Scores at turn k."""
    al: tuple[float | None, ...]
    al_k_ci: tuple[Interval | None, ...]
    """Interval of AL(k), each turn on its own."""
    al_mean: float | None
    al_ci: Interval | None
    ir: float | None
    ir_ci: Interval | None
    r2: float | None
    n_al: tuple[float | None, ...]
    n_ir: float | None
    n_r2: float | None
    reached: int
    """The last turn that any case has: below K only where the user ended every talk before. IR, R2 and their
    normalised forms are over turns 1 to this one."""


class CandidateComparison(Frozen):
    """Candidate a minus candidate b, paired by case and turn."""

    a: str
    b: str
    delta_al: float | None
    ci: Interval | None
    p: float | None
    """Two-sided, by flipping the signs of whole profiles; not adjusted for the number of comparisons."""
    p_holm: float | None
    """The same, adjusted for all comparisons of this report (Holm)."""
    delta_ir: float | None
    delta_ir_ci: Interval | None
    n: int
    """Cases that both have."""
    n_profiles: int


class PairUnderUsers(Frozen):
    """Two candidates under two simulated users."""

    a: str
    b: str
    delta_al: tuple[float | None, float | None]
    """Mean AL of a less that of b under either user."""
    ci: tuple[Interval | None, Interval | None]
    flips: bool
    """The better one under one user is the worse one under the other."""
    clear: bool
    """It flips, and neither interval has 0 in it."""
    shift: float | None
    """The difference under the first user less that under the second."""
    shift_ci: Interval | None


class SimulatorSwap(Frozen):
    """The same candidates under two simulated users (`simulator_swap`)."""

    users: tuple[str, str]
    rankings: tuple[tuple[str, ...], tuple[str, ...]]
    """The candidates by mean AL under either user, the best first."""
    al_mean: tuple[tuple[float | None, ...], tuple[float | None, ...]]
    """Mean AL of the ranked ones, over the shared cases."""
    tau: float | None
    """Kendall's tau-b of both rankings: 1 where they are the same, -1 where one is the other's reverse."""
    ci: Interval | None
    n: int
    """Cases that every candidate has under both users."""
    n_profiles: int
    pairs: tuple[PairUnderUsers, ...]


class Bootstrap(Frozen):
    """How the intervals were made."""

    unit: Literal["profile"] = "profile"
    resamples: int
    level: float = LEVEL
    seed: int


class Report(Frozen):
    """What `report --json` prints; `schema` rises when a key changes its meaning or goes away."""

    schema_: Literal[1] = SCHEMA
    run: Mapping[str, JsonValue]
    candidates: tuple[CandidateResult, ...]
    comparisons: tuple[CandidateComparison, ...]
    judge: JudgeFigures
    simulator: SimulatorFigures
    usage: Mapping[str, Usage]
    inducer: NoteFigures | None = None
    """None where no notes were taken."""
    siblings: SiblingCounts = SiblingCounts()
    """Replies to one message that are the same."""
    aspects: tuple[AspectFigures, ...] = ()
    """Content, style and engagement, of runs whose judge was asked for them."""
    controls: tuple[ControlFigures, ...] = ()
    """Personal fit, of runs with a wrong-persona control."""
    panel_weights: tuple[MemberWeight, ...] = ()
    """Where the panel of the run weighs its members: by what."""
    simulator_swap: tuple[SimulatorSwap, ...] = ()
    """Whether the ranking stands under another user, of evaluations with several."""
    corrected: Mapping[str, JsonValue] | None = None
    """Figures corrected by people's labels (docs/report.md); None without any."""
    replies: Mapping[str, ReplyCounts] = {}
    """By role: questions asked again, and replies cut at their length limit."""
    kind: Literal["evaluation", "simulation", "import"]
    turns: int
    """K."""
    n_cases: int
    n_profiles: int
    bootstrap: Bootstrap
    notes: tuple[str, ...]
    """What a reader has to know before believing the figures, one sentence each."""

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values under the keys of the contract."""
        fields = self.model_dump()
        return {"schema": fields.pop("schema_"), **fields}


def candidate_scores(cases: Sequence[ScoredCase], turns: int, judge: str | None = None) -> tuple[CandidateScores, ...]:
    """The scores of each candidate, in order of appearance, by one judge (None: the newest).

    `turns` is K: what a short or failed conversation lacks is missing. Raises MetricError for a case that a candidate
    has twice, a tree with two replies in a turn, or a reply after turn K.
    """
    judge = judge or newest_judge([case.judged for case in cases if case.judged is not None])
    rows: dict[str, dict[str, list[float | None]]] = {}
    profiles: dict[str, dict[str, str]] = {}
    ended: dict[str, dict[str, int]] = {}
    for case in cases:
        mine = rows.setdefault(case.candidate, {})
        if case.case in mine:
            raise MetricError(f"candidate {case.candidate!r} has case {case.case!r} twice; give each case one tree")
        mine[case.case] = _linear_scores(case, turns, judge)
        profiles.setdefault(case.candidate, {})[case.case] = _profile_key(case.profile)
        if last := _last_turn(case.judged):
            ended.setdefault(case.candidate, {})[case.case] = last
    return tuple(
        CandidateScores(name=name, scores=rows[name], profile_of=profiles[name], ended=ended.get(name, {}))
        for name in rows
    )


def _last_turn(judged: JudgedTree | None) -> int | None:
    """The last turn there is of a tree whose user ended the talk; None for any other.

    Where paths branch, those that the user did not end go on to turn K, so the last turn there is speaks for all.
    """
    if judged is None or not ended_after(judged):
        return None
    return max(node.turn for node in judged.tree.nodes)


def candidate_result(candidate: CandidateScores, *, resamples: int = RESAMPLES, seed: int = 0) -> CandidateResult:
    """AL, IR, R2, their normalised forms and their intervals for one candidate."""
    scores = metrics.score_matrix(list(candidate.scores.values()), candidate.turns)
    profiles = [candidate.profile_of[case] for case in candidate.scores]
    al, n = metrics.alignment_level(scores)
    curve, later = al[: candidate.reached], (None,) * (candidate.turns - candidate.reached)
    intervals = level_intervals(scores[:, : candidate.reached], profiles, resamples=resamples, seed=seed)
    return CandidateResult(
        name=candidate.name,
        n_cases=len(scores),
        n_profiles=len(set(profiles)),
        missing=sum(candidate.ended.get(case, candidate.turns) for case in candidate.scores) - sum(n),
        n=n,
        al=al,
        al_k_ci=(*intervals.al, *later),
        al_mean=metrics.mean_alignment_level(al),
        al_ci=intervals.al_mean,
        ir=metrics.improvement_rate(curve),
        ir_ci=intervals.ir,
        r2=metrics.r_squared(curve),
        n_al=(*metrics.normalised_levels(curve), *later),
        n_ir=metrics.normalised_improvement_rate(curve),
        n_r2=metrics.normalised_r_squared(curve),
        reached=candidate.reached,
    )


def comparisons(
    candidates: Sequence[CandidateScores], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[CandidateComparison, ...]:
    """Every pair of candidates, the earlier one as a, over the cases that both have."""
    found = [_comparison(a, b, resamples, seed) for a, b in combinations(candidates, 2)]
    adjusted = holm([comparison.p for comparison in found])
    return tuple(comparison.model_copy(update={"p_holm": p}) for comparison, p in zip(found, adjusted, strict=True))


def evaluation_report(
    run: Mapping[str, JsonValue],
    candidates: Sequence[CandidateScores],
    judged: Sequence[JudgedTree],
    usage: Mapping[str, Usage],
    *,
    judge: str | None = None,
    profile_of: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Report:
    """The report of an evaluation: `candidates` from `candidate_scores`, `judged` the trees they came from.

    `run` is shown as it is; its `user`, if any, names the user agent. `judge` must be the one whose scores these are
    (None: the newest). `profile_of`: persona id to profile, by which an audit's intervals are resampled; without it by
    persona. Raises MetricError if two candidates share a name or differ in the number of turns.
    """
    kept = [candidate for candidate in candidates if candidate.scores]
    if len({candidate.turns for candidate in kept}) > 1:
        raise MetricError("candidates with different numbers of turns cannot be compared; score all with the same K")
    if len({candidate.name for candidate in candidates}) < len(candidates):
        raise MetricError("two candidates have the same name; give each its own with --candidate NAME=MODEL")
    turns = max((candidate.turns for candidate in candidates), default=0)
    of_judge, of_user = _judge_tally(judge or newest_judge(judged), run), UserTally()
    for tree in judged:
        persona = tree.tree.persona
        of_judge.add(tree, persona)  # no pair of an evaluation differs by its hint: the profile is not used
        of_user.add(tree, (profile_of or {}).get(persona, persona))
    figures = of_judge.figures(turns=turns, resamples=resamples, seed=seed)
    return _report("evaluation", run, candidates, of_user, figures, usage, turns, resamples, seed)


def simulation_report(
    run: Mapping[str, JsonValue],
    judged: Iterable[JudgedTree],
    personas: Sequence[Persona],
    usage: Mapping[str, Usage],
    *,
    turns: int,
    judge: str | None = None,
    imported: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Report:
    """The report of a simulation: the judge, the hint, the user agent; figures by candidate only if scores exist.

    `imported`: the conversations were recorded elsewhere. A tree of which no persona is known is a profile of its own,
    and the turns that it does not have are absent, not missing.

    A case is a tree; where a candidate has several scored replies in a turn of it, their mean counts. `personas` must
    hold every persona of the trees (MetricError otherwise); `turns` is K. The trees are looked at once and one at a
    time, so that a run of any size can be reported, if `judge` is named: the newest is known only after all of them.
    """
    profiles = {persona.id: _profile_key(persona.profile) for persona in personas}
    if judge is None:
        judged = list(judged)
        judge = newest_judge(judged)
    of_judge, of_user, profile_of = _judge_tally(judge, run), UserTally(), dict[str, str]()
    of_notes, scores = NoteTally(), _Branching(judge, imported=imported)
    for tree in judged:
        if tree.tree.persona not in profiles and not imported:
            raise MetricError(f"tree {tree.tree.id!r} has persona {tree.tree.persona!r}, which was not passed")
        profile_of[tree.tree.id] = profiles.get(tree.tree.persona, tree.tree.id)
        of_judge.add(tree, profile_of[tree.tree.id])
        of_user.add(tree, profile_of[tree.tree.id])
        of_notes.add(tree)
        scores.add(tree)
    figures = of_judge.figures(turns=turns, resamples=resamples, seed=seed)
    candidates = scores.candidates(profile_of, turns)
    kind: Literal["import", "simulation"] = "import" if imported else "simulation"
    report = _report(kind, run, candidates, of_user, figures, usage, turns, resamples, seed, profile_of)
    return report.model_copy(update={"inducer": of_notes.figures()})


def _judge_tally(judge: str | None, run: Mapping[str, JsonValue]) -> JudgeTally | PanelTally:
    members = run.get("judge")
    return PanelTally(list(map(str, members))) if judge == PANEL and isinstance(members, list) else JudgeTally(judge)


def _report(
    kind: Literal["evaluation", "simulation", "import"],
    run: Mapping[str, JsonValue],
    candidates: Sequence[CandidateScores],
    of_user: UserTally,
    judge: JudgeFigures,
    usage: Mapping[str, Usage],
    turns: int,
    resamples: int,
    seed: int,
    profile_of: Mapping[str, str] | None = None,
) -> Report:
    results = tuple(candidate_result(candidate, resamples=resamples, seed=seed) for candidate in candidates)
    compared = comparisons(candidates, resamples=resamples, seed=seed)
    cases = dict(profile_of or {}) | {case: scores.profile_of[case] for scores in candidates for case in scores.scores}
    user = run.get("user")
    simulator = of_user.figures(user if isinstance(user, str) else None, turns)
    return Report(
        run=run,
        candidates=results,
        comparisons=compared,
        judge=judge,
        simulator=simulator,
        usage=usage,
        kind=kind,
        turns=turns,
        n_cases=len(cases),
        n_profiles=len(set(cases.values())),
        bootstrap=Bootstrap(resamples=resamples, seed=seed),
        notes=(*_ends(simulator), *_notes(run, results, judge, len(set(cases.values())))),
    )


def _comparison(a: CandidateScores, b: CandidateScores, resamples: int, seed: int) -> CandidateComparison:
    shared = [case for case in a.scores if case in b.scores]
    reached = min(a.reached, b.reached)  # a turn that one of them never has cannot be compared
    difference = paired_difference(
        metrics.score_matrix([a.scores[case] for case in shared], a.turns)[:, :reached],
        metrics.score_matrix([b.scores[case] for case in shared], a.turns)[:, :reached],
        [a.profile_of[case] for case in shared],
        resamples=resamples,
        seed=seed,
    )
    return CandidateComparison(a=a.name, b=b.name, p_holm=None, **difference._asdict())


def _linear_scores(case: ScoredCase, turns: int, judge: str | None) -> list[float | None]:
    row: list[float | None] = [None] * turns
    if case.judged is None:
        return row
    where = f"case {case.case!r} of {case.candidate!r}"
    value = {score.node: score.value for score in case.judged.scores if score.judge == judge}
    replies = [node for node in case.judged.tree.nodes if node.role == "assistant"]
    if len({node.turn for node in replies}) < len(replies):
        raise MetricError(f"{where} has two replies in a turn; an evaluation is linear")
    for node in replies:
        if node.turn > turns:
            raise MetricError(f"{where} has a reply after turn {turns}; pass the real number of turns")
        row[node.turn - 1] = value.get(node.id)
    return row


class _Branching:
    """Scores by who spoke (`NAME` and `NAME+hint` apart), one case a tree: the mean of its replies at each turn."""

    def __init__(self, judge: str | None, *, imported: bool = False) -> None:
        self._judge = judge
        self._imported = imported
        self._ended: dict[str, int] = {}
        self._values: dict[str, dict[tuple[str, int], list[float]]] = {}

    def add(self, judged: JudgedTree) -> None:
        """Take the scores of one tree."""
        if self._imported:
            self._ended[judged.tree.id] = max(node.turn for node in judged.tree.nodes)
        elif last := _last_turn(judged):
            self._ended[judged.tree.id] = last
        for score in judged.scores:
            if score.judge == self._judge and score.value is not None:
                node = judged.tree.node(score.node)
                self._values.setdefault(node.label, {}).setdefault((judged.tree.id, node.turn), []).append(score.value)

    def candidates(self, profile_of: Mapping[str, str], turns: int) -> tuple[CandidateScores, ...]:
        """Every speaker with a score in any of the trees, which `profile_of` names in order."""
        return tuple(
            CandidateScores(
                name=name,
                scores={
                    tree: [_mean(found.get((tree, k), [])) for k in _upto(turns)]
                    for tree in self._met(found, profile_of)
                },
                profile_of=profile_of,
                ended=self._ended,
            )
            for name, found in self._values.items()
        )

    def _met(self, found: Collection[tuple[str, int]], trees: Iterable[str]) -> Iterable[str]:
        """The trees in which a speaker is expected: all; of recorded ones those in which it has a score."""
        mine = {tree for tree, _ in found}
        return [tree for tree in trees if tree in mine] if self._imported else trees


def _notes(
    run: Mapping[str, JsonValue], results: Sequence[CandidateResult], judge: JudgeFigures, profiles: int
) -> tuple[str, ...]:
    names = [judge.name, *(result.name for result in results)]
    notes = [WORLD_NOTE] if _names_world(dict(run)) or _names_world(list(names)) else []
    if profiles < 2:
        notes.append("No intervals and no p: they compare profiles, and there are fewer than two.")
    elif profiles < FEW_PROFILES:
        notes.append(f"The intervals rest on {profiles} profiles only; with under {FEW_PROFILES} they are too narrow.")
    if missing := sum(result.missing for result in results):
        notes.append(f"Missing scores: {missing}. They lower n at their turns; nothing is put in their place.")
    for result in results:
        notes.extend(_why_null(result))
    if judge.missing:
        notes.append(
            f"The judge gave no readable answer to {judge.missing} of {judge.asked} questions; none is guessed."
        )
    return tuple(notes)


def _ends(user: SimulatorFigures) -> Iterator[str]:
    when = ", ".join(f"{count:,} after turn {turn}" for turn, count in enumerate(user.ended_after, start=1) if count)
    if when:
        yield f"Ended by the user: {when}. What would have come later is absent, and not counted as missing."


def _why_null(result: CandidateResult) -> Iterator[str]:
    empty = [str(turn) for turn, n in enumerate(result.n[: result.reached], start=1) if n == 0]
    if empty:
        yield f"{result.name}: no score at turn {', '.join(empty)}, so AL there, IR and R2 are undefined."
    elif result.reached < 2:
        yield f"{result.name}: IR, R2 and N-AL need at least two turns."
    elif result.n_ir is None:
        yield f"{result.name}: AL is flat, so R2, N-AL, N-IR and N-R2 are undefined."


def _names_world(value: JsonValue | list[str | None]) -> bool:
    """Whether a model of the embedded world is named anywhere in `value`, alone or as NAME=world:..."""
    if isinstance(value, str):
        return value.startswith("world:") or "=world:" in value
    if isinstance(value, Mapping):
        return any(map(_names_world, value.values()))
    return isinstance(value, list) and any(map(_names_world, value))


def _profile_key(profile: Sequence[str]) -> str:
    return "\n".join(profile)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _upto(turns: int) -> range:
    return range(1, turns + 1)
