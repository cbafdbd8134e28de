"""How a run is carried out: servers and their keys, limits, prices. Nothing of it changes what comes out."""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from interalign.config.option import Option
from interalign.errors import ConfigError
from interalign.tree import Frozen

_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
TokenLimit = Literal["max_tokens", "max_completion_tokens"]
"""What a server calls the longest reply in a request."""


def key_variables(given: Iterable[str]) -> dict[str, dict[str, str]]:
    """`URL=VARIABLE` of every --server option as a `servers:` table; ConfigError for what is not of that form."""
    table = {}
    for text in given:
        url, sign, name = text.rpartition("=")
        if not sign or not _VARIABLE.fullmatch(name):
            raise ConfigError(
                "--server: expected URL=NAME with the name of the environment variable that holds the server's key, "
                "never the key itself, such as http://localhost:8000/v1=MY_SERVER_KEY"
            )
        table[url] = {"key": name}
    return table


class Price(Frozen):
    """What a model costs, in USD per million tokens."""

    prompt: float = Field(ge=0, allow_inf_nan=False)
    completion: float = Field(ge=0, allow_inf_nan=False)
    longest_reply: int | None = Field(default=None, ge=1)
    """Most tokens that the model can answer with, where `max_tokens` does not say less."""


class ServerSettings(Frozen):
    """How one server is spoken to. No secret stands here: keys and tokens are named by environment variables."""

    key: str | None = None
    """Name of the environment variable that holds this server's key."""
    headers: tuple[tuple[str, str], ...] = Field(default=(), repr=False)
    """Further request headers, names and values; `${NAME}` stands for that environment variable."""
    query: tuple[tuple[str, str], ...] = Field(default=(), repr=False)
    """Behind the `?` of every request (`api-version`, say), names and values as in `headers`."""
    token_limit: TokenLimit | None = None
    """The name of the longest reply in requests; None: OpenAI's new one for OpenAI, else the usual one."""
    proxy: str | None = Field(default=None, repr=False)
    """Address of the proxy, `${NAME}` as in `headers`; `none`: no proxy; None: what the environment says."""

    @field_validator("key")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.fullmatch(value):
            raise ValueError("expected the name of the environment variable that holds the key, never the key itself")
        return value

    @field_validator("headers", "query", mode="before")
    @classmethod
    def _as_pairs(cls, value: object) -> object:
        return tuple((name, _as_text(said)) for name, said in _pairs(value)) if value else ()


class Runtime(Frozen):
    """How a run is carried out. Nothing here changes what comes out, so none of it is part of a run's identity."""

    base_url: Annotated[
        str | tuple[str, ...] | None, Option("<str>", several=True, default="OPENAI_BASE_URL, else OpenAI")
    ] = Field(
        default=None,
        description="Server of the openai: models, such as http://localhost:8000/v1. Repeat it to share the calls.",
    )
    """Models with an address of their own are served there."""
    servers: Annotated[
        tuple[tuple[str, ServerSettings], ...],
        Option("URL=VARIABLE", name="--server", several=True, read=key_variables),
    ] = Field(
        default=(),
        description="The key of the server at this address is in this environment variable. Repeat it for several.",
    )
    """Addresses, and how the server there is spoken to: whose key it gets, above all; a mapping is taken too."""
    addresses: tuple[tuple[str, str], ...] = ()
    """The `openai:` models of the run and the address of their own (`openai:NAME@http://...`), empty for none."""
    engines: tuple[tuple[str, str], ...] = ()
    """`hf:` models with options that change no reply (`max_batch=8&workers=2`): name without them, and the options."""
    concurrency: Annotated[int, Option()] = Field(default=16, ge=1, le=4096, description="Model calls in flight.")
    deadline: Annotated[float, Option()] = Field(
        default=120.0, gt=0, description="Seconds that one call may take in all."
    )
    max_usd: Annotated[float | None, Option()] = Field(
        default=None, ge=0, description="Stop before a call that could make the run cost more. Needs --prices."
    )
    max_tokens: Annotated[int | None, Option()] = Field(
        default=None, ge=0, description="Stop before a call that could make the run take more tokens."
    )
    budget: Annotated[str | None, Option("FILE")] = Field(
        default=None, description="File by which several commands share --max-usd and --max-tokens."
    )
    prices: Annotated[tuple[tuple[str, Price], ...], Option("FILE.yaml")] = Field(
        default=(), description="What each model costs, USD per million tokens."
    )
    """The price table: full model name and price; a mapping is taken too."""

    @field_validator("budget", mode="before")
    @classmethod
    def _as_a_path(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    @field_validator("prices", mode="before")
    @classmethod
    def _as_pairs(cls, value: object) -> object:
        return tuple(value.items()) if isinstance(value, Mapping) else value

    @field_validator("servers", mode="before")
    @classmethod
    def _read_servers(cls, value: object) -> object:
        return tuple((_address(url), _server(str(url), given)) for url, given in _pairs(value)) if value else ()


def _pairs(value: object) -> Iterable[tuple[object, object]]:
    """The items of a mapping, or pairs as they are; ValueError for anything else."""
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        return [(pair[0], pair[1]) for pair in value]
    raise ValueError("expected `name: value` lines")


def _as_text(value: object) -> str:
    """A value as a header or a query has it; YAML reads a date out of `2024-10-21`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float | date):
        return str(value)
    raise ValueError("expected a text for each name")


def _address(url: object) -> str:
    """The address as text, without what may differ in spelling; ValueError for what is none."""
    if not isinstance(url, str) or not re.match(r"https?://[^/@\s]+(/|$)", url, re.IGNORECASE):
        raise ValueError("expected addresses such as http://localhost:8000/v1, each with its settings")
    return url.rstrip("/").removesuffix("/chat/completions")


def _server(url: str, given: object) -> ServerSettings:
    """The settings of this server; ValueError names the server and the setting, never what was given."""
    if isinstance(given, ServerSettings):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(f"{url}: expected settings such as `key: NAME_OF_ITS_VARIABLE`")
    try:
        return ServerSettings.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        reason = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            reason = f"no such setting; there are {', '.join(ServerSettings.model_fields)}"
        raise ValueError(f"{url}: {first['loc'][0] if first['loc'] else ''}: {reason}") from None


def merged_servers(
    first: Iterable[tuple[str, ServerSettings]], second: Iterable[tuple[str, ServerSettings]]
) -> tuple[tuple[str, ServerSettings], ...]:
    """Both tables in one; what the second says of a server wins, setting by setting."""
    table = dict(first)
    for url, settings in second:
        said = {name: getattr(settings, name) for name in settings.model_fields_set}
        table[url] = table[url].model_copy(update=said) if url in table else settings
    return tuple(table.items())
