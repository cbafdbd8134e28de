"""What a server's answer, or the lack of one, means: pure functions, one for each way a call can end (docs/faults.md).

Three things can be wrong with a call beside what errors.py names: Transient is the fourth, and never leaves `models`.
How error bodies are read is in error_body.py, what their words mean in refusals.py.
"""

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from interalign.errors import BadContentError, FailedTreeError, StopError
from interalign.models import refusals
from interalign.models.access import how_to_give_a_key
from interalign.models.decoding import decoded
from interalign.models.endings import Ending, ending_of
from interalign.models.error_body import ErrorBody, error_in, is_page, quoted, read_error, without_numbers
from interalign.models.waits import wait_of
from interalign.records import Reply

__all__ = ["AttemptContext", "Fault", "Transient", "fault_of_status", "read_reply", "wait_of"]

_TRIED_AGAIN = frozenset({408, 409, 421, 423, 424, 425, 429, 430, 498, 499})
_NOT_TRIED_AGAIN = frozenset({501, 505, 511})
"""Of the statuses from 500 on."""
_SETTINGS = {"max_completion_tokens": "max_tokens", "max_tokens": "", "temperature": "", "top_p": "", "seed": ""}
"""Request field -> our setting's name, where it is not the same."""
_MOST_TOKENS = 100_000_000
_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""Fields that hold what a model thinks before it answers."""


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
        no_answer: bool = False,
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
        self.no_answer = no_answer
        """The server said that all is well (200), and sent something that is no answer."""


Fault = Transient | StopError | FailedTreeError | BadContentError


class AttemptContext(NamedTuple):
    """Who was asked for what, as messages name it."""

    server: str
    model: str
    turn: int
    key_from: str | None = None
    """The environment variable whose key was sent; empty if none was; None if only the provider's library knows."""
    is_given: bool = True
    """OPENAI_API_KEY would be sent to this server, were it set."""
    sends: int = 1
    """Requests sent for this call, this one included."""


def fault_of_status(
    asked: AttemptContext, status: int, headers: Mapping[str, str], body: str, sent: Collection[str] = ()
) -> Fault:
    """What an answer with an HTTP status other than 200 means. `headers` are looked up in lower case.

    `sent` are the names of the request's fields.
    """
    return _fault(asked, status, headers, read_error(body), sent)


def _fault(
    asked: AttemptContext, status: int, headers: Mapping[str, str], error: ErrorBody, sent: Collection[str] = ()
) -> Fault:
    """Codes and words say more than the status, so they are looked at first."""
    return _by_words(asked, status, headers, error, sent) or _by_status(asked, status, headers, error)


def _by_words(
    asked: AttemptContext, status: int, headers: Mapping[str, str], error: ErrorBody, sent: Collection[str] = ()
) -> Fault | None:
    """What the codes and the words of an error mean; None if they tell nothing."""
    if refusals.is_quota(status, error):
        return _no_quota(asked, status, error)
    throttled = refusals.is_rate_limit(status, error)
    if refusals.is_too_long(error, throttled=throttled):
        return _refused(asked, status, error, f"turn {asked.turn} is too long for the model: {error.quoted}")
    if throttled:
        wait = wait_of(headers, throttled=True) or error.delay
        return Transient(f"{status}: {error.quoted}", wait=wait, throttled=True)
    if (fault := _refusal(asked, status, error, sent)) is not None:
        return fault
    if status < 500 and refusals.is_loading(error):
        return Transient(f"{status}: {error.quoted}", wait=wait_of(headers, throttled=False) or error.delay)
    return None


def _no_quota(asked: AttemptContext, status: int, error: ErrorBody) -> StopError:
    said = _told(status, error)
    if refusals.is_policy(error):
        return StopError(
            f"{asked.server} may not answer you ({said}); mend your account's settings, or ask another server, and run "
            "the same command again"
        )
    return StopError(
        f"{asked.server}: the quota is used up, or the balance ({said}); raise it, or wait until it is renewed, and "
        "run the same command again"
    )


def _refusal(asked: AttemptContext, status: int, error: ErrorBody, sent: Collection[str]) -> Fault | None:
    """A request that the server understood and will not answer, as its words tell; None if they do not."""
    if refusals.is_filtered(error):
        return BadContentError(f"{asked.server} let a content filter stop {asked.model} ({_told(status, error)})")
    if refusals.wants_https(error):
        return StopError(f"{asked.server} speaks https ({_told(status, error)}); mend --base-url and run again")
    if refusals.wants_no_system(error) or refusals.wants_alternation(error):
        return _refused(asked, status, error, error.quoted)
    if (name := refusals.refused_field(error, sent)) is not None:
        return StopError(
            f"{asked.server}: {asked.model} does not take {name!r} ({_told(status, error)}); {_how_to_drop(name)} and "
            "run again, with --fork NEW.db if the run had begun"
        )
    if refusals.is_key_refused(status, error):
        return _key_refused(asked, status, error)
    if status in (404, 405) or (status < 500 and refusals.is_model_missing(error)):
        return _not_found(asked, status, error)
    return None


