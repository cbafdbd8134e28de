"""How a reply ended: the many names that servers have for it, as four meanings."""

from enum import Enum


class Ending(Enum):
    """What a finish reason means for the text that came with it."""

    ended = "stop"
    """It is whole."""
    cut = "length"
    """It was cut at its length limit; kept, and counted."""
    filtered = "content_filter"
    """Somebody's filter ended or withheld it."""
    broken = "broken"
    """It is half a reply, or the reason is unknown: not to be used."""
    untold = ""
    """The server does not say."""


_NAMES = {
    Ending.ended: (
        "stop", "eos", "eos_token", "end", "end_turn", "end_of_text", "stop_sequence", "stop_token", "stop_word",
        "stop_str", "complete", "completed", "finish", "finished", "done", "success", "tool_calls", "tool_call",
        "tool_use", "function_call", "pause_turn",
    ),
    Ending.cut: (
        "length", "max_tokens", "max_length", "max_token", "model_length", "max_output_tokens", "max_new_tokens",
        "max_completion_tokens", "token_limit", "length_limit", "limit", "truncated", "context_length", "max_context",
        "model_context_window_exceeded",
    ),
    Ending.filtered: (
        "content_filter", "content_filtered", "contentfilter", "filtered", "filter", "safety", "sensitive",
        "recitation", "blocklist", "prohibited_content", "spii", "image_safety", "refusal", "moderation",
        "content_policy", "blocked", "censored", "guardrail_intervened", "guardrails", "unsafe", "risk", "language",
    ),
    Ending.untold: ("", "null", "none", "nil", "unspecified"),
}  # fmt: skip
_BY_NAME = {name: ending for ending, names in _NAMES.items() for name in names}


def ending_of(finish_reason: object) -> Ending:
    """The meaning of a finish reason as a server writes it: in any case, as an enum's name, or as SGLang's object.

    A name that is not in the table means that the reply is not to be used: `error`, `abort`, `network_error`, ...
    """
    if isinstance(finish_reason, dict):
        finish_reason = finish_reason.get("type")
    if not isinstance(finish_reason, str):
        return Ending.untold
    name = finish_reason.strip().lower().rpartition(".")[2].replace("-", "_").replace(" ", "_")
    return _BY_NAME.get(name.removeprefix("finish_reason_"), Ending.broken)
