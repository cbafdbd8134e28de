"""Training files: read, and refused where training on them would go wrong without a word."""

import json
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from interalign.errors import ConfigError, DataError
from interalign.models.local.chat_template import ChatTemplate, chat_template_of
from interalign.models.local.control_tokens import ConversationRefusedError
from interalign.training.bad_rows import BadRows
from interalign.training.completions import prompt_and_replies
from interalign.training.method import RowReader, method_called
from interalign.training.row_file import open_rows
from interalign.training.rows import TokenRow, TrainingRow


class TooLongError(DataError):
    """A row is longer than `max_length`."""


def read_rows(path: Path, method: str) -> list[TrainingRow]:
    """Rows of a file as `interalign export` writes it, or in a public format that says the same (`formats`).

    JSON lines (blank ones are skipped), a JSON array or Parquet (`rowfile`); further keys are left alone.
    Raises DataError naming the file and every bad row, with the reason: no such row, or one whose reply is empty or not
    the assistant's, or whose chosen and rejected replies are the same; ConfigError if there is no file or no row in it.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name the file in it that holds the rows (JSON lines or Parquet)")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; write one with `interalign export RUN.db --format {method}`")
    rows = []
    with open_rows(path) as file:
        bad = BadRows(str(path), file.unit)
        for number, value in file.rows:
            with bad.noted(number):
                rows.append(_row(value, number, method)._replace(unit=file.unit))
    bad.refuse(len(rows) + bad.count)
    if not rows:
        raise ConfigError(f"{path}: no rows in it, so there is nothing to train on")
    return rows


def _row(value: Any, number: int, method: str) -> TrainingRow:
    """DataError with the reason alone: the caller knows the file."""
    known = method_called(method)
    if isinstance(value, bytes):
        try:
            value = json.loads(value.decode())
        except (ValueError, RecursionError) as error:
            raise DataError(f"not JSON in UTF-8 ({error})") from None
    try:
        row: TrainingRow = known.line.model_validate(known.as_exported(value)).row(number)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "row"
        raise DataError(f"{field}: {first['msg']} (expected a row of `--format {method}`)") from None
    if any(_lone_surrogate(message.content) for message in (*row.prompt, *row.completions)):
        raise DataError("half of a surrogate pair, which is no text; write U+FFFD in its place")
    _check_replies(row)
    return row


def _lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text) if not text.isascii() else False


def _check_replies(row: TrainingRow) -> None:
    for reply in row.completions:
        if reply.role != "assistant":
            raise DataError(f"the reply to train on is a {reply.role} message; it must be the assistant's")
        if not reply.content.strip():
            raise DataError("the reply to train on is empty; leave the row out")
    if len({reply.content.strip() for reply in row.completions}) < len(row.completions):
        raise DataError("chosen and rejected are the same reply, which teaches nothing; leave the row out")


class Learnable(NamedTuple):
    """Rows that can be trained on, and their tokens."""

    rows: list[TrainingRow]
    tokens: list[TokenRow]


def learnable_rows(
    rows: Sequence[TrainingRow], name: str, read: Callable[[TrainingRow], TokenRow], *, drop_too_long: bool
) -> Learnable:
    """The rows with their tokens; with `drop_too_long`, those for which `read` raises TooLongError are left out.

    Raises DataError naming every row for which `read` raises one; ConfigError if none is left.
    """
    found, bad = Learnable([], []), BadRows(name, rows[0].unit)
    for row in rows:
        with bad.noted(row.number):
            try:
                found.tokens.append(read(row))
            except TooLongError as error:
                if not drop_too_long:
                    raise DataError(_without_place(error, name, row)) from None
                continue
            except DataError as error:
                raise DataError(_without_place(error, name, row)) from None
            found.rows.append(row)
    bad.refuse(len(rows))
    if not found.rows:
        raise ConfigError(f"{name}: all {len(rows)} rows are longer than max_length; raise it if the model can take it")
    return found


def _without_place(error: DataError, name: str, row: TrainingRow) -> str:
    return str(error).removeprefix(f"{name}, line {row.number}: ")


def tokenize(
    rows: Sequence[TrainingRow],
    name: str,
    tokenizer: Any,
    stops: Set[int],
    max_length: int | None,
    read: RowReader = prompt_and_replies,
    sampled: int = 0,
) -> list[TokenRow]:
    """The rows as the model will read them, or a refusal of what TRL would drop, cut or mislearn.

    The tokenizer's chat template and the arguments that come with it write them, as they do in serving. `stops`
    are the tokens the model stops at; `max_length` counts tokens of prompt and reply, None sets no limit; `read` is how
    the method reads a row (`TrainingMethod.read`), `sampled` how many tokens may be sampled after it.
    Raises DataError naming `name`, the line and the reason.
    """
    chat = chat_template_of(tokenizer)
    found = []
    for row in rows:
        where = f"{name}, line {row.number}"
        found.append(_checked(_read(chat, row, where, stops, read), chat.tokenizer, stops, max_length, where))
        _check_sampled_length(len(found[-1].prompt), sampled, max_length, where)
    return found


def _read(chat: ChatTemplate, row: TrainingRow, where: str, stops: Set[int], read: RowReader) -> TokenRow:
    try:
        return read(chat, row, stops)
    except ConversationRefusedError as error:
        raise DataError(f"{where}: {error}") from None


def _checked(row: TokenRow, tokenizer: Any, stops: Set[int], max_length: int | None, where: str) -> TokenRow:
    for reply in row.replies:
        _check_length(len(row.prompt), len(reply), max_length, where)
        _check_words(reply, tokenizer, stops, where)
    if len({tuple(reply) for reply in row.replies}) < len(row.replies):
        raise DataError(f"{where}: chosen and rejected are the same tokens, which teach nothing; leave the row out")
    return row


def _check_sampled_length(prompt: int, sampled: int, positions: int | None, where: str) -> None:
    if sampled and positions is not None and prompt + sampled > positions:
        raise TooLongError(
            f"{where}: {prompt} tokens of prompt and a reply of up to {sampled} (max_completion_length) are more than "
            f"the {positions} that the model was made for; lower it, or leave such rows out (--drop-too-long)"
        )


def _check_length(prompt: int, reply: int, max_length: int | None, where: str) -> None:
    if max_length is not None and prompt + reply > max_length:
        raise TooLongError(
            f"{where}: {prompt} tokens of prompt and {reply} of reply are more than max_length {max_length}; TRL would "
            "cut or drop the row: raise max_length if the model can take it, or leave such rows out (--drop-too-long)"
        )


def _check_words(reply: list[int], tokenizer: Any, stops: Set[int], where: str) -> None:
    if tokenizer.unk_token_id in reply and tokenizer.unk_token_id not in stops:
        raise DataError(
            f"{where}: the reply has words this tokenizer does not know, and the model would learn to say "
            f"{tokenizer.unk_token!r}; use a tokenizer that covers them, or leave the row out"
        )
