"""Rows of public formats, as the rows that `interalign export` writes: read where they say exactly the same.

What would have to be guessed is refused by the name of its format, with what to do; docs/data-format.md lists them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from interalign.errors import DataError

Row = Mapping[str, Any]
Messages = Sequence[Any]

_SPEAKERS: Final = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
"""ShareGPT's names of who speaks."""
_KEYS: Final[Mapping[str, Sequence[str]]] = {
    "sft": ("messages",),
    "dpo": ("prompt", "chosen", "rejected"),
    "rm": ("chosen", "rejected"),
}
_WRITE: Final[Mapping[str, str]] = {
    "sft": 'write {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}',
    "dpo": 'write {"prompt": [{"role": "user", "content": ...}], "chosen": [{"role": "assistant", "content": ...}], '
    '"rejected": [{"role": "assistant", "content": ...}]}',
    "rm": 'write {"chosen": [..., {"role": "assistant", "content": ...}], "rejected": [...]}, two whole conversations '
    "that differ in the last reply",
}
_LEAVE: Final = "leave the row out"


def as_sft(value: Any) -> Any:
    """A row as `--format sft` has it; a value that is in no known format comes back as it is.

    DataError for a row of a known format that would have to be guessed, or that is for another kind of training.
    """
    return _read(value, _sft)


def as_dpo(value: Any) -> Any:
    """The same for `--format dpo`."""
    return _read(value, lambda row: _pair(row, "dpo"))


def as_rm(value: Any) -> Any:
    """The same for `--format rm`, with what both conversations begin with as `prompt`, as in a dpo row."""
    return _read(value, _conversations)


def _conversations(row: Row) -> Row:
    found = _pair(row, "rm")
    for side in _KEYS["rm"]:
        if not _is_list(found.get(side)):
            raise DataError(f"{side}: expected a list of messages (a row of `--format rm`); {_WRITE['rm']}")
    return found


def _read(value: Any, read: Callable[[Row], Row]) -> Any:
    if not isinstance(value, Mapping):
        return value
    _refuse_tools(value)
    return read(value)


def _sft(row: Row) -> Row:
    if "messages" in row:
        return {**row, "messages": _learnt_last(_messages(row["messages"]))}
    if "conversations" in row and "chosen" not in row:
        return {"messages": _learnt_last(_share_gpt(row))}
    if "chosen" in row and "rejected" in row:
        raise DataError("a preference pair, which SFT does not learn from; train it with `interalign train dpo`")
    if "label" not in row and _is_list(row.get("prompt")) and _is_list(row.get("completion")):
        if len(row["completion"]) != 1:
            raise DataError(
                "completion is not one message, and only the last reply of a row is learnt; write more rows"
            )
        return {"messages": _messages([*row["prompt"], *row["completion"]])}
    _refuse_known(row, "sft")
    return row


def _pair(row: Row, method: str) -> Row:
    chosen, rejected = (_reply(row.get(side)) for side in ("chosen", "rejected"))
    if _is_list(chosen) and _is_list(rejected):
        pair = {"chosen": chosen, "rejected": rejected}
        if "conversations" in row and "prompt" not in row:
            return {"prompt": _share_gpt(row), **pair}
        return _with_its_prompt({**row, **pair}, method)
    if isinstance(chosen, str) and isinstance(rejected, str) and not _is_list(row.get("prompt")):
        kind = "Anthropic's hh-rlhf" if chosen.lstrip().startswith("Human:") else "plain text"
        raise DataError(f"a pair in the format {kind}, which does not say where a message ends; {_WRITE[method]}")
    if "chosen" not in row and ("messages" in row or "conversations" in row):
        raise DataError("a conversation without a rejected reply; train it with `interalign train sft`")
    if "chosen" not in row:
        _refuse_known(row, method)
    return row


