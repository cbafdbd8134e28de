"""What a server's answer, or the lack of one, means: pure functions, one for each way a call can end (docs/faults.md).

Three things can be wrong with a call beside what errors.py names: Transient is the fourth, and never leaves `models`.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from interalign.errors import BadContentError, FailedTreeError, StopError
from interalign.models.base import Reply

_QUOTED = 200
"""Characters of a server's own words that a message of ours repeats."""
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_TOO_LONG = re.compile(r"context.?(length|window|size)|maximum.{0,20}length|too many tokens|prompt is too long", re.I)
_NOT_TAKEN = re.compile(
    r"(?:un(?:supported|recognized|known|expected)|extra)[\w ]{0,30}?"
    r"(?:parameter|argument|field|input)s?(?: supplied| in the request)?:? *[{\[]?['\"`]?([\w.]+)",
    re.I,
)
_NOT_TAKEN_CODES = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
_SETTINGS = {"max_completion_tokens": "max_tokens", "max_tokens": "max_tokens", "temperature": "", "top_p": ""}
"""Request field -> our setting's name, where it is not the same."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_MOST_TOKENS = 100_000_000
_EPOCH = 1_000_000_000
"""A plain number from here on is a date, which needs a clock that agrees with the server's: not used."""


class Transient(Exception):
    """The same request may well be answered if it is sent again."""

    def __init__(
        self,
        reason: str,
        *,
        wait: float | None = None,
        throttled: bool = False,
        unreachable: bool = False,
        silent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.wait = wait
        """Seconds that the server asks everybody to wait."""
        self.throttled = throttled
        """The server had too many requests."""
        self.unreachable = unreachable
        """There was no connection at all."""
        self.silent = silent
        """No answer came in the time that the attempt had."""


class Asked(NamedTuple):
    """Who was asked for what, as messages name it."""

    server: str
    model: str
    turn: int


def fault_of_status(
    asked: Asked, status: int, headers: Mapping[str, str], body: str
) -> Transient | StopError | FailedTreeError:
    """What an answer with an HTTP status other than 200 means. `headers` are looked up in lower case."""
    error = _error_object(body)
    code, said = _codes(error), _said(error, body)
    if code & _QUOTA or status == 402:
        return StopError(f"{asked.server}: the quota is used up ({said}); raise it and run the same command again")
    if status in _RETRIED:
        throttled = status == 429
        return Transient(f"{status}: {said}", wait=wait_of(headers, throttled=throttled), throttled=throttled)
    if status in (401, 403):
        return StopError(f"{asked.server} refused the key; set {_key_of(asked.model)} and run the same command again")
    if status in (404, 405) or "model_not_found" in code:
        return StopError(
            f"{asked.server} has no model {asked.model!r} ({status}); name one it serves, or mend --base-url"
        )
    if 300 <= status < 400:
        where = f" to {_plain(told)}" if (told := headers.get("location", "").partition("?")[0]) else ""
        return StopError(
            f"{asked.server} sends requests elsewhere ({status}{where}); name the right address with --base-url"
        )
    return _refusal(asked, status, error, code, said)


def _key_of(model: str) -> str:
    """The environment variable that a provider's key is usually in."""
    return f"{model.partition(':')[0].upper().replace('-', '_')}_API_KEY"


def _refusal(
    asked: Asked, status: int, error: Mapping[str, Any], code: set[object], said: str
) -> StopError | FailedTreeError:
    """A request that the server understood and will not answer."""
    if "context_length_exceeded" in code or _TOO_LONG.search(said):
        said = f"turn {asked.turn} is too long for the model: {said}"
    elif (name := _not_taken(error, code, said)) is not None:
        return StopError(
            f"{asked.server}: {asked.model} does not take {name!r} ({said}); {_how_to_drop(name)} and run again, "
            "with --fork NEW.db if the run had begun"
        )
    return FailedTreeError(f"{asked.server} refused a request to {asked.model} ({status}): {said}")


def _not_taken(error: Mapping[str, Any], code: set[object], said: str) -> str | None:
    """The name of the sampling setting that the server does not take; None if that is not the trouble."""
    match = _NOT_TAKEN.search(said)
    if match is None and not code & _NOT_TAKEN_CODES:
        return None
    param = error.get("param")
    name = param if isinstance(param, str) and param else match[1] if match else None
    return None if name is None or name.startswith(("messages", "model")) else _plain(name)


def _how_to_drop(name: str) -> str:
    setting = _SETTINGS.get(name)
    if setting is None:
        return f"take {name} out of `parameters: {{ROLE: {{extra_body: ...}}}}` in the --config file"
    return f"set `parameters: {{ROLE: {{{setting or name}: null}}}}` for its role in the --config file"


def wait_of(headers: Mapping[str, str], *, throttled: bool) -> float | None:
    """Seconds the server asks everybody to wait: Retry-After, else, when throttled, the rate limit that is used up.

    None for no time at all: who is told to wait 0 seconds is told nothing, and slows down as without it.
    """
    return _wait_told(headers, throttled=throttled) or None


def _wait_told(headers: Mapping[str, str], *, throttled: bool) -> float | None:
    told = headers.get("retry-after-ms")
    if told is not None and (wait := _duration(told)) is not None:
        return wait / 1000
    told = headers.get("retry-after")
    if told is not None:
        return _duration(told) if _DURATION.match(told.strip()) else _until(told, headers.get("date"))
    if not throttled:
        return None
    used_up = [kind for kind in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{kind}") == "0"]
    names = [f"x-ratelimit-reset-{kind}" for kind in used_up] or ["x-ratelimit-reset"]
    waits = [wait for name in names if (wait := _duration(headers.get(name, ""))) is not None]
    return max(waits, default=None)


def _duration(text: str) -> float | None:
    """Seconds of `20`, `1.5`, `20ms` or `6m0s`; None for anything else, dates as numbers among them."""
    text = text.strip()
    if not text or re.fullmatch(rf"(?:{_DURATION.pattern})+", text) is None:
        return None
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))
    return seconds if seconds < _EPOCH else None


