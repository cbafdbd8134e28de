"""From what a model sent to what it said: reasoning, chat-template tokens and a leaked role name are cut off.

Servers and local engines pass on what a reasoning parser or a chat template should have taken out. The ledger keeps
the raw text; every role reads what `clean_reply` leaves of it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from interalign.errors import BadContentError

Speaks = Literal["assistant", "user"]
"""Who the message is from: the user agent, which may also call itself `Human`, or anybody else."""

_FLAGS = re.IGNORECASE | re.DOTALL | re.MULTILINE
_TAG = r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|scratchpad)"
_OPENING = (
    rf"<{_TAG}(?:\s[^<>]*)?>|\[think\]|◁think▷|<\|channel>[ \t]*(?:thought|analysis)\b|<unused94>(?:thought\b)?"
    r"|<\|(?:begin_of_thought|start_thinking)\|>"
)
_CLOSING = rf"<\s*/\s*{_TAG}\s*>|\[/think\]|◁/think▷|<channel\|>|<unused95>|<\|(?:end_of_thought|end_thinking)\|>"
_END_OF_TURN = (
    r"<\|(?:im_end|eot_id|eom_id|eot|eom|end|return|call|endoftext|end_of_text|end_of_turn|end_of_turn_token|endofturn"
    r"|eos|assistant_end|role_end|end_response|end_of_solution)\|>"
    r"|<(?:end_of_turn|turn\||eos|pad)>|<[|\uff5c]end▁of▁sentence[|\uff5c]>|^\[/?INST\]|\[/?INST\](?=[ \t]*$)"
)
_TAKES_A_NAME = r"<\|(?:im_start|start_header_id|start|start_of_role)\|>|<start_of_turn>|<\|turn>"
_OWN_TURN = (
    r"<\|(?:assistant|assistant_start|chatbot_token|start_of_turn_token|start_response|begin_of_solution)\|>"
    r"|<\uff5cAssistant\uff5c>"
)
_START_OF_TEXT = r"<\|(?:end_header_id|end_of_role|message|begin_of_text)\|>|<bos>|<\uff5cbegin▁of▁sentence\uff5c>"
_ANOTHER_TURN = r"<\|(?:user|user_start|user_token|system|system_token|observation)\|>|<\uff5cUser\uff5c>"
_CODE = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[^\n]*\n.*?^ {0,3}(?P=fence)[`~]*[ \t]*$"
    r"|(?P<ticks>`+)(?!`)[^\n]{1,1000}?(?<!`)(?P=ticks)(?!`)",
    re.DOTALL | re.MULTILINE,
)


def _leading(names: str, label: str) -> re.Pattern[str]:
    """Tokens before the message, then a role name: `names` on a line of its own, or `label` with a colon."""
    header = rf"(?:{_TAKES_A_NAME})\s*(?:(?:{names})(?=\s*(?:\n|<|\Z))|assistant\b|(?!user|human|system|tool))"
    tokens = rf"{header}|<{_TAG}\s*/>|{_OWN_TURN}|{_END_OF_TURN}|</s>|{_START_OF_TEXT}"
    spoken = rf"(?:{names})[ \t]*(?=\n|\Z)|(?:#+[ \t]*)?[*_\[]{{0,3}}(?:{label})[*_\]]{{0,3}}:[*_]{{0,3}}"
    return re.compile(rf"\A(?:\s*(?:{tokens}))*\s*(?:{spoken})?", _FLAGS)


_LEADING: dict[Speaks, re.Pattern[str]] = {
    # `Model` with a capital letter may well be the heading of a reply.
    "assistant": _leading("assistant|(?-i:model)", "assistant"),
    "user": _leading("assistant|(?-i:model|user|human)", "user|human"),
}
_REASONING = re.compile(rf"(?P<opening>{_OPENING})|(?P<closing>{_CLOSING})", _FLAGS)
_TURN_ENDS = re.compile(rf"{_END_OF_TURN}|{_TAKES_A_NAME}|{_OWN_TURN}|{_ANOTHER_TURN}|</s>", _FLAGS)
_TOKEN_AT_THE_END = re.compile(r"<[|\uff5c][\w▁/-]{2,40}[|\uff5c]>\Z")
_WRAPPED = re.compile(r"\s*<(answer|response)>(.*)</\1>\s*\Z", _FLAGS)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>", _FLAGS)
_CHANNEL = re.compile(r"\s*(?:<\|start\|>\s*assistant\s*)?<\|channel\|>", _FLAGS)
_WITHOUT_TOKENS = re.compile(r"\s*analysis(?!\s).*?assistantfinal", re.DOTALL)
"""Channels whose tokens were dropped and whose names were not."""
_SPELT_OUT = re.compile(r"\s*Here is my thought process:.*?^[ \t]*Here is my response:", re.DOTALL | re.MULTILINE)
_SIGN = re.compile(r"[<\[◁]")
"""Every mark begins with one of these. To look for them first is ten times as fast as to look for the marks."""
_ANY_MARK = re.compile(
    rf"{_OPENING}|{_CLOSING}|<{_TAG}\s*/>|{_END_OF_TURN}|{_TAKES_A_NAME}|</?s>|<bos>|<[|\uff5c]",
    _FLAGS,
)
_FIRST_WORDS = re.compile(
    r"[\s#*_]*(?:assistant|model|user|human)\b|\s*(?:analysis|Here is my thought process:)", re.IGNORECASE
)
_ADVICE = "raise max_tokens, or turn the model's thinking off"


def clean_reply(raw: str, speaks: Speaks = "assistant") -> str:
    """The message in a reply; `raw` itself where there is nothing to cut off.

    Cut off are reasoning at the start (several blocks, nested ones, one whose opening tag was in the prompt so that
    only the closing one came, every channel but the final one), tokens and a role name before the message, and all
    from the first token on that ends a turn or begins another: a model that runs on there plays somebody else. What
    stands in backticks or in a code fence is text. Raises BadContentError where there is reasoning and no message.

    Further down a block of reasoning is cut off only if it begins a line and is closed. Models that think between two
    paragraphs write it so, and a sentence about `<think>` has the tag in its middle.
    """
    if not _may_hold_marks(raw):
        return raw
    answer = _without_leading(_final_channel(raw), speaks)
    rest = _without_reasoning(answer)
    said = _first_turn(_without_leading(rest, speaks))
    if rest is not answer and not said.strip():
        raise BadContentError(f"the reply is nothing but reasoning; {_ADVICE}", raw)
    return said


def _may_hold_marks(raw: str) -> bool:
    """A quick look, since most replies hold none."""
    if _FIRST_WORDS.match(raw):
        return True
    return ("<" in raw or "[" in raw or "◁" in raw) and next(_marks(_ANY_MARK, raw), None) is not None


def _without_leading(text: str, speaks: Speaks) -> str:
    found = _LEADING[speaks].match(text)
    if found and found.group().strip():
        text = text[found.end() :]
    begun = text.lstrip()
    # `<s>` begins a text; with a `</s>` in the middle it is HTML for what is struck out.
    return begun[3:] if begun.startswith("<s>") and not begun.partition("</s>")[2].strip() else text


def _final_channel(raw: str) -> str:
    """Of a reply in channels the message of the final one; BadContentError if it never came to that."""
    final = next(_outside_code(_FINAL_CHANNEL, raw), None) or _WITHOUT_TOKENS.match(raw) or _SPELT_OUT.match(raw)
    if final is None and _CHANNEL.match(raw):
        raise BadContentError(f"the reply ends before its final channel; {_ADVICE}", raw)
    return raw if final is None else raw[final.end() :]


def _without_reasoning(text: str) -> str:
    kept = _kept(text, _outside_code(_REASONING, text))
    if kept.open_at is not None:  # reasoning may hold half a code fence, and what closes it then seems to be code
        kept = _kept(text, _marks(_REASONING, text))
    if kept.open_at is not None:  # or speak of its own tags, so that they do not come out even: the last one counts
        closing = [mark for mark in _marks(_REASONING, text) if mark.lastgroup == "closing"]
        if not closing or closing[-1].start() < kept.open_at:
            raise BadContentError(f"the reply ends inside its reasoning, before any message; {_ADVICE}", text)
        kept = _Kept(text[closing[-1].end() :])
    if kept.text == text:
        return text
    wrapped = _WRAPPED.match(kept.text)
    return wrapped[2] if wrapped else kept.text


class _Kept(NamedTuple):
    """The text outside its reasoning."""

    text: str
    open_at: int | None = None
    """Where reasoning before any message begins that is never closed."""


def _kept(text: str, marks: Iterable[re.Match[str]]) -> _Kept:
    """`done` is where the last reasoning ended, `depth` counts the open tags, of which the first is at `begin`."""
    kept, done, begin, depth, spoken_of = "", 0, 0, 0, False
    for mark in marks:
        closes = mark.lastgroup == "closing"
        if depth:
            depth += -1 if closes else 1
            if not depth:
                kept, done = kept + text[done:begin], mark.end()
        elif not closes and _begins_a_line(text, done, mark.start()):
            begin, depth = mark.start(), 1
        elif closes and not spoken_of and not kept.strip():
            kept, done = "", mark.end()  # it was opened in the prompt
        else:
            spoken_of = True
    unclosed = depth > 0 and not (kept + text[done:begin]).strip()
    return _Kept(kept + text[done:], begin if unclosed else None)


def _begins_a_line(text: str, done: int, place: int) -> bool:
    """Whether only blanks stand before this place on its line, or since the last reasoning."""
    return not text[max(done, text.rfind("\n", 0, place) + 1) : place].strip()


def _first_turn(text: str) -> str:
    for mark in _outside_code(_TURN_ENDS, text):
        if mark.group() != "</s>" or "<s>" not in text[: mark.start()]:
            text = text[: mark.start()]
            break
    while found := _TOKEN_AT_THE_END.search(text.rstrip()[-50:]):
        text = text.rstrip()[: -len(found.group())]
    return text


def _marks(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    for sign in _SIGN.finditer(text):
        if found := pattern.match(text, sign.start()):
            yield found


def _outside_code(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """The places of the pattern that are neither in backticks nor in a closed code fence, in order."""
    code = iter([found.span() for found in _CODE.finditer(text)] if "`" in text or "~~~" in text else [])
    begin, end = next(code, (len(text), len(text)))
    for found in _marks(pattern, text):
        while end <= found.start():
            begin, end = next(code, (len(text), len(text)))
            if begin == len(text):
                break
        if not begin <= found.start() < end:
            yield found