def _with_its_prompt(row: Row, method: str) -> Row:
    """The pair with its prompt once, where chosen and rejected repeat it, whole conversations that they are."""
    chosen, rejected, prompt = row["chosen"], row["rejected"], row.get("prompt")
    if _is_list(prompt):
        prompt = _messages(prompt)
        repeated = all(len(side) > len(prompt) and side[: len(prompt)] == prompt for side in (chosen, rejected))
        size = len(prompt) if repeated else 0
        return {**row, "prompt": prompt, "chosen": chosen[size:], "rejected": rejected[size:]}
    if len(chosen) < 2 or len(rejected) < 2:
        raise DataError(f"chosen and rejected are replies, and prompt is no list of messages; {_WRITE[method]}")
    if chosen[:-1] != rejected[:-1]:
        raise DataError("chosen and rejected differ before their last message; only the last reply may differ")
    if prompt is not None and {"role": "user", "content": prompt} not in chosen[:-1]:
        raise DataError(f"prompt is not what the user says in chosen and rejected; {_WRITE[method]}")
    return {**row, "prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}


def _reply(value: Any) -> Any:
    """Messages in chosen or rejected as a list of ours; anything else as it is."""
    return _messages([value] if isinstance(value, Mapping) else value) if _is_list(value, Mapping) else value


def _share_gpt(row: Row) -> Any:
    messages = _messages(row["conversations"])
    before = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    return [*before, *messages] if _is_list(messages) else messages


def _messages(values: Any) -> Any:
    """Messages with role and content; a field that is null counts as absent, and ShareGPT's from and value are read."""
    return [_message(value, place) for place, value in enumerate(values)] if _is_list(values) else values


def _message(value: Any, place: int) -> Any:
    if not isinstance(value, Mapping):
        return value
    message = {key: part for key, part in value.items() if part is not None}
    if {"tool_calls", "function_call"} & message.keys() or message.get("role") in ("tool", "function"):
        raise DataError(f"message {place + 1} is a tool call or a tool's answer, and only text is trained on; {_LEAVE}")
    if not message.keys() >= {"from", "value"}:
        return message
    speaker, text = message.pop("from"), message.pop("value")
    if not isinstance(speaker, str) or speaker not in _SPEAKERS:
        raise DataError(f"message {place + 1} (ShareGPT) is from {speaker!r}; known are {', '.join(_SPEAKERS)}")
    return {"role": _SPEAKERS[speaker], "content": text, **message}


def _learnt_last(messages: Any) -> Any:
    """Messages without OpenAI's `weight`, where it says what is done here: only the last reply is learnt."""
    if not _is_list(messages):
        return messages
    weights = [_weight(message) for message in messages]
    if weights and weights[-1] == 0:
        raise DataError(f"the last reply has weight 0, so it is not to be learnt; {_LEAVE}")
    for place, weight in enumerate(weights[:-1], start=1):
        if weight not in (None, 0):
            raise DataError(
                f"message {place} has weight {weight!r}, but only the last reply of a row is learnt; write a row that "
                "ends with each reply that is to be learnt"
            )
    if weights and weights[-1] not in (None, 1):
        raise DataError(f"the last reply has weight {weights[-1]!r}; a reply counts whole (1) or not at all (0)")
    return [_without_weight(message) for message in messages]


def _weight(message: Any) -> Any:
    """The weight of a reply; what others say is never learnt, whatever its weight."""
    return message.get("weight") if isinstance(message, Mapping) and message.get("role") == "assistant" else None


def _without_weight(message: Any) -> Any:
    return {key: part for key, part in message.items() if key != "weight"} if isinstance(message, Mapping) else message


def _refuse_tools(row: Row) -> None:
    if row.get("tools") or row.get("functions"):
        raise DataError(f"the row offers tools (OpenAI's tools or functions), and only text is trained on; {_LEAVE}")


def _refuse_known(row: Row, method: str) -> None:
    missing = next((key for key in _KEYS[method] if key not in row), None)
    for known, what in _KNOWN:
        if missing and known(row):
            expected = f"{missing}: Field required (expected a row of `--format {method}`)"
            raise DataError(f"{expected}, this is {what}; {_WRITE[method]}")


def _has(*keys: str) -> Callable[[Row], bool]:
    return lambda row: row.keys() >= set(keys)


_KNOWN: Final[Sequence[tuple[Callable[[Row], bool], str]]] = (
    (_has("completions", "scores"), "a row of `--format listwise`, which no training here takes"),
    (_has("completion", "label"), "a row for KTO (`--format kto`), which says of one reply whether it is good"),
    (
        _has("instruction", "output"),
        "a row in the format Alpaca, where instruction and input may be put together in many ways",
    ),
    (_has("prompt", "completion"), "prompt and completion in plain text, which does not say who speaks"),
    (_has("prompt", "response"), "prompt and response in plain text, which does not say who speaks"),
    (_has("text"), "plain text, which does not say who speaks"),
)


def _is_list(value: Any, *others: type) -> bool:
    return isinstance(value, (list, tuple, *others))
