"""What judged trees show about the judge and the user simulator: simple counts, each rate beside its n."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from interalign.agents.audit import ANSWERS, COPIES, ENDS, REFUSES, REPEATS, THIRD_PERSON, audit_user_message
from interalign.agents.ending import ENDED
from interalign.agents.findings import KINDS, stored_findings
from interalign.eval.intervals import (
    RESAMPLES,
    Interval,
    ProfileSums,
    bootstrap_interval,
    profile_sums,
    resampled_curves,
)
from interalign.eval.rates import rate_over_profiles
from interalign.tree import Frozen, JudgedTree, Node, Presentation, Verdict


class PairFigures(Frozen):
    """How a judge compared pairs of replies, each pair asked in both orders."""

    n: int
    """Pairs."""
    missing: int
    """Pairs with an order that could not be read; they are in none of the rates below."""
    consistency: float | None
    """Share of the readable pairs whose two orders say the same; None without any."""
    tie_rate: float | None
    """Share of the readable pairs that come out as a tie: said so, or the orders disagree."""
    first_rate: float | None
    """Share of the answers A or B that name the reply shown first; 0.5 means no position bias."""
    first_n: int
    """How many answers named one of the two replies."""


class ScoreFigures(Frozen):
    """How a judge scored replies."""

    n: int
    """Readable scores."""
    counts: tuple[int, int, int, int, int]
    """How often it gave 1, 2, 3, 4, 5."""


class HintFigures(Frozen):
    """Hinted replies against unhinted ones of the same candidate at the same place, as the judge saw them."""

    n: int
    wins: int
    ties: int
    losses: int
    win_rate: float | None
    """(wins + ties / 2) / n: 0.5 means that the hint made no difference; None without any pair."""
    ci: Interval | None
    """95 % bootstrap interval over profiles."""
    by_turn: tuple[float | None, ...]
    by_turn_ci: tuple[Interval | None, ...]
    n_by_turn: tuple[int, ...]


class Agreement(Frozen):
    """Two judges of a panel beside each other."""

    a: str
    b: str
    n: int
    """Pairs of replies, or replies that were scored, of which both gave a readable answer."""
    same: float | None
    """Share of them with the same outcome, or the same score."""
    kappa: float | None
    """Cohen's kappa, not weighted; None without any, or where both always said the same one thing."""


class PanelTies(Frozen):
    """Why a panel has no preference about pairs."""

    n: int
    """Pairs with a verdict of the panel."""
    ties: int
    split: int
    """Of the ties: one member prefers the one reply, another the other."""
    undecided: int
    """Of the ties: too few members have a preference; the others say tie, or change their answer with the order."""


class JudgeFigures(Frozen):
    """The judge's own record."""

    name: str | None
    """None if no judge was asked."""
    others: tuple[str, ...]
    """Further judges of the run, whose answers are not in this report."""
    asked: int
    """Questions put to it: one a score, two a comparison (one an order)."""
    missing: int
    """Questions whose every answer was unreadable."""
    re_asked: int
    """Questions that took more than one answer, readable in the end or not."""
    comparisons: PairFigures | None
    scores: ScoreFigures | None
    hint: HintFigures | None
    members: tuple["JudgeFigures", ...] = ()
    """Of a panel, each judge's own figures; how pairs and scores were judged stands there only."""
    agreement: tuple[Agreement, ...] = ()
    """Of a panel, every two of its judges."""
    ties: PanelTies | None = None
    """Of a panel that compared."""


class FindingFigures(Frozen):
    """Messages of the user agent with one kind of finding."""

    n: int
    share: float | None
    """Of the audited messages."""
    ci: Interval | None
    """95 % interval over profiles."""


class SimulatorFigures(Frozen):
    """What the user agent wrote."""

    user: str | None
    """Model name of the user agent, where the run says it."""
    conversations: int
    """Trees."""
    turns: int
    """User messages, one a turn (and one a branch that was continued)."""
    mean_words: float | None
    mean_characters: float | None
    repeated: float | None
    """Share of the user messages that were already said earlier on the same path (case and blanks ignored)."""
    ended: float | None
    """Share of those that say goodbye, by their words (agents/audit.py)."""
    as_assistant: float | None
    """Share of those that speak as the assistant, by their words."""
    refused: float | None = None
    """Share of those that refuse like an assistant."""
    third_person: float | None = None
    """Share of those that speak of the user in the third person."""
    copied: float | None = None
    """Share of those with at least half their words from one reply."""
    ended_after: tuple[int, ...] = ()
    """How many paths the user ended with the end mark after turn 1..K; all 0 where the run has no end mark."""
    audited: int = 0
    """Messages in conversations that `interalign audit` has read."""
    findings: Mapping[str, FindingFigures] = {}
    """What it found: kind -> how many of them. Kinds that were not found are not there."""
    members: "tuple[SimulatorFigures, ...]" = ()
    """Of an evaluation with several users: each one's own figures."""


