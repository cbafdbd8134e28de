"""How long a server asks its clients to wait: Retry-After, rate limit headers, and the text of its error."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_EPOCH = 1_000_000_000
"""A plain number from here on is a date, which needs a clock that agrees with the server's: not used."""
_WORDED = re.compile(
    r"(?:try again|retry|wait)(?: \w+){0,2}? (\d+(?:\.\d+)?(?:(?:ms|s|m|h)(?:\d+(?:\.\d+)?(?:ms|s|m|h))*"
    r"| ?(?:milliseconds?|seconds?|secs?|minutes?|mins?|hours?)))\b",
    re.IGNORECASE,
)
_UNITS = re.compile(r" ?(millisecond|second|sec|minute|min|hour)s?$", re.IGNORECASE)
_SHORT = {"millisecond": "ms", "second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h"}


def wait_of(headers: Mapping[str, str], *, throttled: bool) -> float | None:
    """Seconds the server asks to wait: Retry-After, else, when throttled, the rate limit that is used up.

    None for 0 seconds, which counts as no answer: the caller backs off as it would without it.
    """
    return _wait_told(headers, throttled=throttled) or None


def wait_in_words(said: str) -> float | None:
    """Seconds of `Please try again in 6m0s` or `retry after 20 seconds`; None if no such words are there."""
    match = _WORDED.search(said)
    if match is None:
        return None
    return seconds_of(_UNITS.sub(lambda unit: _SHORT[unit[1].lower()], match[1])) or None


def seconds_of(text: str) -> float | None:
    """Seconds of `20`, `1.5`, `20ms` or `6m0s`; None for anything else, dates as numbers among them."""
    text = text.strip()
    if not text or re.fullmatch(rf"(?:{_DURATION.pattern})+", text) is None:
        return None
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))
    return seconds if seconds < _EPOCH else None


def _wait_told(headers: Mapping[str, str], *, throttled: bool) -> float | None:
    told = headers.get("retry-after-ms")
    if told is not None and (wait := seconds_of(told)) is not None:
        return wait / 1000
    told = headers.get("retry-after")
    if told is not None:
        return seconds_of(told) if _DURATION.match(told.strip()) else _until(told, headers.get("date"))
    if not throttled:
        return None
    used_up = [kind for kind in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{kind}") == "0"]
    names = [f"x-ratelimit-reset-{kind}" for kind in used_up] or ["x-ratelimit-reset"]
    waits = [wait for name in names if (wait := seconds_of(headers.get(name, ""))) is not None]
    return max(waits, default=None)


def _until(date: str, now: str | None) -> float | None:
    """Seconds to an HTTP date, by the server's own clock if it told the time: ours may be wrong, or jump."""
    try:
        then = parsedate_to_datetime(date)
        current = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return max(0.0, (then - current).total_seconds())
    except (ValueError, TypeError):
        return None