def _by_status(asked: AttemptContext, status: int, headers: Mapping[str, str], error: ErrorBody) -> Fault:
    said = _told(status, error)
    if status in _TRIED_AGAIN or (status >= 500 and status not in _NOT_TRIED_AGAIN):
        return Transient(f"{status}: {error.quoted}", wait=wait_of(headers, throttled=False) or error.delay)
    if status == 403:
        key = asked.key_from or _key_of(asked.model)
        return StopError(
            f"{asked.server} refuses access to {asked.model} ({said}); mend what it names, or set another {key}, and "
            "run the same command again"
        )
    if 300 <= status < 400:
        where = f" to {quoted(told)}" if (told := headers.get("location", "").partition("?")[0]) else ""
        return StopError(
            f"{asked.server} sends requests elsewhere ({status}{where}); name the right address with --base-url"
        )
    if status in (407, 511):
        who = "the proxy" if status == 407 else "the network"
        return StopError(f"{who} before {asked.server} wants a login ({said}); log in and run the same command again")
    return _refused(asked, status, error, error.quoted)


def _told(status: int, error: ErrorBody) -> str:
    """The status and the server's own words, as far as there are some."""
    return ": ".join(filter(None, [str(status), error.quoted]))


def _refused(asked: AttemptContext, status: int, error: ErrorBody, said: str) -> FailedTreeError:
    message = f"{asked.server} refused a request to {asked.model} ({status}): {said}"
    return FailedTreeError(message, asked.server, asked.model, str(status), without_numbers(error.quoted))


def _key_refused(asked: AttemptContext, status: int, error: ErrorBody) -> StopError:
    said = _told(status, error)
    if asked.key_from == "":
        own = f"set {_key_of(asked.model)}, or " if asked.is_given else ""
        return StopError(
            f"{asked.server} wants a key, and none was given for it; {own}{how_to_give_a_key(asked.server)}, and "
            f"run the same command again ({said})"
        )
    key = asked.key_from or _key_of(asked.model)
    return StopError(f"{asked.server} refused the key; set {key} and run the same command again ({said})")


def _key_of(model: str) -> str:
    """The environment variable that a provider's key is usually in."""
    return f"{model.partition(':')[0].upper().replace('-', '_')}_API_KEY"


def _not_found(asked: AttemptContext, status: int, error: ErrorBody) -> StopError:
    said = f" ({error.quoted})" if error.quoted else ""
    return StopError(
        f"{asked.server} has no model {asked.model!r} ({status}); name one it serves, or mend --base-url{said}"
    )


def _how_to_drop(name: str) -> str:
    setting = _SETTINGS.get(name)
    if setting is None:
        return f"take {name} out of `parameters: {{ROLE: {{extra_body: ...}}}}` in the --config file"
    return f"set `parameters: {{ROLE: {{{setting or name}: null}}}}` for its role in the --config file"


def read_reply(asked: AttemptContext, body: bytes) -> Reply:
    """The reply in a 200 answer.

    Raises Transient for what is no chat completion, BadContentError for one without a usable text: no choices, an
    empty text, a refusal, a tool call, half a reply; and what `fault_of_status` says for an error that came with 200.
    """
    answer = _parsed(body)
    choice = _choice(asked, answer)
    usage, served, ending = answer.get("usage"), answer.get("model"), ending_of(choice.get("finish_reason"))
    tokens = _count(usage, "prompt_tokens", "input_tokens"), _count(usage, "completion_tokens", "output_tokens")
    return Reply(
        text=_text_of(asked, choice, ending, tokens),
        model=served if isinstance(served, str) and served else asked.model,
        finish_reason=ending.value or None,
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        server=asked.server,
        sends=asked.sends,
    )


def _parsed(body: bytes) -> Any:
    with suppress(ValueError, RecursionError):  # nearly all of them; the other way takes longer
        if isinstance(answer := json.loads(body.decode("utf-8")), dict) and "choices" in answer:
            return answer
    try:
        return decoded(body)
    except ValueError as error:
        raise Transient(f"200 with {_what_came(body, error)}", no_answer=True) from None