class HintOutcome(NamedTuple):
    """How a reply with the inducer's notes did beside one of the same speaker without."""

    profile: str
    turn: int
    hinted_won: float
    """1, 0.5 for a tie, 0."""


def judge_names(trees: Iterable[JudgedTree]) -> tuple[str, ...]:
    """All judges of these trees, in the order first asked."""
    return tuple(dict.fromkeys(name for judged in trees for name in judged.judges()))


def newest_judge(trees: Sequence[JudgedTree]) -> str | None:
    """The last judge with a readable answer about these trees, else the last one; None if none was asked."""
    names = judge_names(trees)
    readable = [name for name in names if any(judged.by_judge(name).is_readable for judged in trees)]
    return next(reversed(readable or names), None)


def ended_after(judged: JudgedTree) -> list[int]:
    """The last turn of each path that the user ended."""
    return [int(str(note.value)) for note in judged.annotations if (note.name, note.by) == (ENDED, "user")]


class JudgeTally:
    """The record of one judge, counted tree by tree: it keeps numbers, not trees. A None judge said nothing."""

    def __init__(self, judge: str | None) -> None:
        self._judge = judge
        self._names: dict[str, None] = {}
        self._counts = Counter[str]()
        self._scores = [0] * 5
        self._outcomes: list[HintOutcome] = []

    def add(self, judged: JudgedTree, profile: str) -> None:
        """Count one tree, of a persona with this profile."""
        self._names |= dict.fromkeys(judged.judges())
        if self._judge is None:
            return
        own = judged.by_judge(self._judge)
        for verdict in own.verdicts:
            self._compared(verdict)
        for score in own.scores:
            self._counts["scored"] += 1
            self._answered(score.replies, score.value)
            if isinstance(score.value, int):  # a panel's mean may lie between two scores
                self._scores[score.value - 1] += 1
        self._outcomes += _outcomes(own, profile)

    def figures(self, *, turns: int, resamples: int = RESAMPLES, seed: int = 0) -> JudgeFigures:
        """The figures of all trees that were added; `turns` is K."""
        one, two, three, four, five = self._scores
        return JudgeFigures(
            name=self._judge,
            others=tuple(name for name in self._names if name != self._judge),
            asked=self._counts["asked"],
            missing=self._counts["missing"],
            re_asked=self._counts["re-asked"],
            comparisons=self._pairs() if self._counts["pairs"] else None,
            scores=ScoreFigures(n=sum(self._scores), counts=(one, two, three, four, five))
            if self._counts["scored"]
            else None,
            hint=hint_figures(self._outcomes, turns, resamples, seed),
        )

    def _answered(self, replies: Sequence[str], value: object) -> None:
        self._counts.update({"asked": 1, "missing": int(value is None), "re-asked": int(len(replies) > 1)})

    def _compared(self, verdict: Verdict) -> None:
        outcome, named = verdict.outcome, [order for order in verdict.orders if order.winner is not None]
        for order in verdict.orders:
            self._answered(order.replies, order.value)
        self._counts.update({"pairs": 1, "named": len(named), "first": sum(order.value == "A" for order in named)})
        if outcome != "missing":
            self._counts.update({"readable": 1, "tied": int(outcome == "tie"), "agreed": int(_agree(*verdict.orders))})

    def _pairs(self) -> PairFigures:
        counts = self._counts
        return PairFigures(
            n=counts["pairs"],
            missing=counts["pairs"] - counts["readable"],
            consistency=_share(counts["agreed"], counts["readable"]),
            tie_rate=_share(counts["tied"], counts["readable"]),
            first_rate=_share(counts["first"], counts["named"]),
            first_n=counts["named"],
        )


