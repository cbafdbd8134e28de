"""What is read from a judge's reply, and what would be a guess."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.agents.answers import parse_score, parse_verdict
from interalign.agents.reply_text import clean_reply
from interalign.errors import BadContentError

VERDICTS = {
    # markup that changes nothing
    "Verdict: A": "A",
    "Reason.\nVerdict: B": "B",
    "R.\nVerdict: A  \n\n": "A",
    "verdict: a": "A",
    "VERDICT: TIE": "tie",
    "Verdict:A": "A",
    "Verdict : A": "A",
    "  Verdict:\tA": "A",
    "Verdict: B.": "B",
    "Verdict: A!": "A",
    "**Verdict: A**": "A",
    "Verdict: **B**": "B",
    "**Verdict:** **A**.": "A",
    "**Verdict**: A": "A",
    "__Verdict__: *A*": "A",
    "`Verdict: tie`": "tie",
    "`Verdict`: `A`": "A",
    "```text\nVerdict: A\n```": "A",
    "### Verdict: A": "A",
    "- Verdict: A": "A",
    "* **Verdict: tie**": "tie",
    "> Verdict: A": "A",
    "1. Verdict: B": "B",
    'Verdict: "A"': "A",
    "\u201cVerdict: A\u201d": "A",
    "Verdict: 'B'": "B",
    "Verdict: (A)": "A",
    "Verdict: [A]": "A",
    "Verdict: [[A]]": "A",
    "<b>Verdict: B</b>": "B",
    "<p><strong>Verdict:</strong> A</p>": "A",
    "R.<br>Verdict: A<br/>": "A",
    "Verdict: Reply B": "B",
    "Verdict: Reply **A**": "A",
    "Verdict: Response B": "B",
    # signs that look like ASCII, and line ends
    "Verdict\uff1aA": "A",
    "\uff36\uff45\uff52\uff44\uff49\uff43\uff54\uff1a\u3000\uff22": "B",
    "Verdict: A\u3002": "A",
    "Verdict:\u00a0A": "A",
    "\u200bVerdict: A\u200b": "A",
    "\ufeffVerdict: A": "A",
    "R.\r\nVerdict: A\r\n": "A",
    "R.\rVerdict: A": "A",
    "R.\u2028Verdict: A": "A",
    # wherever the line stands, and more than once
    "Verdict: A\n\nI hope this helps.": "A",
    "Verdict: A\nYes.\n**Verdict: A**": "A",
    "I end with `Verdict: A`, `Verdict: B` or `Verdict: tie`.\nVerdict: B": "B",
    "`Verdict: A`, `Verdict: B` or `Verdict: tie`\nVerdict: B": "B",
    "**Verdict:**\nReply A is warmer.\nVerdict: A": "A",
    "~~Verdict: A~~\nVerdict: B": "B",
    # what is cut off before
    "<think>B looks good. Verdict: B</think>\nR.\nVerdict: A": "A",
    "<think>\nVerdict: B\n</think>\nVerdict: A": "A",
    "Verdict: B\n</think>\nVerdict: A": "A",
    "Verdict: A<|im_end|>": "A",
    "assistant\nVerdict: A": "A",
    # no value
    "": None,
    "\n\n": None,
    "A": None,
    "I prefer A.": None,
    "Verdict:": None,
    "Verdict:\nA": None,
    "Verdict A": None,
    "Verdict - A": None,
    "Verdict:: A": None,
    "Verdict: C": None,
    "Verdict: neither": None,
    "Verdict: draw": None,
    "Verdict: a tie": None,
    "Verdict: Reply tie": None,
    "Verdict: \u0410": None,  # Cyrillic
    "Verdict: t\u0131e": None,  # without its dot
    "Verdict: A?": None,
    "Verdict: A...": None,
    "Verdict: A;": None,
    "Verdict: A\0": None,
    "Verdict: <A>": None,
    "Verdict: <B>": None,
    "Score: 4": None,
    # other words
    "Not Verdict: A": None,
    "My Verdict: A": None,
    "Final Verdict: A": None,
    "It is warmer. Verdict: A": None,
    "Verdict: A is worse": None,
    "Verdict: A (warmer)": None,
    "Verdict: A, obviously": None,
    "Verdict: not A": None,
    "Verdict: the first": None,
    "Verdict: A > B": None,
    '{"verdict": "A"}': None,
    "\\boxed{A}": None,
    "Verdict: \\boxed{A}": None,
    "| Verdict | A |": None,
    # quoted from the prompt, where a reply's every line begins so
    "| Verdict: A": None,
    "| Verdict: A |": None,
    "| Verdict: A\nVerdict: B": "B",
    # several
    "Verdict: A or B": None,
    "Verdict: either A or B": None,
    "Verdict: A/B": None,
    "Verdict: A and B": None,
    "Verdict: A, B": None,
    "Verdict: A\nVerdict: B": None,
    "Verdict: A\u2028Verdict: B": None,
    "Verdict: A\n> Verdict: B": None,
    "Verdict: A or B\nVerdict: A": None,
    "Verdict: C\nVerdict: A": None,
    "`Verdict: A`, `Verdict: B` or `Verdict: tie`": None,
}
SCORES = {
    "Score: 4": 4,
    "Score: 4/5": 4,
    "Score: 4 / 5.": 4,
    "Score: 5/5": 5,
    "**Score: 2**": 2,
    "## Score: 3": 3,
    "Score: [[5]]": 5,
    "Score: 3.": 3,
    "score:1": 1,
    "Score: \uff14": 4,
    "Score: \uff14\uff0f\uff15": 4,
    "Score: 4\nThat is all.": 4,
    "Score: 4\nScore: 4/5": 4,
    "`Score: N`, with N in 1..5\nScore: 2": 2,
    "<think>Score: 2</think>\nScore: 3": 3,
    "4": None,
    "Score: 0": None,
    "Score: 6": None,
    "Score: 44": None,
    "Score: 04": None,
    "Score: +4": None,
    "Score: -3": None,
    "Score: 4.0": None,
    "Score: 4.5": None,
    "Score: 4,5": None,
    "Score: 8/10": None,
    "Score: 4/10": None,
    "Score: 4/5/5": None,
    "Score: 4 out of 5": None,
    "Score: 4%": None,
    "Score: ~4": None,
    "Score: IV": None,
    "Score: four": None,
    "Score: \u0664": None,  # Arabic
    "\u017fcore: 4": None,  # a long s
    "Score: 4 - because it asks.": None,
    "Score: 4 (good)": None,
    "My score: 4": None,
    "Score: 4 or 5": None,
    "Score: 3-4": None,
    "Score: 3 to 4": None,
    "Score: 4 5": None,
    "Score: 4\nScore: 5": None,
    "Score: 6\nScore: 5": None,
    "Score: 4.5\nScore: 4": None,
    "Verdict: A": None,
}
SPREADING = ("", " ", "\t", "**", "`", "_", "> ", "- ", "# ", '"', "\u200b", "\u00a0")


def verdict(reply: str) -> str | None:
    try:
        return parse_verdict(clean_reply(reply))
    except BadContentError:
        return None


def score(reply: str) -> int | None:
    try:
        return parse_score(clean_reply(reply))
    except BadContentError:
        return None


@pytest.mark.parametrize(("reply", "value"), VERDICTS.items())
def test_a_verdict_is_read_where_the_reply_names_exactly_one(reply: str, value: str | None) -> None:
    assert verdict(reply) == value


@pytest.mark.parametrize(("reply", "value"), SCORES.items())
def test_a_score_is_read_where_the_reply_names_exactly_one(reply: str, value: int | None) -> None:
    assert score(reply) == value


@pytest.mark.parametrize(
    ("reply", "other"), [(reply.replace(" A", " B"), value) for reply, value in VERDICTS.items() if value == "A"]
)
def test_what_is_read_as_a_is_read_as_b_where_it_says_b(reply: str, other: str) -> None:
    if reply.count(" B") == 1 and " A" not in reply:
        assert verdict(reply) == "B"


def test_the_reply_stands_in_the_error_which_says_what_was_expected() -> None:
    with pytest.raises(
        BadContentError, match=r"expected a last line 'Verdict: A, B or tie', got 'I like A\.'"
    ) as caught:
        parse_verdict("Hm.\nI like A.\n")
    assert caught.value.reply == "Hm.\nI like A.\n"
    with pytest.raises(BadContentError, match="expected a last line 'Score: N, 1 to 5', got ''"):
        parse_score("")
    with pytest.raises(BadContentError, match="two different answers in one reply: 'Verdict: A', 'Verdict: B'"):
        parse_verdict("Verdict: A\nNo, wait.\nVerdict: B")


@given(
    st.lists(st.sampled_from(SPREADING), max_size=4),
    st.sampled_from(["A", "B", "tie"]),
    st.lists(st.sampled_from([sign for sign in SPREADING if sign not in ("> ", "- ", "# ")]), max_size=4),
)
def test_any_mixture_of_harmless_markup_around_a_verdict_is_read(
    before: list[str], value: str, after: list[str]
) -> None:
    assert verdict(f"{''.join(before)}Verdict: {value}{''.join(after)}") == value


@given(st.text(st.characters(categories=["L"]), min_size=1, max_size=12))
def test_a_word_before_the_label_or_behind_the_value_makes_it_no_answer(word: str) -> None:
    assert score(f"{word} Score: 3") is None
    assert score(f"Score: 3 {word}") is None


@given(st.lists(st.one_of(st.text(max_size=30), st.sampled_from(["Verdict: A", "Verdict: B", "Verdict: tie"]))))
def test_no_reply_is_read_as_a_value_that_none_of_its_lines_names(parts: list[str]) -> None:
    value = verdict("\n".join(parts))
    assert value is None or any(f"verdict: {value}".lower() in part.lower() for part in parts)


@pytest.mark.parametrize("reply", ["*" * 2_000_000, "Verdict: A " * 200_000, "\n" * 300_000, "[" * 190 + "\n"])
def test_a_reply_without_end_is_no_verdict(reply: str) -> None:
    assert verdict(reply) is None
