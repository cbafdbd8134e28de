"""What may follow the `?` of an `hf:` name."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from interalign.errors import ConfigError
from interalign.model_spec import ModelSpec
from interalign.tree import Frozen


class LocalOptions(Frozen):
    """What may follow the `?` of an `hf:` name."""

    history: int | None = Field(default=None, ge=1)
    """The model sees only the last N user turns: a control that shows whether reading the talk matters."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest reply, in tokens, where the call does not say; else the folder's generation_config.json decides."""
    max_batch: int = Field(default=64, ge=1)
    chat_template: str | None = Field(default=None, min_length=1)
    """File with the chat template to use instead of the folder's."""
    dtype: Literal["auto", "float32", "float64", "bfloat16", "float16"] | None = None
    """None: float32 on the CPU, the checkpoint's own on a GPU."""
    cache_mb: int = Field(default=1024, ge=0)
    """Memory for keys and values kept between calls, in MiB, on the model's device; 0: every prompt is read anew."""
    workers: int | None = Field(default=None, ge=1)
    """So many processes with a copy of the model each, one a GPU if there are some; None: it runs in this process."""


def local_options(spec: ModelSpec) -> LocalOptions:
    """The options of `hf:PATH_OR_ID[?options]`; ConfigError for an empty path or an option that does not exist."""
    if not spec.name:
        raise ConfigError(f"{str(spec)!r} names no model: write hf:FOLDER or hf:ORGANISATION/MODEL")
    try:
        return LocalOptions.model_validate(spec.options())
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(LocalOptions.model_fields)
        raise ConfigError(f"{spec}: option {first['loc'][0]!r}: {first['msg']}; the options are {known}") from None


def template_text(path: str | Path) -> str:
    """A chat template from a file; ConfigError if it cannot be read, or is empty."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"chat_template {path}: {why}; name a file with a Jinja template") from None
    if not text.strip():
        raise ConfigError(f"chat_template {path}: the file is empty; name a file with a Jinja template")
    return text
