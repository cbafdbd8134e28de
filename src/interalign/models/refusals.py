"""What kind of trouble an error body tells of, by its codes and its words: one predicate a kind.

Servers agree neither on statuses nor on words, so every kind is looked for in any status.
"""

import re
from collections.abc import Collection, Mapping

from interalign.config import TokenLimit
from interalign.models import refusal_words as words
from interalign.models.error_body import ErrorBody

LIMITS: Mapping[str, TokenLimit] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
"""The two names of the longest reply, each with the other one."""


def _says(error: ErrorBody, pattern: str) -> bool:
    return re.search(pattern, error.said, re.IGNORECASE) is not None


def is_quota(status: int, error: ErrorBody) -> bool:
    """Balance, quota, a day's limit or a data policy: nothing that waiting mends, while a limit a minute is not."""
    if status == 402 or any(re.search(words.DAY_CODE, code) for code in error.codes):
        return True
    day, minute = (re.search(pattern, error.said, re.IGNORECASE) for pattern in (words.DAY, words.MINUTE))
    if day is not None or minute is not None:  # what is said first is what was met
        return minute is None or (day is not None and day.start() < minute.start())
    if error.codes & words.QUOTA_CODES or _says(error, words.QUOTA):
        return True
    exceeded = _says(error, words.PLAN) or (status != 429 and _says(error, r"\bquota\b.{0,20}\bexceeded\b"))
    return exceeded and "resource_exhausted" not in error.codes


def is_policy(error: ErrorBody) -> bool:
    """Of what `is_quota` says: the account's settings or place, not its money."""
    return _says(error, words.POLICY) or "unsupported_country_region_territory" in error.codes


def is_rate_limit(status: int, error: ErrorBody) -> bool:
    """Too many requests just now."""
    if status == 401:
        return False
    return status == 429 or bool(error.codes & words.RATE_CODES) or (status < 500 and _says(error, words.RATE))


def is_too_long(error: ErrorBody, *, throttled: bool) -> bool:
    """The conversation is longer than the model, or than any single request may be."""
    if error.codes & words.CONTEXT_CODES or _says(error, words.TOO_LARGE):
        return True
    return not throttled and _says(error, words.CONTEXT)


def is_filtered(error: ErrorBody) -> bool:
    """A moderation or content filter did not let this one request, or its reply, through."""
    return bool(error.codes & words.FILTER_CODES) or _says(error, words.FILTER)


def wants_no_system(error: ErrorBody) -> bool:
    """The model has no system role."""
    return _says(error, words.NO_SYSTEM)


def wants_alternation(error: ErrorBody) -> bool:
    """The roles have to take turns."""
    return _says(error, words.ALTERNATE)


def is_key_refused(status: int, error: ErrorBody) -> bool:
    """The key is missing or wrong; some servers say so with status 400 or 403."""
    if status == 401:
        return True
    return status in (200, 400, 403) and (bool(error.codes & words.KEY_CODES) or _says(error, words.KEY))


def is_model_missing(error: ErrorBody) -> bool:
    """The server knows no model of that name."""
    return bool(error.codes & words.MODEL_CODES) or _says(error, words.MODEL)


def is_loading(error: ErrorBody) -> bool:
    """The model is there, but not ready yet."""
    return _says(error, words.LOADING)


def wants_https(error: ErrorBody) -> bool:
    """The address begins with http://, and the server speaks TLS there."""
    return _says(error, words.ONLY_HTTPS)


def refused_field(error: ErrorBody, sent: Collection[str] = ()) -> str | None:
    """The field of the request that the server does not take, or not as it is set; None if that is not the trouble.

    `sent` are the fields of the request, the likeliest names.
    """
    settings = [*(name for name in sent if name not in words.NO_FIELDS), *sorted(words.FIELDS)]
    pointed = [name for name in error.fields if _is_field(name)]
    is_told = bool(error.codes & words.FIELD_CODES)
    if is_told and pointed:
        return pointed[0]
    named = _caught(words.NOT_TAKEN, error)
    if likely := [name for name in [*named, *pointed] if name.lower() in settings]:
        return likely[0].lower()
    if is_told:
        return next(filter(_is_field, named), None)
    if _says(error, words.AS_SET) and (found := _first_named(error.said, settings)):
        return found
    return next(filter(_is_spelt_as_a_field, _caught((words.UNKNOWN_FIELD,), error)), None)


def refused_limit(error: ErrorBody, sent: Collection[str]) -> TokenLimit | None:
    """The other name of the longest reply, if the server does not know it under this one; None if it is another
    trouble, such as a number that is too large.
    """
    name = refused_field(error, sent)
    if name is None or name not in LIMITS or name not in sent:
        return None
    codes = error.codes & (words.FIELD_CODES - {"invalid_parameter", "unsupported_value"})
    return LIMITS[name] if codes or _says(error, words.UNKNOWN) else None


def _caught(patterns: Collection[str], error: ErrorBody) -> list[str]:
    """The names that these patterns catch."""
    matches = (re.search(pattern, error.said, re.IGNORECASE) for pattern in patterns)
    return [match[1] for match in matches if match is not None]


def _first_named(said: str, settings: Collection[str]) -> str | None:
    """The first setting that stands in the words as a word of its own; ordinary words count only in quotes."""
    places = []
    for name in dict.fromkeys(settings):
        quotes = "" if "_" in name or name in ("temperature", "seed") else r"[`'\"]"
        if match := re.search(rf"(?<![\w.]){quotes}{re.escape(name)}{quotes}(?![\w])", said, re.I):
            places.append((match.start(), name))
    return min(places)[1] if places else None


def _is_field(name: str) -> bool:
    return name.partition(".")[0].lower() not in words.NO_FIELDS


def _is_spelt_as_a_field(name: str) -> bool:
    return _is_field(name) and ("_" in name or "." in name or name in words.FIELDS)
