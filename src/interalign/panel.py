"""Several judges as one: their majority vote on a pair of replies, their mean score of a reply.

Nothing of it is stored. It is derived from what each judge said, under the name `panel`, whenever trees are read.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
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


def with_panel(judged: JudgedTree, members: Collection[str]) -> JudgedTree:
    """The same tree with the panel's verdicts and scores behind those of its members."""
    verdicts, scores = panel_words(judged.verdicts, judged.scores, members)
    return judged.model_copy(
        update={"verdicts": (*judged.verdicts, *verdicts), "scores": (*judged.scores, *scores)},
    )


def panel_words(
    verdicts: Sequence[Verdict], scores: Sequence[Score], members: Collection[str]
) -> tuple[tuple[Verdict, ...], tuple[Score, ...]]:
    """What the panel of these judges says, pairs and replies in the order first met."""
    pairs = _grouped(((word.a, word.b), word) for word in verdicts if word.judge in members)
    replies = _grouped((word.node, word) for word in scores if word.judge in members)
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
