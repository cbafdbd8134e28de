"""Settings of a run, read once and passed down."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from interalign.errors import ConfigError
from interalign.invalid import Wrong, first_wrong
from interalign.registries import POLICIES
from interalign.tree import Frozen
from interalign.yaml_file import read_yaml

Judging = Literal["compare", "score"]
HookPoint = Literal["after_user", "before_candidates", "after_candidates", "after_judge"]
S = TypeVar("S", bound=Frozen)
R = TypeVar("R", bound="RunSettings")
_OURS = ("model", "messages", "stream")
"""Fields of a request that the run itself writes."""
_ENGINE = ("max_batch", "cache_mb", "workers")
"""Options of `hf:` models that change no reply: the model is known without them."""
_IN_NAMES = ("addresses", "engines")
"""What a Runtime is told within the names of models, not by a setting of its own."""
WORDING = ("prompts", "rubric", "system")
"""Settings that say where a text is read; a run records the text."""
_NO_OPTIONS = ("parameters", "hooks", "end_mark")
"""Settings that only a file or a program can give."""
_ADDRESS = re.compile(r"(openai:.+?)@(https?://.*)", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
TokenLimit = Literal["max_tokens", "max_completion_tokens"]
"""What a server calls the longest reply in a request."""


class Parameters(Frozen):
    """Sampling settings of one seat. None leaves the choice to the provider."""

    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    seed: int | Literal["addressed"] | None = None
    """Sent to the provider as its `seed`: this number with every call, or each call's own, which differs from place to
    place and is the same whenever the run is made. None: no seed is sent."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further request fields for the provider, passed as they are."""

    @field_validator("extra_body")
    @classmethod
    def _can_be_sent(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"cannot be sent as JSON ({error}); put dates and the like in quotes") from None
        if ours := [name for name in _OURS if name in value]:
            raise ValueError(f"{', '.join(ours)} cannot be set here: the run itself fills it in")
        if value.get("n", 1) != 1:
            raise ValueError("n would pay for replies that are never used; --branch says how many replies a turn has")
        return value


class SeatParameters(Frozen):
    """Sampling settings per role."""

    user: Parameters = Parameters(temperature=1.0)
    inducer: Parameters = Parameters(temperature=0.0)
    candidate: Parameters = Parameters(temperature=1.0)
    judge: Parameters = Parameters(temperature=0.0)


class CandidateSpec(Frozen):
    """A candidate's name in trees and reports, and the model (or role) behind it."""

    name: str
    model: str = Field(min_length=1)

    @field_validator("name")
    @classmethod
    def _can_be_part_of_an_id(cls, value: str) -> str:
        if not re.fullmatch(r"[^\s/+|]+", value) or not value.isprintable():
            raise ValueError(
                f"{value!a} cannot name a candidate: give a name of visible signs without blanks, /, + and |, "
                "as NAME=MODEL"
            )
        return value

    @classmethod
    def parse(cls, text: str) -> Self:
        """`NAME=MODEL`, or just `MODEL`, whose name is then its last part (`openai:gpt-4o-mini` -> `gpt-4o-mini`)."""
        bare, url = split_address(text)
        if url:
            given = cls.parse(bare)
            return cls(name=given.name, model=f"{given.model}@{url}")
        name, model = split_candidate(text)
        if name is not None:
            return cls(name=name, model=model)
        tail = text.partition("?")[0].rstrip("/").rpartition("/")[2] or text
        visible = "".join(sign if sign.isprintable() else "-" for sign in tail.rpartition(":")[2] or tail)
        return cls(name=re.sub(r"[\s/+|]", "-", visible), model=text)