def _until(date: str, now: str | None) -> float | None:
    """Seconds to an HTTP date, by the server's own clock if it told the time: ours may be wrong, or jump."""
    try:
        then = parsedate_to_datetime(date)
        current = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return max(0.0, (then - current).total_seconds())
    except (ValueError, TypeError):
        return None


def read_reply(asked: Asked, body: bytes) -> Reply:
    """The reply in a 200 answer.

    Raises Transient for what is not JSON in UTF-8, BadContentError for JSON without a text: no choices, an empty
    text, a refusal, a tool call; and what `fault_of_status` says for an error that came with status 200.
    """
    try:
        answer = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        start = _plain(body[:60].decode("utf-8", "replace"))
        raise Transient(f"200 with a body that is no JSON ({type(error).__name__}): {start}") from None
    choice = _first_choice(asked, answer)
    usage, served, ended = answer.get("usage"), answer.get("model"), choice.get("finish_reason")
    tokens = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    return Reply(
        text=_text_of(asked, choice, tokens),
        model=served if isinstance(served, str) and served else asked.model,
        finish_reason=ended if isinstance(ended, str) else None,
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
    )


def _first_choice(asked: Asked, answer: object) -> Mapping[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    error = answer.get("error") if isinstance(answer, dict) else None
    status = error.get("code") if isinstance(error, dict) else None
    if isinstance(status, int) and 400 <= status < 600:  # some routers say 200 first and find out later
        raise fault_of_status(asked, status, {}, json.dumps(answer))
    said = _plain(_said(_error_object_of(answer), json.dumps(answer)))
    raise BadContentError(f"{asked.model} gave no choices ({said})")


def _text_of(asked: Asked, choice: Mapping[str, Any], tokens: tuple[int, int]) -> str:
    """The text of a choice; BadContentError, with what text there is, if it cannot be used."""
    found = choice.get("message")
    message: Mapping[str, Any] = found if isinstance(found, dict) else {}
    text = _joined(message.get("content"))
    if message.get("tool_calls") or message.get("function_call"):
        raise BadContentError(f"{asked.model} answered with a tool call where text was due", text, tokens)
    refusal = message.get("refusal")
    if refusal or choice.get("finish_reason") == "content_filter":
        why = _plain(str(refusal or "content filter"))
        raise BadContentError(f"{asked.model} refused ({why})", text, tokens)
    if not text.strip():
        cut = ": max_tokens ended the reply before any text" if choice.get("finish_reason") == "length" else ""
        raise BadContentError(f"{asked.model} answered nothing{cut}", text, tokens)
    return text


def _joined(content: object) -> str:
    """A text, or the texts of a list of content parts; nothing for anything else."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _count(usage: object, name: str) -> int:
    """What the server counted; 0 for what cannot be a count. Some write `12.0`; more than any reply has would add up
    to more than the file can hold, and end every budget at once.
    """
    count = usage.get(name) if isinstance(usage, dict) else None
    if not isinstance(count, int | float) or isinstance(count, bool) or not 0 < count < _MOST_TOKENS:
        return 0
    return int(count) if count == int(count) else 0


def _error_object(body: str) -> Mapping[str, Any]:
    """`error` of `{"error": {...}}`, else the object itself; empty if the body is no JSON object."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return _error_object_of(answer)


def _error_object_of(answer: object) -> Mapping[str, Any]:
    inner = answer.get("error") if isinstance(answer, dict) else None
    return inner if isinstance(inner, dict) else answer if isinstance(answer, dict) else {}


def _codes(error: Mapping[str, Any]) -> set[object]:
    return {error[name] for name in ("code", "type") if isinstance(error.get(name), str)}


def _said(error: Mapping[str, Any], body: str) -> str:
    """The server's own words, on one line."""
    words = next((error[name] for name in ("message", "detail", "error") if isinstance(error.get(name), str)), body)
    return _plain(words)


def _plain(text: str) -> str:
    """One line of printable characters, at most 200: a server's words must not steer a terminal."""
    line = " ".join(text.split())[:_QUOTED]
    return "".join(letter if letter.isprintable() else "?" for letter in line)
