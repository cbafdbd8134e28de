"""Reading a judge's reply: the one value that it names on a line of its own, or bad content."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from string import ascii_lowercase, ascii_uppercase
from typing import Final, Literal, NamedTuple, cast

from interalign.errors import BadContentError
from interalign.tree import ASPECTS, Aspect, Choice

_LONGEST = 200
"""Characters of a line that can be an answer: the forms are far shorter, whatever markup is around them."""
_ENDS_A_LINE = re.compile(r"<br\s*/?>|</(?:p|div|li|h[1-6])>", re.IGNORECASE)
_HTML = re.compile(
    r"</?(?:b|strong|i|em|u|p|div|span|code|pre|h[1-6]|li|ul|ol|blockquote|center|font|mark)(?:\s[^<>]*)?>",
    re.IGNORECASE,
)
_ASCII_FORMS = {
    **{wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)},  # full-width forms
    ord("。"): ord("."),
    **dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff")),  # nothing to be seen
}
# No `|`: the prompt quotes the replies with it, and a reply that a judge repeats must not answer for the judge.
_BEFORE = r"(?:[\s#>*_`+•\"'“”\u2018\u2019«»(\[-]|\d{1,2}[.)]\s)*"
_AROUND = r"[\s*_`\"'“”\u2018\u2019«»()\[\]]*"


class _Form(NamedTuple):
    """How an answer is written."""

    line: re.Pattern[str]
    """A line that begins with the label; its group 1 is what stands behind the colon."""
    value: re.Pattern[str]
    """One value and harmless markup; its last group is the value."""
    rival: re.Pattern[str]
    """What is an answer too, but none that exists, or several."""
    expected: str


def _form(label: str, value: str, rival: str, expected: str) -> _Form:
    label = rf"(?a:{label})"  # ASCII: ignoring case, a dotless i would be an i
    return _Form(
        line=re.compile(rf"{_BEFORE}{label}{_AROUND}:(?!.*{label}{_AROUND}:)(.*)", re.IGNORECASE),
        value=re.compile(rf"{_AROUND}{value}{_AROUND}(?:[.!]{_AROUND})?", re.IGNORECASE),
        rival=re.compile(rf"{_AROUND}(?:{rival}){_AROUND}[.!]?{_AROUND}", re.IGNORECASE),
        expected=expected,
    )


_A_REPLY = r"(?:reply|response|answer|option|assistant)\s+"
_VERDICT = _form(
    "verdict",
    rf"(?:{_A_REPLY}{_AROUND}(?!tie))?((?a:a|b|tie))",
    rf"\w+|.*\b(?:a|b|tie)\b\W*(?:\b(?:or|and|vs)\b|[/,|&])\W*(?:{_A_REPLY})?(?:a|b|tie)\b.*",
    "Verdict: A, B or tie",
)
_SCORE_VALUE = r"([1-5])(?:\s*/\s*5)?"
_SCORE_RIVAL = r"[-+]?\w+(?:[.,]\d+)?(?:\s*/\s*\d+)*|.*\d\W*(?:\b(?:or|and|to)\b|[/,|&\u2013-])\W*\d.*"
_SCORE = _form("score", _SCORE_VALUE, _SCORE_RIVAL, "Score: N, 1 to 5")


_ASPECTS: Final = {
    aspect: _form(aspect, _SCORE_VALUE, _SCORE_RIVAL, f"{aspect.capitalize()}: N, 1 to 5") for aspect in ASPECTS
}
AUDITED: Final = ("contradiction", "recital", "assistant", "stall", "style")
"""What a judge may find in a user's message."""
_FINDINGS = _form(
    "findings?",
    rf"(none|(?:{'|'.join(AUDITED)})(?:(?:\s*,\s*|\s+and\s+|\s*,\s*and\s+)(?:{'|'.join(AUDITED)}))*)",
    r".*\w.*",
    "Findings: none, or some of " + ", ".join(AUDITED),
)


