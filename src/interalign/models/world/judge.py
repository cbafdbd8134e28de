"""What the judge answers: the truth, rounded, unless a fault is planted."""

from collections.abc import Sequence
from random import Random
from string import ascii_uppercase
from typing import Final, NamedTuple

from interalign.models.world.consistency import candidate_sentence, contradictions, style_shown, told_facts
from interalign.models.world.people import Person
from interalign.models.world.truth import TIE, Assessment, assess

BEST: Final = 5


class Faults(NamedTuple):
    """Faults planted in a judge, for calibration to find. Both are probabilities."""

    noise: float = 0.0
    """Of a comparison decided by a fair coin between A and B, of a list shuffled, and of a score that is off by one."""
    position_bias: float = 0.0
    """Of a comparison (that noise has spared) decided for the reply shown first, and of a list left as it was shown."""


def compare(person: Person, user_texts: Sequence[str], first: str, second: str, faults: Faults, rng: Random) -> str:
    """Reasons and a last line `Verdict: A`, `Verdict: B` or `Verdict: tie` (true scores closer than TIE)."""
    a, b = assess(person, user_texts, first), assess(person, user_texts, second)
    noise, bias, coin = rng.random(), rng.random(), rng.random()
    said = "tie" if abs(a.score - b.score) < TIE else "A" if a.score > b.score else "B"
    if noise < faults.noise:
        said = "A" if coin < 0.5 else "B"
    elif bias < faults.position_bias:
        said = "A"
    return f"Reply A {_reason(a)}.\nReply B {_reason(b)}.\nVerdict: {said}"


def rank(person: Person, user_texts: Sequence[str], replies: Sequence[str], faults: Faults, rng: Random) -> str:
    """Reasons and a last line `Ranking: B > A > C`; of replies closer than TIE the one shown first stands first.

    Noise puts all of them in an order of chance, position bias (where noise has spared them) in the order shown.
    """
    found = [assess(person, user_texts, reply) for reply in replies]
    noise, bias, order = rng.random(), rng.random(), list(range(len(replies)))
    if noise < faults.noise:
        rng.shuffle(order)
    elif bias >= faults.position_bias:
        for end in range(len(order) - 1, 0, -1):  # a bubble sort, which never turns a tie round
            for at in range(end):
                if found[order[at + 1]].score - found[order[at]].score >= TIE:
                    order[at : at + 2] = order[at + 1], order[at]
    reasons = [f"Reply {letter} {_reason(each)}." for letter, each in zip(ascii_uppercase, found, strict=False)]
    return "\n".join([*reasons, "Ranking: " + " > ".join(ascii_uppercase[place] for place in order)])


def score(person: Person, user_texts: Sequence[str], reply: str, faults: Faults, rng: Random) -> str:
    """Reasons and a last line `Score: N`: the true score rounded half up."""
    assessment = assess(person, user_texts, reply)
    noise, coin = rng.random(), rng.random()
    said = int(assessment.score + 0.5)
    if noise < faults.noise:
        said = _off_by_one(said, coin)
    return f"The reply {_reason(assessment)}.\nScore: {said}"


def score_with_aspects(person: Person, user_texts: Sequence[str], reply: str, faults: Faults, rng: Random) -> str:
    """As `score`, the same whole, with lines for content, style and engagement before the last one."""
    *reasons, whole = score(person, user_texts, reply, faults, rng).split("\n")
    assessment = assess(person, user_texts, reply)
    engages = assessment.asks + 0.5 * (assessment.right and not assessment.wrong)
    shares = {"Content": max(0.0, assessment.content), "Style": assessment.style, "Engagement": min(1.0, engages)}
    lines = []
    for name, share in shares.items():
        noise, coin = rng.random(), rng.random()
        said = int(1.5 + 4 * assessment.gate * share)
        lines.append(f"{name}: {_off_by_one(said, coin) if noise < faults.noise else said}")
    return "\n".join([*reasons, *lines, whole])


def audit(person: Person, message: str) -> str:
    """Reasons and a last line `Findings: ...` about a user's message: what its words show, without planted faults."""
    found = {
        "contradiction": bool(contradictions(person, message)),
        "recital": len(told_facts(message)) > 1,
        "assistant": bool(candidate_sentence(message)),
        "style": any(shown and not own for shown, own in zip(style_shown(message), person.style, strict=True)),
    }
    words = [word for word, is_so in found.items() if is_so]
    return f"Read word by word.\nFindings: {', '.join(words) or 'none'}"


def _off_by_one(said: int, coin: float) -> int:
    """One up or one down, always another score that exists."""
    if said in (1, BEST):
        return 2 if said == 1 else BEST - 1
    return said + 1 if coin < 0.5 else said - 1


def _reason(assessment: Assessment) -> str:
    """What decided, in words that quote neither persona nor reply."""
    if assessment.gate == 0:
        return "is not an answer to this message"
    if assessment.wrong:
        content = "gets the user wrong"
    elif assessment.right:
        content = "uses what matters about the user"
    else:
        content = "asks for what it needs to know" if assessment.asks else "could be for anybody"
    form = "" if assessment.gate == 1 else ", is poor in form"
    return f"{content}{form} and meets {assessment.style:.0%} of the user's style"
