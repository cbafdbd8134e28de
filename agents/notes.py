"""Whether an inducer's note says anything. Strict: a note is only empty if every line of it says so."""

import re

_NOTHING = re.compile(
    r"(?:(?:there|so far there|so far) (?:is|are|was|were|has been|have been) )?"
    r"(?:nothing(?: (?:new|specific|special|else|much))?|none|nil|n a|not applicable|no|not specified|not enough"
    r"|(?:no|not enough|insufficient)(?: (?:new|further|other|specific|personal|relevant|clear|particular|additional))*"
    r" (?:information|info|facts?|details?|notes?|hints?|data|evidence))"
    r"(?: (?:yet|so far|at all|here|now|still|else|to note|noted|to report|to add|known|shown|revealed|given|learned"
    r"|learnt|found|available|provided|mentioned|stated|shared|disclosed|specified|has been|have been|has|have|was|were"
    r"|is|are|been|can be|could be|by the user|by them|about the user|about them|about this user|on the user"
    r"|in (?:the|this) (?:conversation|talk|chat|message)"
    r"|from (?:the|this) (?:conversation|talk|chat|message)|at this (?:time|point)|at the moment))*"
)
_MARKS = re.compile(r"[^\w\s:]+|_+")
_LABEL = re.compile(r"[^:]{0,60}:\s*")


def says_nothing(note: str) -> bool:
    """Whether the note tells nothing of the user: blank, or each line is a label, a mark or words like "none yet".

    `Facts: none` says nothing, `Nothing about work; keeps bees` says something. English only: a note of nothing in
    another language counts as a note.
    """
    return all(_line_says_nothing(line) for line in note.splitlines())


def _line_says_nothing(line: str) -> bool:
    words = " ".join(_MARKS.sub(" ", line.casefold()).split())
    value = _LABEL.sub("", words, count=1).strip()
    return not re.search(r"\w", value) or _NOTHING.fullmatch(value) is not None