def parse_verdict(reply: str) -> Choice:
    """X of a line `Verdict: X` with X one of A, B, tie; BadContentError unless the reply names exactly one.

    The line may stand anywhere, in any case and in full-width forms, with blanks, list, quote and heading marks,
    emphasis, quotation marks, brackets, simple HTML and one full stop around label and value; A and B may be called
    `Reply A` and `Reply B`. A line with any other word before the label, between it and the value or behind the value
    is no verdict line, and nothing is taken from it. A second verdict line with another value spoils the reply, as does
    one whose value does not exist ("C") or that names several ("A or B").
    """
    said = _one_value(reply, _VERDICT)
    return cast(Choice, said if said == "tie" else said.upper())


def parse_ranking(reply: str, count: int) -> tuple[int, ...]:
    """The places, A is 0, of a line `Ranking: B > A > C`, best first; BadContentError unless it names each once.

    `count` replies were shown, 2 to 26. Where the line may stand and what may be around it and its letters is as with
    `parse_verdict`. Equal places (`=`), commas, letters that are missing, twice or too many are no ranking.
    """
    said = _one_value(reply, _ranking(count))
    places = tuple(ascii_lowercase.index(re.findall("[a-z]", part)[-1]) for part in said.split(">"))
    if len(set(places)) < count:
        raise BadContentError(f"a reply is named twice in 'Ranking: {said[:200]}'", reply)
    return places


@cache
def _ranking(count: int) -> _Form:
    one = rf"(?:{_A_REPLY})?{_AROUND}(?a:[a-{ascii_lowercase[count - 1]}])"
    shown = " > ".join(ascii_uppercase[:count])
    return _form(
        "ranking",
        rf"({one}(?:{_AROUND}>{_AROUND}{one}){{{count - 1}}})",
        r".*[>=<,].*|\w+",
        f"Ranking: {shown}, in the order of the judge",
    )


def parse_score(reply: str) -> Literal[1, 2, 3, 4, 5]:
    """N of a line `Score: N` or `Score: N/5` with N in 1..5; BadContentError unless the reply names exactly one.

    Where the line may stand and what may be around it is as with `parse_verdict`.
    """
    return cast(Literal[1, 2, 3, 4, 5], int(_one_value(reply, _SCORE)))


class ScoreWithAspects(NamedTuple):
    """A score of the whole, and of its aspects those that could be read."""

    value: int
    aspects: Mapping[Aspect, int]


def parse_score_with_aspects(reply: str) -> ScoreWithAspects:
    """N of a line `Score: N` as `parse_score`, and of `Content: N`, `Style: N`, `Engagement: N` what is there.

    The score alone decides whether the reply counts (BadContentError). An aspect without a line, with two different
    ones or with a value that does not exist is left out.
    """
    value, found = parse_score(reply), dict[Aspect, int]()
    for aspect, form in _ASPECTS.items():
        with suppress(BadContentError):
            found[aspect] = int(_one_value(reply, form))
    return ScoreWithAspects(value, found)


def parse_findings(reply: str) -> tuple[str, ...]:
    """The words of a line `Findings: X, Y`, in the order of AUDITED; empty for `Findings: none`.

    BadContentError unless the reply has exactly one such line, or several that say the same. Where the line may stand
    and what may be around it is as with `parse_verdict`.
    """
    said = set(re.findall(r"\w+", _one_value(reply, _FINDINGS)))
    return tuple(word for word in AUDITED if word in said)


def _one_value(reply: str, form: _Form) -> str:
    found = list(_answers(reply, form))
    values = {value for value, _ in found}
    if len(values) > 1:
        lines = ", ".join(repr(line) for _, line in found)
        raise BadContentError(f"two different answers in one reply: {lines[:200]}", reply)
    if values <= {None}:
        last = next((line for line in reversed(reply.splitlines()) if line.strip()), "")
        raise BadContentError(f"expected a last line '{form.expected}', got {last[:200]!r}", reply)
    return str(values.pop())


def _answers(reply: str, form: _Form) -> Iterator[tuple[str | None, str]]:
    """Each line that answers: its value (None for a rival) and the line."""
    for line in _ENDS_A_LINE.sub("\n", reply.translate(_ASCII_FORMS)).splitlines():
        if ":" not in line or len(line) > _LONGEST:
            continue
        answer = form.line.fullmatch(_HTML.sub("", line))
        if answer is None:
            continue  # also where the label stands twice: that repeats what the prompt asks for
        if value := form.value.fullmatch(answer[1]):
            yield value[1].lower(), line.strip()
        elif form.rival.fullmatch(answer[1]):
            yield None, line.strip()
