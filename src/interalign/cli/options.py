"""The options of a command, made of the fields of its settings: name, type, help text, default and limits.

Also those that several commands have and no setting is.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from interalign.config.option import Option, option_of, options_of
from interalign.errors import InteralignError
from interalign.registries import Registry

Command = Callable[..., None]
Run = Annotated[Path, typer.Argument(metavar="RUN.db", help="The run file.", show_default=False)]
PanelWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--panel-weights",
        metavar="labels|truth|FILE.json",
        help="Weigh the judges of the panel by their accuracy; repeat it for the `calibrate --json` of each judge.",
    ),
]


def known_in(registry: Registry, *others: Registry) -> Callable[[str], str]:
    """Refuses a name that neither the registry nor the others have as wrong usage of the option."""

    def check(name: str) -> str:
        if any(name in other.names() for other in others):
            return name
        try:
            registry.target(name)
        except InteralignError as error:
            raise typer.BadParameter(str(error)) from None
        return name

    return check


def with_options(*kinds: type[BaseModel]) -> Callable[[Command], Command]:
    """Give a command an option for every setting of these kinds, behind its first parameter.

    Those that were given arrive as its `**options`; what was not is left to the configuration file and the defaults.
    """

    def decorate(command: Command) -> Command:
        first, *others = (each for each in signature(command).parameters.values() if each.kind != Parameter.VAR_KEYWORD)
        own = {first.name, *(each.name for each in others)}

        @wraps(command)
        def run(**given: Any) -> None:
            command(**{name: value for name, value in given.items() if name in own or value is not None})

        shown = [_parameter(*each) for kind in kinds for each in options_of(kind)]
        parameters = [first, *shown, *(each.replace(kind=Parameter.KEYWORD_ONLY) for each in others)]
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # which Typer reads
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def as_settings(options: Mapping[str, Any], *kinds: type[BaseModel]) -> dict[str, Any]:
    """The settings that these options mean; ConfigError for a text that cannot be read."""
    return {name: _read(name, value, kinds) for name, value in options.items()}


def _read(name: str, value: Any, kinds: tuple[type[BaseModel], ...]) -> Any:
    option = next(filter(None, (option_of(kind, name) for kind in kinds)))
    return option.read(value) if option.read else value


def _parameter(name: str, field: FieldInfo, option: Option) -> Parameter:
    declared = typer.Option(
        option.name or f"--{name.replace('_', '-')}", metavar=option.metavar, help=" ".join(_help(field, option))
    )
    kind = list[str] if option.several else _kind(field.annotation)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, declared])


def _kind(annotation: Any) -> Any:
    """A number, a flag or one of some choices; everything else is given as text."""
    parts = (annotation, *get_args(annotation))
    return next((part for part in parts if part in (bool, int, float) or get_origin(part) is Literal), str)


def _help(field: FieldInfo, option: Option) -> Iterator[str]:
    yield field.description or ""
    default = option.default or _shown(field.default)
    notes = [f"default: {default}" if default else "", *_limits(field)]
    if any(notes):
        yield f"[{', '.join(filter(None, notes))}]"


def _shown(default: Any) -> str:
    """The default as one would type it; empty for none."""
    if isinstance(default, tuple):
        return ", ".join(spec.model for spec in default)
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if isinstance(default, int | str) and not isinstance(default, bool) else ""


def _limits(field: FieldInfo) -> Iterator[str]:
    for limit in field.metadata:
        if isinstance(limit, annotated_types.Ge):
            yield f"at least {limit.ge}"
        elif isinstance(limit, annotated_types.Gt):
            yield f"more than {limit.gt}"
        elif isinstance(limit, annotated_types.Le):
            yield f"at most {limit.le}"
