"""Several judges as one: their majority vote on a pair of replies, their mean score of a reply.

Nothing of it is stored. It is derived from what each judge said, under the name `panel`, whenever trees are read. Where
weights are given, votes and scores count by them (weighted plurality, weighted mean).
"""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from interalign.tree import ASPECTS, Choice, JudgedTree, Outcome, Presentation, Score, Verdict

PANEL: Final = "panel"
_SAID: Final[dict[Outcome, tuple[Choice | None, Choice | None]]] = {
    "a": ("A", "B"),
    "b": ("B", "A"),
    "tie": ("tie", "tie"),
    "missing": (None, None),
}
"""Outcome -> what a judge says in both orders to mean it."""
W = TypeVar("W", Verdict, Score)


def with_panel(judged: JudgedTree, members: Collection[str], weights: Mapping[str, float] | None = None) -> JudgedTree:
    """The same tree with the panel's verdicts and scores behind those of its members.

    `weights` of all members: the panel weighs what they say by them; None: each has one vote.
    """
    verdicts, scores = panel_words(judged.verdicts, judged.scores, members, weights)
    return judged.model_copy(
        update={"verdicts": (*judged.verdicts, *verdicts), "scores": (*judged.scores, *scores)},
    )


def panel_words(
    verdicts: Sequence[Verdict],
    scores: Sequence[Score],
    members: Collection[str],
    weights: Mapping[str, float] | None = None,
) -> tuple[tuple[Verdict, ...], tuple[Score, ...]]:
    """What the panel of these judges says, pairs and replies in the order first met."""
    pairs = _grouped(((word.a, word.b), word) for word in verdicts if word.judge in members)
    replies = _grouped((word.node, word) for word in scores if word.judge in members)
    if weights is not None:
        return tuple(weighted(votes, weights) for votes in pairs), tuple(weighted_score(w, weights) for w in replies)
    return tuple(majority(votes) for votes in pairs), tuple(mean_score(each) for each in replies)


def _grouped(words: Iterable[tuple[Hashable, W]]) -> Iterator[list[W]]:
    groups: dict[Hashable, list[W]] = {}
    for about, word in words:
        groups.setdefault(about, []).append(word)
    yield from groups.values()


def majority(votes: Sequence[Verdict]) -> Verdict:
    """The panel's verdict on one pair: what more than half of the votes that are not missing say, else a tie.

    Missing only if every vote is. It has no raw replies: those are its members'.
    """
    a, b = votes[0].a, votes[0].b
    counts = Counter(vote.outcome for vote in votes if vote.outcome != "missing")
    outcome: Outcome = "tie" if counts else "missing"
    outcome = next((said for said, times in counts.items() if 2 * times > counts.total()), outcome)
    return _verdict(a, b, outcome)


def weighted(votes: Sequence[Verdict], weights: Mapping[str, float]) -> Verdict:
    """The panel's verdict on one pair, by the weights of its members: naive Bayes over their single answers.

    Each of a member's two answers (one an order) counts its weight for what it names: a reply, or a tie. What has most
    weight is the verdict; if two have it, a tie. So a member that changes its answer with the order counts for both
    replies alike. A member of weight 0, or with an order that could not be read, has no vote; missing if none has one.
    """
    a, b = votes[0].a, votes[0].b
    said: dict[Outcome, float] = {"a": 0.0, "b": 0.0, "tie": 0.0}
    names: dict[str | None, Outcome] = {a: "a", b: "b", None: "tie"}
    voting = [vote for vote in votes if vote.outcome != "missing" and weights[vote.judge] > 0]
    for vote in voting:
        for order in vote.orders:
            said[names[order.winner]] += weights[vote.judge]
    most = [outcome for outcome, weight in said.items() if weight > max(said.values()) - _SAME_WEIGHT]
    return _verdict(a, b, "missing" if not voting else most[0] if len(most) == 1 else "tie")


_SAME_WEIGHT = 1e-9
"""Sums of weights closer than this are equal: the order in which they were added up must not decide."""


def weighted_score(scores: Sequence[Score], weights: Mapping[str, float]) -> Score:
    """The panel's score of one reply: the weighted mean of those that are there, of members with a weight above 0."""
    known = [(weights[score.judge], score) for score in scores if score.value is not None and weights[score.judge] > 0]
    aspects = {
        name: _weighted_mean([(weight, score.aspects[name]) for weight, score in known if name in score.aspects])
        for name in ASPECTS
    }
    return Score(
        judge=PANEL,
        node=scores[0].node,
        replies=(),
        value=_weighted_mean([(weight, score.value or 0) for weight, score in known]),
        aspects={name: value for name, value in aspects.items() if value is not None},
    )


def _weighted_mean(values: Sequence[tuple[float, float]]) -> float | None:
    """Of pairs of a weight and a value; kept within 1 to 5, which rounding could leave."""
    if not values:
        return None
    mean = sum(weight * value for weight, value in values) / sum(weight for weight, _ in values)
    return min(5.0, max(1.0, mean))


def _verdict(a: str, b: str, outcome: Outcome) -> Verdict:
    forth, back = _SAID[outcome]
    orders = (
        Presentation(first=a, second=b, replies=(), value=forth),
        Presentation(first=b, second=a, replies=(), value=back),
    )
    return Verdict(judge=PANEL, a=a, b=b, orders=orders)


def mean_score(scores: Sequence[Score]) -> Score:
    """The panel's score of one reply: the mean of those that are not missing; missing only if all are.

    Its aspects are the means of those that its members scored.
    """
    aspects = {name: _mean([score.aspects[name] for score in scores if name in score.aspects]) for name in ASPECTS}
    return Score(
        judge=PANEL,
        node=scores[0].node,
        replies=(),
        value=_mean([score.value for score in scores if score.value is not None]),
        aspects={name: value for name, value in aspects.items() if value is not None},
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
