"""Training files: read, and refused where training on them would go wrong without a word."""

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from interalign.errors import ConfigError, DataError
from interalign.models.local.chat_template import ChatTemplate, chat_template_of
from interalign.models.local.control_tokens import ConversationRefusedError
from interalign.training.completions import completion, prompt_of
from interalign.training.settings import Method
from interalign.tree import Message


class TrainingRow(NamedTuple):
    """One row of a training file: a conversation and the replies to learn from."""

    number: int
    """Line in the file, from 1."""
    prompt: tuple[Message, ...]
    completions: tuple[Message, ...]
    """The reply to learn (sft), or the chosen and the rejected one (dpo)."""


class TokenRow(NamedTuple):
    """A row as token ids, by the tokenizer's chat template."""

    prompt: list[int]
    """The conversation up to where the assistant begins to speak."""
    replies: tuple[list[int], ...]
    """What the assistant says, with its end of turn: one reply for each completion of the row."""

    @property
    def length(self) -> int:
        """Tokens of the longest sequence in the row."""
        return len(self.prompt) + max(map(len, self.replies))


class _SftLine(BaseModel):
    messages: tuple[Message, ...] = Field(min_length=2)

    def row(self, number: int) -> TrainingRow:
        return TrainingRow(number, self.messages[:-1], self.messages[-1:])


class _DpoLine(BaseModel):
    prompt: tuple[Message, ...] = Field(min_length=1)
    chosen: tuple[Message] = Field(description="one assistant message")
    rejected: tuple[Message]

    def row(self, number: int) -> TrainingRow:
        return TrainingRow(number, self.prompt, (*self.chosen, *self.rejected))


_LINES: Mapping[Method, type[_SftLine] | type[_DpoLine]] = {"sft": _SftLine, "dpo": _DpoLine}


def read_rows(path: Path, method: Method) -> list[TrainingRow]:
    """Rows of a JSONL file as `interalign export` writes it; blank lines are skipped, further keys left alone.

    Raises DataError naming file, line and reason for a row that is no such row, whose reply is empty or not the
    assistant's, or whose chosen and rejected replies are the same; ConfigError if there is no file or no row in it.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; write one with `interalign export RUN.db --format {method}`")
    with path.open("rb") as file:  # line by line as bytes, so that a broken byte is reported with its line
        rows = [_row(line, number, method, str(path)) for number, line in enumerate(file, start=1) if line.strip()]
    if not rows:
        raise ConfigError(f"{path}: no rows in it, so there is nothing to train on")
    return rows


def _row(line: bytes, number: int, method: Method, name: str) -> TrainingRow:
    where = f"{name}, line {number}"
    try:
        row = _LINES[method].model_validate(json.loads(line.decode())).row(number)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "row"
        raise DataError(f"{where}: {field}: {first['msg']} (expected a row of `--format {method}`)") from None
    except ValueError as error:
        raise DataError(f"{where}: not JSON in UTF-8 ({error})") from None
    if any(_lone_surrogate(message.content) for message in (*row.prompt, *row.completions)):
        raise DataError(f"{where}: half of a surrogate pair, which is no text; write U+FFFD in its place")
    _check_replies(row, where)
    return row


def _lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text) if not text.isascii() else False


def _check_replies(row: TrainingRow, where: str) -> None:
    for reply in row.completions:
        if reply.role != "assistant":
            raise DataError(f"{where}: the reply to train on is a {reply.role} message; it must be the assistant's")
        if not reply.content.strip():
            raise DataError(f"{where}: the reply to train on is empty; leave the row out")
    if len({reply.content.strip() for reply in row.completions}) < len(row.completions):
        raise DataError(f"{where}: chosen and rejected are the same reply, which teaches nothing; leave the row out")


def tokenize(
    rows: Sequence[TrainingRow], name: str, tokenizer: Any, stops: Set[int], max_length: int | None
) -> list[TokenRow]:
    """The rows as the model will read them, or a refusal of what TRL would drop, cut or mislearn.

    The tokenizer's chat template and the arguments that come with it write them, as they do in serving. `stops`
    are the tokens the model stops at; `max_length` counts tokens of prompt and reply, None sets no limit.
    Raises DataError naming `name`, the line and the reason.
    """
    chat = chat_template_of(tokenizer)
    return [_token_row(chat, row, f"{name}, line {row.number}", stops, max_length) for row in rows]


def _token_row(chat: ChatTemplate, row: TrainingRow, where: str, stops: Set[int], max_length: int | None) -> TokenRow:
    try:
        prompt = prompt_of(chat, row.prompt)
        replies = tuple(completion(chat, prompt, reply, stops) for reply in row.completions)
    except ConversationRefusedError as error:
        raise DataError(f"{where}: {error}") from None
    for reply in replies:
        _check_length(len(prompt.ids), len(reply), max_length, where)
        _check_words(reply, chat.tokenizer, stops, where)
    if len({tuple(reply) for reply in replies}) < len(replies):
        raise DataError(f"{where}: chosen and rejected are the same tokens, which teach nothing; leave the row out")
    return TokenRow(prompt.ids, replies)


def _check_length(prompt: int, reply: int, max_length: int | None, where: str) -> None:
    if max_length is not None and prompt + reply > max_length:
        raise DataError(
            f"{where}: {prompt} tokens of prompt and {reply} of reply are more than max_length {max_length}; "
            "TRL would cut or drop the row: raise max_length if the model can take it, or leave the row out"
        )


def _check_words(reply: list[int], tokenizer: Any, stops: Set[int], where: str) -> None:
    if tokenizer.unk_token_id in reply and tokenizer.unk_token_id not in stops:
        raise DataError(
            f"{where}: the reply has words this tokenizer does not know, and the model would learn to say "
            f"{tokenizer.unk_token!r}; use a tokenizer that covers them, or leave the row out"
        )


def sha256(path: Path) -> str:
    """Hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
