"""Settings of a run, read once and passed down."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from interalign.errors import ConfigError
from interalign.tree import Frozen

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
_ADDRESS = re.compile(r"(openai:.+?)@(https?://.*)", re.DOTALL)


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
        # A model's own query (`world:judge?noise=0.2`) also holds a `=`, but only after a `:`.
        name, sign, model = text.partition("=")
        if sign and ":" not in name:
            return cls(name=name, model=model)
        tail = text.partition("?")[0].rstrip("/").rpartition("/")[2] or text
        visible = "".join(sign if sign.isprintable() else "-" for sign in tail.rpartition(":")[2] or tail)
        return cls(name=re.sub(r"[\s/+|]", "-", visible), model=text)


class RunSettings(Frozen):
    """What a simulation and an evaluation have in common."""

    turns: int = Field(default=10, ge=1, le=1000)
    user: str = "world:user"
    candidate: tuple[CandidateSpec, ...]
    judge: str = "world:judge"
    seed: int = 0
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
        if not re.fullmatch(r"caterpillar|full|beam:[1-9]\d*", value):
            raise ValueError(f"{value!r} is none of caterpillar, full, beam:K with K a number from 1")
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


class Price(Frozen):
    """What a model costs, in USD per million tokens."""

    prompt: float = Field(ge=0, allow_inf_nan=False)
    completion: float = Field(ge=0, allow_inf_nan=False)
    longest_reply: int | None = Field(default=None, ge=1)
    """Most tokens that the model can answer with, where `max_tokens` does not say less."""


class Runtime(Frozen):
    """How a run is carried out. Nothing here changes what comes out, so none of it is part of a run's identity."""

    base_url: str | tuple[str, ...] | None = None
    """Serves every `openai:` model of the run that has no address of its own; several share the calls."""
    addresses: tuple[tuple[str, str], ...] = ()
    """`openai:` models with an address of their own (`openai:NAME@http://...`): name and address."""
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
    given = [(name, how) for name, how in found.items() if how]
    engines = tuple(pair for pair in given if pair[0].startswith("hf:"))
    return {"addresses": tuple(pair for pair in given if pair not in engines), "engines": engines}


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

    seats = {"user": bare(settings.user), "judge": bare(settings.judge)}
    if isinstance(settings, SimulationSettings):
        seats["inducer"] = bare(settings.inducer)
    candidates = tuple(spec.model_copy(update={"model": bare(spec.model)}) for spec in settings.candidate)
    return (
        settings.model_copy(update={**seats, "candidate": candidates}),
        runtime.model_copy(update=as_runtime(found)),
    )


def identity_of(settings: RunSettings, **more: JsonValue) -> dict[str, JsonValue]:
    """Every setting that must not change once a run has begun, as plain JSON. More trees extend a run.

    An end mark is named only where there is one: runs of versions that had none go on.
    """
    left_out = {"trees", "limit"} if settings.end_mark is not None else {"trees", "limit", "end_mark"}
    return {**settings.model_dump(mode="json", exclude=left_out), **more}


def build(kind: type[S], given: Mapping[str, object]) -> S:
    """Settings of this kind from option values; ConfigError names the first option that does not fit."""
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        reason = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "missing":
            reason = f"must be given; use --{option}"
        if first["type"] == "extra_forbidden":
            there = _fields_at(kind, first["loc"][:-1])
            more = [name for name in Runtime.model_fields if name not in _IN_NAMES] if len(first["loc"]) == 1 else []
            reason = f"no such setting; there are {', '.join([*there, *more])}"
        raise ConfigError(f"{option + ': ' if option else ''}{reason}") from None


def _fields_at(kind: type[Frozen], where: tuple[int | str, ...]) -> list[str]:
    """The names of the settings at this place: those of a seat's parameters, say, not all of the run's."""
    for name in where:
        field = kind.model_fields.get(str(name))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, Frozen):
            break
        kind = field.annotation
    return list(kind.model_fields)


def models_of(settings: RunSettings) -> tuple[str, ...]:
    """The names of all models and plug-ins in the seats of a run, each once."""
    inducer = [settings.inducer] if isinstance(settings, SimulationSettings) and settings.inducer != "none" else []
    candidates = [candidate.model for candidate in settings.candidate]
    return tuple(dict.fromkeys([settings.user, *inducer, *candidates, settings.judge]))


def read_yaml(path: Path) -> dict[str, Any]:
    """The `name: value` lines of a YAML file; ConfigError if it holds anything else."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read as YAML ({reason})") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: expected `name: value` lines, got {type(values).__name__}")
    return values


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, keyed as the command line's options."""
    return {key.replace("-", "_"): value for key, value in read_yaml(path).items()}