def _what_came(body: bytes, error: ValueError) -> str:
    text = body[:4000].decode("utf-8", "replace")
    if not text.strip():
        return "nothing at all"
    if is_page(text):
        return f"a page in place of an answer: {quoted(text)}"
    return f"a body that is no JSON ({type(error).__name__}): {quoted(text)}"


def _choice(asked: AttemptContext, answer: Any) -> Mapping[str, Any]:
    """The choice to be read: the first that has a text, else the first; what is raised if there is none."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    found = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    error = _own_error(answer, found)
    if error is not None or not found:
        raise _no_choice(asked, answer, error)
    return found[0] if len(found) == 1 else next(filter(_has_text, found), found[0])


def _own_error(answer: Any, choices: list[dict[str, Any]]) -> object:
    """What an answer says went wrong, None if nothing."""
    if isinstance(answer, dict) and answer.get("error"):
        return answer["error"]
    return choices[0].get("error") or None if choices else None


def _no_choice(asked: AttemptContext, answer: Any, error: object) -> Fault:
    """What an answer without a choice means: the error that it tells of, or no answer at all."""
    told = error_in({"error": error} if error is not None else answer)
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if choices:  # and an error: it is half a reply
        return BadContentError(f"{asked.model} broke off ({told.quoted})")
    meant = _fault(asked, told.status, {}, told) if told.status else _by_words(asked, 200, {}, told)
    if meant is not None:
        return meant
    if error is None and _is_completion(answer):
        return BadContentError(f"{asked.model} gave no choices ({told.quoted})")
    return Transient(f"200 with no answer in it: {told.quoted}", no_answer=True)


def _is_completion(answer: Any) -> bool:
    """Whether this is a chat completion, if one without a text."""
    named = isinstance(answer, dict) and str(answer.get("object")).startswith(("chat", "text"))
    return named or (isinstance(answer, dict) and ("choices" in answer or "usage" in answer))


def _has_text(choice: Mapping[str, Any]) -> bool:
    return bool(_joined(_message(choice).get("content")).strip() or _legacy(choice).strip())


def _message(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    found = choice.get("message") or choice.get("delta")
    return found if isinstance(found, dict) else {"content": found}


def _legacy(choice: Mapping[str, Any]) -> str:
    """The text of a completion that is no chat."""
    text = choice.get("text")
    return text if isinstance(text, str) else ""


def _text_of(asked: AttemptContext, choice: Mapping[str, Any], ending: Ending, tokens: tuple[int, int]) -> str:
    """The text of a choice; BadContentError, with what text there is, if it cannot be used."""
    message = _message(choice)
    text = _joined(message.get("content")) or _legacy(choice)
    if message.get("tool_calls") or message.get("function_call"):
        raise BadContentError(f"{asked.model} answered with a tool call where text was due", text, tokens)
    refusal = message.get("refusal")
    if refusal or ending is Ending.filtered:
        why = quoted(str(refusal or "content filter"))
        raise BadContentError(f"{asked.model} refused ({why})", text, tokens)
    if not text.strip():
        raise BadContentError(f"{asked.model} answered nothing{_why_nothing(message, ending)}", text, tokens)
    if ending is Ending.broken:
        why = quoted(str(choice.get("finish_reason")))
        raise BadContentError(f"{asked.model} broke off (finish_reason {why})", text, tokens)
    return text


def _why_nothing(message: Mapping[str, Any], ending: Ending) -> str:
    field = next((name for name in _REASONING if message.get(name)), None)
    if field is None and isinstance(message.get("content"), list) and message["content"]:
        field = "content, in parts that are no text"
    cut = ": max_tokens ended the reply before any text" if ending is Ending.cut else ""
    if field is None:
        return cut
    return f"{cut}; what came is in the field {field}: turn its thinking off (`extra_body`), or raise max_tokens"


def _joined(content: object) -> str:
    """A text, or the texts of a list of content parts, reasoning left out; nothing for anything else."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(map(_part, parts))


def _part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") not in ("text", "output_text"):
        return ""
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _count(usage: object, *names: str) -> int:
    """What the server counted under the first of these names; 0 for what cannot be a count. Some write `12.0`; more
    than any reply has would add up to more than the file can hold, and end every budget at once.
    """
    count = next((usage[name] for name in names if name in usage), None) if isinstance(usage, dict) else None
    if not isinstance(count, int | float) or isinstance(count, bool) or not 0 < count < _MOST_TOKENS:
        return 0
    return int(count) if count == int(count) else 0
