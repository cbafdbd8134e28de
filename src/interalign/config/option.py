"""What a settings field says of its command-line option, where its name, type and description do not say it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class Option(NamedTuple):
    """Metadata of a settings field, as `Annotated[int, Option()]`: this setting is an option of commands, too."""

    metavar: str | None = None
    """What stands for the value in the help."""
    name: str | None = None
    """Such as `--server`; None: the field's name."""
    several: bool = False
    """It may be repeated."""
    default: str = ""
    """What holds where it is not given, if the field's default does not say it."""
    read: Callable[[list[str]], Any] | None = None
    """From the texts of a repeated option to the value of the setting; None: they are the value."""


def option_of(kind: type[BaseModel], name: str) -> Option | None:
    """The option of a setting; None for one that only a file or a program can give."""
    field = kind.model_fields.get(name)
    return next((each for each in field.metadata if isinstance(each, Option)), None) if field else None


def options_of(kind: type[BaseModel]) -> Iterator[tuple[str, FieldInfo, Option]]:
    """The settings of this kind that are options: its own first, then those it shares with others."""
    names = dict.fromkeys(name for each in kind.__mro__ for name in vars(each).get("__annotations__", ()))
    for name in names:
        option = option_of(kind, name)
        if option is not None:
            yield name, kind.model_fields[name], option
