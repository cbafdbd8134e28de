"""What a server says went wrong, whatever shape its error body has: pure reading, nothing is judged here."""

import json
import re
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any, NamedTuple

from interalign.models.decoding import decoded
from interalign.models.waits import seconds_of, wait_in_words

_QUOTED = 200
"""Characters of a server's own words that a message of ours repeats."""
_READ = 4000
"""Characters of them that are looked at."""
_DEEPEST = 6
_SPOKEN = ("message", "msg", "detail", "error_description", "error_msg", "status_msg", "error", "errors", "title",
           "reason", "description", "failures", "base_resp")  # fmt: skip
"""Where the words stand, the best place first."""
_NESTED = ("error", "errors", "detail", "base_resp", "metadata", "response", "data")
"""Objects that are looked into first: `{"error": {"message": ...}}`."""
_CODES = frozenset({
    "code", "type", "status", "reason", "error_code", "status_code", "http_code", "error_type", "quotaid", "statuscode",
    "errorcode",
})  # fmt: skip
_STATUSES = ("code", "status", "status_code", "http_code", "error_code", "statuscode")
_DELAYS = ("retrydelay", "retry_after", "retry_after_seconds", "retryafter", "estimated_time")
_ECHOED = frozenset({"input", "ctx", "messages", "prompt", "body", "url", "flagged_input", "choices", "request"})
"""Fields that repeat what was sent: their words are not the server's."""
_TITLE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.IGNORECASE | re.DOTALL)
_PAGE = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml|h1|p|center|title|div)\b", re.IGNORECASE)


class ErrorBody(NamedTuple):
    """What an error body holds."""

    said: str
    """The server's own words, on one line of printable characters; the whole body if it has no words."""
    codes: frozenset[str] = frozenset()
    """All codes and types in it, in lower case."""
    fields: tuple[str, ...] = ()
    """Fields of the request that it points at."""
    status: int | None = None
    """The HTTP status that it names itself."""
    delay: float | None = None
    """Seconds after which it says to try again."""

    @property
    def quoted(self) -> str:
        """The first 200 characters of the words."""
        return self.said[:_QUOTED]


def read_error(body: str) -> ErrorBody:
    """The error in a body that may be JSON, a page, or plain text."""
    try:
        return error_in(decoded(body.encode("utf-8", "replace")))
    except (ValueError, RecursionError):
        said = plain(_without_tags(body) if is_page(body) else body)
        return ErrorBody(said, delay=wait_in_words(said))


def error_in(value: object) -> ErrorBody:
    """The error in a JSON value: an object, a text, or a list of them."""
    told = list(_walk(value))
    said = plain(_words(value) or json.dumps(value))
    statuses = [int(code) for name, code in told if name in _STATUSES and re.fullmatch(r"[45]\d\d", code)]
    delays = [wait for name, told_of in told if name in _DELAYS and (wait := seconds_of(told_of))]
    return ErrorBody(
        said=said,
        codes=frozenset(code.lower() for name, code in told if name in _CODES),
        fields=tuple(dict.fromkeys(_fields(value))),
        status=statuses[0] if statuses else None,
        delay=max(delays, default=wait_in_words(said)),
    )


def is_page(text: str) -> bool:
    """Whether a text is HTML or XML."""
    return _PAGE.match(text) is not None


def plain(text: str) -> str:
    """One line of printable characters: a server's words must not steer a terminal."""
    line = " ".join(text.split())[:_READ]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def quoted(text: str) -> str:
    """The first 200 characters of `plain`, a page by its title or its first words."""
    return plain(_without_tags(text) if is_page(text) else text)[:_QUOTED]


def without_numbers(text: str) -> str:
    """The text without its numbers and request ids, which differ where all the rest is the same."""
    return re.sub(r"\w*\d\w*", "", text)


def _without_tags(page: str) -> str:
    title = _TITLE.search(page)
    text = _UNSEEN.sub(" ", title[2] if title else page)
    return unescape(text) if text.strip() else page


def _walk(value: object, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Names and values, as texts, of all plain fields, the outer ones first; what repeats the request is left out."""
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        inner = {str(name).lower(): held for name, held in value.items() if str(name).lower() not in _ECHOED}
        yield from ((name, str(held)) for name, held in inner.items() if _is_plain(held))
        for held in inner.values():
            yield from _walk(held, depth + 1)
    elif isinstance(value, list):
        for held in value[:20]:
            yield from _walk(held, depth + 1)
    elif isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        yield from _walk(_parsed(value), depth + 1)


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _parsed(text: str) -> object:
    """A JSON text within JSON, as gateways pass on what the server behind them said; None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _words(value: object, depth: int = 0) -> str:
    """The words in a value: the first place that has some."""
    if depth > _DEEPEST:
        return ""
    if isinstance(value, str):
        inner = _parsed(value) if value.lstrip().startswith(("{", "[")) else None
        return _words(inner, depth + 1) or (_without_tags(value) if is_page(value) else value)
    if isinstance(value, list):
        return "; ".join(filter(None, (_words(item, depth + 1) for item in value[:5])))
    return _words_of_object(value, depth) if isinstance(value, Mapping) else ""


def _words_of_object(value: Mapping[str, Any], depth: int) -> str:
    if isinstance(value.get("msg"), str) and isinstance(value.get("loc"), list):  # pydantic: which field, and what
        return ": ".join(filter(None, [_located(value["loc"]), value["msg"]]))
    nested = [_words(value[name], depth + 1) for name in _NESTED if isinstance(value.get(name), Mapping | list)]
    spoken = [_words(value[name], depth + 1) for name in _SPOKEN if name in value]
    found = list(dict.fromkeys(filter(str.strip, [*nested[:1], *spoken, *nested])))
    behind = _words(_upstream(value), depth + 1)
    first = found[0] if found else ""
    return f"{first}: {behind}" if first and behind and behind not in first else first or behind


def _upstream(value: Mapping[str, Any]) -> object:
    """What the server behind a router said, or why it flagged a text."""
    metadata = value.get("metadata")
    return (metadata.get("raw") or metadata.get("reasons")) if isinstance(metadata, Mapping) else None


def _fields(value: object, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        param, loc = value.get("param"), value.get("loc")
        if isinstance(param, str) and param:
            yield param
        if isinstance(loc, list) and (located := _located(loc)):
            yield located
        for name, held in value.items():
            if str(name).lower() not in _ECHOED:
                yield from _fields(held, depth + 1)
    elif isinstance(value, list):
        for held in value[:20]:
            yield from _fields(held, depth + 1)


def _located(loc: list[Any]) -> str:
    """The field of the request in pydantic's `loc`: `["body", "seed"]`."""
    names = [part for part in loc if isinstance(part, str) and part != "body" and part.isidentifier()]
    return names[0] if names else ""
