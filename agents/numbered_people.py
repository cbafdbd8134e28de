"""Reading people off a reply, one by one: `Person 1`, then a line for each fact. A bad one never costs the others."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_HEADING: Final = re.compile(r"[\s#*_>]*(?:(?:person|persona|profile|personality)\s*#?\s*)?\d+\s*[.:)]?[*_\s]*", re.I)
_WITH_TEXT: Final = re.compile(
    r"(?:\s*(?:[-*\u2022\u2013]|\d+[.)])\s+)?[\s#*_>]*(?:person|persona|profile|personality)\s*#?\s*\d+[*_\s]*[.:)\u2013-]+[*_\s]*(\S.*)",
    re.IGNORECASE,
)
"""A heading with something behind it: a title, or the whole person on one line."""
_SENTENCE: Final = re.compile(r"(?<=[.!?;])[\"'\u201d]*\s+")
_TITLE: Final = 3
"""So few words behind a heading are a title, such as a name, and no fact."""
_LINE: Final = re.compile(r"\s*(?:[-*\u2022\u2013]|\d+[.)])\s+(\S.*?)\s*")
_FENCE: Final = re.compile(r"\s*(?:```|~~~)\w*\s*")
_LONGEST: Final = 400
"""Characters of one line."""
_SHOWN: Final = 60


class Entry(NamedTuple):
    """One person of a reply."""

    lines: tuple[str, ...]
    fault: str = ""
    """Why the entry cannot be used; empty: it can."""


def read_people(reply: str, *, fewest: int, most: int, cut: bool = False) -> tuple[Entry, ...]:
    """The people in a reply, in order, each with its lines and, if it is not in the form asked for, what is wrong.

    `fewest` and `most`: lines that were asked for; half as many and twice as many still pass. `cut`: the reply ended at
    its length limit, so its last person may have lost something. A JSON list of lists of texts is read as well.
    """
    found = [_checked(entry, fewest, most) for entry in _from_json(reply) or _from_lines(reply)]
    if cut and found:
        found[-1] = Entry(found[-1].lines, "was cut at the length limit")
    return tuple(found)


def _from_lines(reply: str) -> list[Entry]:
    """The entries between the headings; other text counts only where it breaks into one."""
    entries: list[Entry] = []
    lines: list[str] = []
    fault, is_open, blank = "", False, False
    for text in reply.splitlines():
        if _FENCE.fullmatch(text):
            continue
        if not text.strip():
            blank = True
            continue
        if _HEADING.fullmatch(text):
            entries += [Entry(tuple(lines), fault)] if is_open or lines else []
            lines, fault, is_open = [], "", True
        elif titled := _WITH_TEXT.fullmatch(text):
            entries += [Entry(tuple(lines), fault)] if is_open or lines else []
            lines, fault, is_open = _sentences(titled[1]), "", True
        elif line := _LINE.fullmatch(text):
            lines.append(line[1])
            fault = fault or ("" if is_open else "has no heading such as `Person 1`")
        elif is_open and not (blank and lines):  # after a blank line it is a remark on the list
            fault = fault or f"holds a line without a dash ({_brief(text.strip())})"
        blank = False
    return entries + ([Entry(tuple(lines), fault)] if is_open or lines else [])


def _sentences(text: str) -> list[str]:
    """The facts of a person that is written on one line; none of a title."""
    if len(text.split()) <= _TITLE:
        return []
    parts = (part.strip().strip('"\u201c\u201d*_').rstrip(";").strip() for part in _SENTENCE.split(text))
    return [part for part in parts if part]


def _from_json(reply: str) -> list[Entry]:
    """The entries of a JSON list, also within a code fence; none if the reply is something else."""
    text = "\n".join(line for line in reply.splitlines() if not _FENCE.fullmatch(line)).strip()
    try:
        whole = json.loads(text) if text.startswith("[") else None
    except (ValueError, RecursionError):
        return []
    return [_json_entry(each) for each in whole] if isinstance(whole, list) else []


def _json_entry(value: Any) -> Entry:
    if isinstance(value, dict):  # {"facts": [...]}, whatever the name
        value = next((each for each in value.values() if isinstance(each, list)), value)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return Entry(tuple(line.strip() for line in value))
    return Entry((), f"is no list of texts ({_brief(json.dumps(value))})")


def _checked(entry: Entry, fewest: int, most: int) -> Entry:
    return entry if entry.fault else Entry(entry.lines, next(_faults(entry.lines, fewest, most), ""))


def _faults(lines: tuple[str, ...], fewest: int, most: int) -> Iterator[str]:
    if not -(-fewest // 2) <= len(lines) <= 2 * most:
        yield f"has {len(lines)} lines where {asked_for(fewest, most)} were asked for"
    for line in lines:
        if len(line) > _LONGEST:
            yield f"holds a line of {len(line)} characters ({_brief(line)})"
        if not any(sign.isalpha() for sign in line):
            yield f"holds a line without a word ({_brief(line)})"
        if any("\ud800" <= sign <= "\udfff" for sign in line):
            yield "holds half a character (a lone surrogate)"
    if len({line.casefold() for line in lines}) < len(lines):
        yield "says the same twice"


def asked_for(fewest: int, most: int) -> str:
    """`8 to 10`, or `3`."""
    return str(fewest) if fewest == most else f"{fewest} to {most}"


def _brief(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "\u2026"
