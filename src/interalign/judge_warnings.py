"""When a run's own answers say that judge, replies or user should not be trusted: limits, and words for them."""

import math
from collections.abc import Iterator, Mapping
from typing import Final

from interalign.records import JudgeAnswers, SiblingCounts

MOST_FIRST: Final = 0.6
"""Share of decided answers for the reply shown first above which there is a warning; also below 1 minus this."""
LEAST_CONSISTENT: Final = 0.7
"""Share of comparisons that do not change with the order below which there is one; a coin keeps to half of them."""
MOST_MISSING: Final = 0.05
"""Share of questions without a readable answer above which there is one."""
MOST_IDENTICAL: Final = 0.2
"""Share of replies with siblings that may repeat one."""
MOST_MARKED: Final[Mapping[str, float]] = {
    "answers as the assistant": 0.25,
    "speaks of the user in the third person": 0.05,
    "refuses": 0.05,
    "copies the assistant": 0.10,
    "repeats itself": 0.10,
}
"""What a user agent should not do (`agents.audit`) -> share of its messages above which there is one."""
LEAST: Final = 20
"""Answers below which a share is not judged."""


def judge_warnings(name: str, answers: JudgeAnswers, candidates: Mapping[str, str]) -> Iterator[str]:
    """One sentence a reason to distrust this judge. `candidates`: name to model.

    A share counts only if it is past its limit by more than chance (one standard error of the limit).
    """
    first, n = answers.first, answers.named
    if n >= LEAST and first is not None and abs(first - 0.5) > MOST_FIRST - 0.5 + _error(MOST_FIRST, n):
        which, share = ("first", first) if first > 0.5 else ("second", 1 - first)
        yield f"judge {name} prefers the {which} reply {share:.0%} of the time (n {n:,}), whichever it is"
    kept, n = answers.consistency, answers.pairs
    if n >= LEAST and kept is not None and kept < LEAST_CONSISTENT - _error(LEAST_CONSISTENT, n):
        yield (
            f"judge {name} keeps to its answer in {kept:.0%} of {n:,} comparisons when the order is turned round; "
            "a coin does in 50%"
        )
    if answers.asked >= LEAST and answers.missing > MOST_MISSING * answers.asked:
        share = answers.missing / answers.asked
        yield f"judge {name} gave no readable answer to {share:.0%} of {answers.asked:,} questions"
    for candidate, model in candidates.items():
        if model == name:
            yield f"judge {name} is the model of candidate {candidate}; models favour their own replies"


def sibling_warnings(found: SiblingCounts) -> Iterator[str]:
    """One sentence if many replies to one message are the same: what is paid for then teaches nothing."""
    if found.replies >= LEAST and found.identical > MOST_IDENTICAL * found.replies:
        yield (
            f"{found.identical:,} of {found.replies:,} replies say word by word what a sibling says: the server "
            "ignores sampling, caches, or has temperature 0; give the candidate a temperature, or `seed: addressed`"
        )


def user_warnings(marked: Mapping[str, int], messages: int) -> Iterator[str]:
    """One sentence if the user agent does not speak as a user: `marked` counts its messages by what they do."""
    found = [
        f"{mark} in {marked[mark] / messages:.0%}"
        for mark, limit in MOST_MARKED.items()
        if messages >= LEAST and marked.get(mark, 0) / messages > limit + _error(limit, messages)
    ]
    if found:
        yield (
            f"the user agent {', '.join(found)} of its {messages:,} messages; `interalign roles probe MODEL` tells "
            "whether a model can play a user"
        )


def _error(limit: float, n: int) -> float:
    return math.sqrt(limit * (1 - limit) / n)