class RunSettings(Frozen):
    """What a simulation and an evaluation have in common."""

    turns: int = Field(default=10, ge=1, le=1000)
    user: str = "world:user"
    candidate: tuple[CandidateSpec, ...]
    judge: str | tuple[str, ...] = "world:judge"
    """Several judges are a panel."""
    seed: int = 0
    prompts: str | None = None
    """Folder of the user's own prompts, each in place of the built-in one of its name; None: all built-in."""
    rubric: str | None = None
    """File with the criteria that the judge is given in place of the built-in ones."""
    system: str | None = None
    """System message of the candidate's requests, or `@FILE` that holds it (`@@` for a text that begins with `@`)."""
    end_mark: str | None = None
    """What the user agent writes to end the talk early, such as `[END]`; None: every talk has all its turns."""
    parameters: SeatParameters = SeatParameters()
    hooks: dict[HookPoint, tuple[str, ...]] = Field(default_factory=dict)
    """Plug-ins by the point of the turn graph they attach to, each as `module:attribute` or a registered name."""

    @field_validator("candidate", mode="before")
    @classmethod
    def _parse_candidates(cls, value: object) -> object:
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list | tuple):
            return tuple(CandidateSpec.parse(item) if isinstance(item, str) else item for item in value)
        return value

    @field_validator("judge", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        named = value if isinstance(value, list | tuple) else [value]
        if not named or not all(isinstance(name, str) for name in named):
            raise ValueError(f"expected the name of a model, or a list of them for a panel, got {value!r}")
        if twice := [name for name, times in Counter(named).items() if times > 1]:
            raise ValueError(f"{twice[0]} is named twice; a judge has one vote in a panel")
        return named[0] if len(named) == 1 else tuple(named)

    @property
    def judges(self) -> tuple[str, ...]:
        """The judges by name, in order; several are a panel."""
        return (self.judge,) if isinstance(self.judge, str) else self.judge

    @field_validator("prompts", "rubric", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    @field_validator("end_mark")
    @classmethod
    def _can_stand_in_a_message(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or value != value.strip() or not value.isprintable()):
            raise ValueError(f"{value!a} cannot be written at the end of a message; give a mark such as [END]")
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [candidate.name for candidate in self.candidate]
        if not names:
            raise ValueError("name at least one candidate")
        if len(set(names)) < len(names):
            raise ValueError(f"two candidates are called the same ({', '.join(names)}); name them with NAME=MODEL")
        return self


class SimulationSettings(RunSettings):
    """Everything that decides what `interalign simulate` grows."""

    personas: str = "world"
    trees: int = Field(default=10, ge=1)
    branch: int = Field(default=2, ge=1, le=64)
    """Replies per turn, the hinted one included."""
    policy: str = "caterpillar"
    inducer: str = "world:inducer"
    """`none`: no notes are taken and no reply is hinted."""
    candidate: tuple[CandidateSpec, ...] = (CandidateSpec(name="average", model="world:average"),)
    judging: Judging = "compare"

    @field_validator("policy")
    @classmethod
    def _known_policy(cls, value: str) -> str:
        try:
            POLICIES.target(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _full_tree_is_bounded(self) -> Self:
        if self.policy == "full" and self.branch**self.turns > 100_000:
            raise ValueError(
                f"policy full with branch {self.branch} and {self.turns} turns means {self.branch**self.turns:,} "
                "leaves a tree; use fewer turns or beam:K"
            )
        return self


class EvaluationSettings(RunSettings):
    """Everything that decides what `interalign evaluate` measures."""

    cases: str = "world"
    limit: int | None = Field(default=None, ge=1)
    """Only the first `limit` cases; None: all."""


class PersonaSettings(Frozen):
    """Everything that decides what `interalign personas generate --model` writes."""

    model: str = Field(min_length=1)
    n: int = Field(default=100, ge=1)
    """Personas that are wanted."""
    per_profile: int = Field(default=10, ge=1)
    """Personalities to each profile."""
    personalities: int | None = Field(default=None, ge=1)
    """Different personalities that are wanted; None: seven times `per_profile`, or as many as there are profiles."""
    threshold: float = Field(default=0.6, ge=0, le=1)
    """Largest cosine of what is kept to each one kept before."""
    embedding: str = "tfidf"
    seeds: str | None = None
    """Persona file with the first examples; None: 20 profiles and 20 personalities of the shipped pool."""
    prompts: str | None = None
    """Folder of the user's own prompts, as in a run."""
    seed: int = 0
    parameters: Parameters = Parameters(temperature=0.8, max_tokens=4096)
    """Twenty people of ten facts are some 3,000 tokens, where `hf:` models and many servers end a reply at fewer."""

    @property
    def targets(self) -> Mapping[str, int]:
        """How many profiles and personalities are to be collected."""
        profiles = -(-self.n // self.per_profile)
        talks = self.personalities or min(7 * self.per_profile, max(self.per_profile, profiles))
        return {"profile": profiles, "personality": talks}


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

    base_url: str | tuple[str, ...] | None = None
    """Serves every `openai:` model of the run that has no address of its own; several share the calls."""
    servers: tuple[tuple[str, ServerSettings], ...] = ()
    """Addresses, and how the server there is spoken to: whose key it gets, above all; a mapping is taken too."""
    addresses: tuple[tuple[str, str], ...] = ()
    """The `openai:` models of the run and the address of their own (`openai:NAME@http://...`), empty for none."""
    engines: tuple[tuple[str, str], ...] = ()
    """`hf:` models with options that change no reply (`max_batch=8&workers=2`): name without them, and the options."""
    concurrency: int = Field(default=16, ge=1, le=4096)
    """Model calls in flight, over all trees."""
    deadline: float = Field(default=120.0, gt=0)
    """Total seconds for one call."""
    max_usd: float | None = Field(default=None, ge=0)
    """The run stops before a call that could make all calls in its file cost more, in USD."""
    max_tokens: int | None = Field(default=None, ge=0)
    """The run stops before a call that could make all calls in its file take more tokens, of prompts and replies."""
    prices: tuple[tuple[str, Price], ...] = ()
    """The price table: full model name and price; a mapping is taken too."""

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


def split_candidate(text: str) -> tuple[str | None, str]:
    """`NAME=MODEL` as both, a bare model with None."""
    # A model's own query (`world:judge?noise=0.2`) also holds a `=`, but only after a `:`.
    name, sign, model = text.partition("=")
    return (name, model) if sign and ":" not in name else (None, text)


def split_address(spec: str) -> tuple[str, str | None]:
    """`openai:NAME@http://...` as the model's name and where it is served; None for the address if there is none."""
    match = _ADDRESS.fullmatch(spec)
    return (match[1], match[2]) if match else (spec, None)


def split_engine(spec: str) -> tuple[str, str]:
    """`hf:PATH?history=1&workers=2` as the name the model is known by and, sorted, the options that change no reply."""
    path, mark, query = spec.partition("?")
    if not mark or not spec.startswith("hf:"):
        return spec, ""
    options = query.split("&")
    how = [option for option in options if option.partition("=")[0] in _ENGINE]
    rest = [option for option in options if option not in how]
    return f"{path}?{'&'.join(rest)}" if rest else path, "&".join(sorted(how))


def join_engine(name: str, options: str) -> str:
    """The spec that `split_engine` took apart."""
    return f"{name}{'&' if '?' in name else '?'}{options}" if options else name


def known_as(spec: str) -> tuple[str, str | None]:
    """The name a model is known by, and how it is reached (an address) or run (options); None if that is not said."""
    if spec.startswith("hf:"):
        name, options = split_engine(spec)
        return name, options or None
    return split_address(spec)


def as_runtime(found: Mapping[str, str | None]) -> dict[str, tuple[tuple[str, str], ...]]:
    """How models are reached or run, by name, as fields of a Runtime."""
    given = [(name, how or "") for name, how in found.items()]
    return {
        "addresses": tuple(pair for pair in given if pair[0].startswith("openai:")),
        "engines": tuple(pair for pair in given if pair[0].startswith("hf:") and pair[1]),
    }


def with_addresses(settings: R, runtime: Runtime) -> tuple[R, Runtime]:
    """The same settings with bare model names, which are what a run is known by; addresses and engines in the runtime.

    Raises ConfigError if one name is given two: which one answers would be an accident.
    """
    found: dict[str, str | None] = {}

    def bare(spec: str) -> str:
        name, how = known_as(spec)
        if found.setdefault(name, how) != how:
            if name.startswith("hf:"):
                raise ConfigError(f"{name} is given two sets of {', '.join(_ENGINE)}; give it the same in every seat")
            raise ConfigError(f"{name} is asked for at two addresses; serve it under two names, or at --base-url only")
        return name

    judges = tuple(map(bare, settings.judges))
    if len(set(judges)) < len(judges):
        raise ConfigError(f"--judge: {Counter(judges).most_common(1)[0][0]} is named twice; a judge has one vote")
    seats: dict[str, object] = {"user": bare(settings.user), "judge": judges[0] if len(judges) == 1 else judges}
    if isinstance(settings, SimulationSettings):
        seats["inducer"] = bare(settings.inducer)
    candidates = tuple(spec.model_copy(update={"model": bare(spec.model)}) for spec in settings.candidate)
    return (
        settings.model_copy(update={**seats, "candidate": candidates}),
        runtime.model_copy(update=as_runtime(found)),
    )


def identity_of(settings: RunSettings, **more: JsonValue) -> dict[str, JsonValue]:
    """Every setting that must not change once a run has begun, as plain JSON. More trees extend a run.

    An end mark is named only where there is one: runs of versions that had none go on. Prompts, rubric and system
    message count by what they say, not by where it was read: `PromptSet.identity`, handed in as `more`.
    """
    left_out = {"trees", "limit", *WORDING} | ({"end_mark"} if settings.end_mark is None else set())
    return {**settings.model_dump(mode="json", exclude=left_out), **more}


def build(kind: type[S], given: Mapping[str, object], file: Path | None = None, from_file: Collection[str] = ()) -> S:
    """Settings of this kind from option values; ConfigError names the first that does not fit, and what is near it.

    Of the values named in `from_file` it says that they stand in `file`, of all others the option.
    """
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        more = [name for name in Runtime.model_fields if name not in _IN_NAMES]
        wrong = first_wrong(error, kind, given, more)
        raise ConfigError(_said(wrong, file if set(wrong.where[:1] or given) <= set(from_file) else None)) from None


def _said(wrong: Wrong, file: Path | None) -> str:
    name = ".".join(wrong.where)
    if file is not None:
        return f"{file}: {name}: {wrong.reason}" if name else f"{file}: {wrong.reason}"
    option = f"--{name.replace('_', '-')}"
    if wrong.reason == "must be given":
        return f"{name}: {wrong.reason}; use {option}"
    is_option = not wrong.unknown and wrong.where[:1] not in ((), *((each,) for each in _NO_OPTIONS))
    return f"{option if is_option else name}: {wrong.reason}" if name else wrong.reason


def models_of(settings: RunSettings) -> tuple[str, ...]:
    """The names of all models and plug-ins in the seats of a run, each once."""
    inducer = [settings.inducer] if isinstance(settings, SimulationSettings) and settings.inducer != "none" else []
    candidates = [candidate.model for candidate in settings.candidate]
    return tuple(dict.fromkeys([settings.user, *inducer, *candidates, *settings.judges]))


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, keyed as the command line's options."""
    values: dict[str, Any] = {}
    for key, value in read_yaml(path).items():
        name = key.replace("-", "_")
        if name in values:
            raise ConfigError(f"{path}: {key} is given twice, with `-` and with `_`; keep one")
        values[name] = value
    return values


@contextmanager
def naming_the_file(file: Path | None, given: Mapping[str, object]) -> Iterator[None]:
    """Whatever is refused because of a name that stands in the settings file, a model's say, is told with the file.

    `given`: what wins over the file.
    """
    try:
        yield
    except ConfigError as error:
        if file is None or str(error).startswith(str(file)) or not _names_something_in(file, given, str(error)):
            raise
        raise type(error)(f"{file}: {error}") from error


def _names_something_in(file: Path, given: Mapping[str, object], message: str) -> bool:
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
