"""Settings from options and YAML files; what is wrong with them, in one line that says where it stands."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from interalign.config.runtime import Runtime
from interalign.config.settings import split_candidate
from interalign.errors import ConfigError
from interalign.invalid import Wrong, first_wrong
from interalign.tree import Frozen
from interalign.yaml_file import read_yaml

S = TypeVar("S", bound=Frozen)
IN_NAMES = ("addresses", "engines")
"""What a Runtime is told within the names of models, not by a setting of its own."""
_NO_OPTIONS = ("parameters", "hooks", "end_mark")
"""Settings that only a file or a program can give."""


def build(kind: type[S], given: Mapping[str, object], file: Path | None = None, from_file: Collection[str] = ()) -> S:
    """Settings of this kind from option values; ConfigError names the first that does not fit, and what is near it.

    Of the values named in `from_file` it says that they stand in `file`, of all others the option.
    """
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        more = [name for name in Runtime.model_fields if name not in IN_NAMES]
        wrong = first_wrong(error, kind, given, more)
        raise ConfigError(_said(wrong, file if set(wrong.where[:1] or given) <= set(from_file) else None)) from None


def _said(wrong: Wrong, file: Path | None) -> str:
    name = ".".join(wrong.where).rstrip("_")  # `from_`, as a program has to call it
    if file is not None:
        return f"{file}: {name}: {wrong.reason}" if name else f"{file}: {wrong.reason}"
    option = f"--{name.replace('_', '-')}"
    if wrong.reason == "must be given":
        return f"{name}: {wrong.reason}; use {option}"
    is_option = not wrong.unknown and wrong.where[:1] not in ((), *((each,) for each in _NO_OPTIONS))
    return f"{option if is_option else name}: {wrong.reason}" if name else wrong.reason


def read_settings(path: Path | str) -> dict[str, Any]:
    """The settings in a YAML file, keyed as the command line's options."""
    values: dict[str, Any] = {}
    for key, value in read_yaml(Path(path)).items():
        name = "from_" if key == "from" else key.replace("-", "_")
        if name in values:
            raise ConfigError(f"{path}: {key} is given twice, with `-` and with `_`; keep one")
        values[name] = value
    return values


@contextmanager
def naming_the_file(file: Path | str | None, given: Mapping[str, object]) -> Iterator[None]:
    """Whatever is refused because of a name that stands in the settings file, a model's say, is told with the file.

    `given`: what wins over the file.
    """
    try:
        yield
    except ConfigError as error:
        if file is None or str(error).startswith(str(file)) or not _names_something_in(file, given, str(error)):
            raise
        raise type(error)(f"{file}: {error}") from error


def _names_something_in(file: Path | str, given: Mapping[str, object], message: str) -> bool:
    try:
        values = {name: value for name, value in read_settings(file).items() if name not in given}
    except ConfigError:
        return False
    return any(text in message for text in _texts(values) if not text.isalnum())


def _texts(value: object) -> Iterator[str]:
    """All texts within a YAML value; of `NAME=MODEL` the model too."""
    if isinstance(value, str):
        yield from filter(None, (value, split_candidate(value)[1]))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