class UserTally:
    """What the user agent wrote, counted tree by tree."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._ended = Counter[int]()
        self._found: list[tuple[str, frozenset[str]]] = []
        """Each audited message: its profile and the kinds of findings."""

    def add(self, judged: JudgedTree, profile: str) -> None:
        """Count one tree, of a persona with this profile."""
        texts = [node.text for node in judged.tree.nodes if node.role == "user"]
        words, characters = sum(len(text.split()) for text in texts), sum(map(len, texts))
        self._counts.update({"trees": 1, "texts": len(texts), "words": words, "characters": characters})
        self._counts.update(_marks(judged))
        self._ended.update(ended_after(judged))
        self._found += ((profile, kinds) for kinds in _found_kinds(judged))

    def figures(self, user: str | None, turns: int) -> SimulatorFigures:
        """The figures of all trees that were added; the means are None if there is no message. `turns` is K."""
        counts, texts = self._counts, self._counts["texts"]
        return SimulatorFigures(
            user=user,
            conversations=counts["trees"],
            turns=texts,
            mean_words=_share(counts["words"], texts),
            mean_characters=_share(counts["characters"], texts),
            repeated=_share(counts[REPEATS], texts),
            ended=_share(counts[ENDS], texts),
            as_assistant=_share(counts[ANSWERS], texts),
            refused=_share(counts[REFUSES], texts),
            third_person=_share(counts[THIRD_PERSON], texts),
            copied=_share(counts[COPIES], texts),
            ended_after=tuple(self._ended[turn] for turn in range(1, turns + 1)),
            audited=len(self._found),
            findings=self._findings(),
        )

    def _findings(self) -> dict[str, FindingFigures]:
        met = frozenset[str]().union(*(kinds for _, kinds in self._found))
        rates = {
            kind: rate_over_profiles([(profile, kind in kinds) for profile, kinds in self._found])
            for kind in KINDS
            if kind in met
        }
        return {kind: FindingFigures(n=rate.hits, share=rate.share, ci=rate.ci) for kind, rate in rates.items()}


def _found_kinds(judged: JudgedTree) -> Iterator[frozenset[str]]:
    """The kinds of findings of each user message of an audited tree; nothing for one that was not audited."""
    stored = stored_findings(judged)
    kinds: dict[str, set[str]] = {}
    for finding in (each for findings in stored.values() for each in findings):
        kinds.setdefault(finding.node, set()).add(finding.kind)
    if stored:
        yield from (frozenset(kinds.get(node.id, ())) for node in judged.tree.nodes if node.role == "user")


def _marks(judged: JudgedTree) -> Iterator[str]:
    """Everything that is wrong with the user messages of a tree."""
    for node in judged.tree.nodes:
        if node.role == "user":
            before = judged.tree.path(node.id)[:-1]
            said, heard = ([each.text for each in before if each.role == role] for role in ("user", "assistant"))
            yield from audit_user_message(node.text, said, heard)


def _agree(one: Presentation, other: Presentation) -> bool:
    return one.winner == other.winner


def hint_figures(outcomes: Sequence[HintOutcome], turns: int, resamples: int, seed: int) -> HintFigures | None:
    """Win rates with their intervals over profiles, overall and at turns 1 to `turns`; None without any outcome."""
    if not outcomes:
        return None
    matrix = np.full((len(outcomes), turns), np.nan)
    for row, outcome in enumerate(outcomes):
        matrix[row, outcome.turn - 1] = outcome.hinted_won
    sums = profile_sums(matrix, [outcome.profile for outcome in outcomes])
    units = len(sums.sums)
    curves = resampled_curves(sums, resamples=resamples, seed=seed)
    counts = sums.counts.sum(axis=0)
    won = [outcome.hinted_won for outcome in outcomes]
    # The overall rate weighs every pair the same, so its interval adds up all turns before it resamples.
    overall = ProfileSums(sums.sums.sum(axis=1, keepdims=True), sums.counts.sum(axis=1, keepdims=True))
    return HintFigures(
        n=len(won),
        wins=won.count(1.0),
        ties=won.count(0.5),
        losses=won.count(0.0),
        win_rate=_share(sum(won), len(won)),
        ci=bootstrap_interval(resampled_curves(overall, resamples=resamples, seed=seed)[:, 0], units),
        by_turn=tuple(_share(float(total), int(n)) for total, n in zip(sums.sums.sum(axis=0), counts, strict=True)),
        by_turn_ci=tuple(bootstrap_interval(curves[:, k], units) for k in range(turns)),
        n_by_turn=tuple(int(n) for n in counts),
    )


def _outcomes(judged: JudgedTree, profile: str) -> Iterator[HintOutcome]:
    """One outcome a pair of a hinted and an unhinted reply; from scores where the judge compared nothing."""
    tree = judged.tree
    for verdict in judged.verdicts:
        a, b = tree.node(verdict.a), tree.node(verdict.b)
        if verdict.outcome == "missing" or not _differ_by_hint(a, b):
            continue
        winner = {"a": a, "b": b}.get(verdict.outcome)
        yield HintOutcome(profile, a.turn, 0.5 if winner is None else float(winner.hinted))
    if not judged.verdicts:
        yield from _scored_outcomes(judged, profile)


def _scored_outcomes(judged: JudgedTree, profile: str) -> Iterator[HintOutcome]:
    value = {score.node: score.value for score in judged.scores if score.value is not None}
    for turn in judged.tree.turns():
        replies = [node for node in judged.tree.children(turn.id) if node.id in value]
        for hinted, plain in product(replies, replies):
            if hinted.hinted and _differ_by_hint(hinted, plain):
                gap = value[hinted.id] - value[plain.id]
                yield HintOutcome(profile, turn.turn, 0.5 if gap == 0 else float(gap > 0))


def _differ_by_hint(one: Node, other: Node) -> bool:
    """The same candidate, once with the hint and once without."""
    return one.by == other.by and one.hinted != other.hinted


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
