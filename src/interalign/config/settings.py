"""Settings that decide what a run comes out as, and which of them are its identity."""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from interalign.config.engines import EngineSettings
from interalign.config.option import Option
from interalign.config.parameters import SeatParameters
from interalign.errors import ConfigError
from interalign.model_spec import ModelSpec
from interalign.registries import POLICIES
from interalign.shard import Shard
from interalign.tree import Frozen

Judging = Literal["compare", "score", "list"]
MOST_LISTED = 26
"""Replies that one call can rank: they are shown as A to Z."""
HookPoint = Literal["after_user", "before_candidates", "after_candidates", "after_judge"]
WORDING = ("prompts", "rubric", "system")
"""Settings that say where a text is read; a run records the text."""

MOST_REPLIES = 4
"""Replies that a turn has at most under the policy `adaptive` without a number."""

CARRIED_OUT = ("trees", "limit", "shard", "workers", "engine", "from_")
"""Settings that say how much of a run is grown, and where."""


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
        spec = ModelSpec.parse(text)
        if spec.address:
            return cls(name=cls.parse(spec.known_as).name, model=text)
        name, model = split_candidate(text)
        if name is not None:
            return cls(name=name, model=model)
        tail = text.partition("?")[0].rstrip("/").rpartition("/")[2] or text
        visible = "".join(sign if sign.isprintable() else "-" for sign in tail.rpartition(":")[2] or tail)
        return cls(name=re.sub(r"[\s/+|]", "-", visible), model=text)


class RunSettings(EngineSettings):
    """What a simulation and an evaluation have in common."""

    turns: Annotated[int, Option()] = Field(default=10, ge=1, le=1000, description="Turns of each conversation.")
    user: Annotated[str | tuple[str, ...], Option("MODEL")] = Field(
        default="world:user", description="Who plays the persona."
    )
    candidate: Annotated[tuple[CandidateSpec, ...], Option("[NAME=]MODEL", several=True)] = Field(
        description="Who answers. Repeat it for several."
    )
    judge: Annotated[str | tuple[str, ...], Option("MODEL", several=True)] = Field(
        default="world:judge", description="Who judges. Repeat it for a panel."
    )
    aspects: Annotated[bool, Option()] = Field(
        default=False,
        exclude_if=lambda asked: not asked,
        description="Have content, style and engagement scored beside the whole, in one call.",
    )
    seed: Annotated[int, Option()] = Field(default=0, description="Seed of every random choice.")
    prompts: Annotated[str | None, Option("DIR")] = Field(
        default=None, description="Folder of your own prompts, each in place of the one of its name."
    )
    rubric: Annotated[str | None, Option("FILE")] = Field(
        default=None, description="Text with the judge's criteria, in place of the built-in ones."
    )
    system: Annotated[str | None, Option("TEXT|@FILE")] = Field(
        default=None, description="System message of the candidate's requests, and of exported rows."
    )
    """`@@` begins a text that itself begins with `@`."""
    shard: Annotated[Shard | None, Option("I/N")] = Field(
        default=None, description="Only the I-th of N parts of the run, I from 1, in a file of its own; see merge."
    )
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
        return _one_or_several_models(value, "a list of them for a panel", "a judge has one vote in a panel")

    @property
    def users(self) -> tuple[str, ...]:
        """Who plays the persona, in order; several only in an evaluation."""
        return (self.user,) if isinstance(self.user, str) else self.user

    @property
    def judges(self) -> tuple[str, ...]:
        """The judges by name, in order; several are a panel."""
        return (self.judge,) if isinstance(self.judge, str) else self.judge

    @field_validator("prompts", "rubric", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    @field_validator("shard", mode="before")
    @classmethod
    def _parse_shard(cls, value: object) -> object:
        return value if value is None or isinstance(value, Shard) else Shard.parse(value)

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

    user: Annotated[str, Option("MODEL")] = Field(default="world:user", description="Who plays the persona.")
    personas: Annotated[str, Option("FILE|people|world")] = Field(
        default="world", description="Persona file, the shipped pool, or the embedded world."
    )
    trees: Annotated[int, Option()] = Field(
        default=10, ge=1, description="Trees to grow; more on an existing run extend it."
    )
    from_: Annotated[str | None, Option("TREE:NODE", "--from")] = Field(
        default=None, description="Branch a stored conversation: every tree begins with it, down to this message."
    )
    """`from` in a YAML file."""
    branch: Annotated[int, Option()] = Field(
        default=2, ge=1, le=64, description="Replies per turn, the hinted one included."
    )
    policy: Annotated[str, Option("|".join(POLICIES.built_in))] = Field(
        default="caterpillar", description="Which replies are continued."
    )
    inducer: Annotated[str, Option("MODEL")] = Field(
        default="world:inducer", description="Who takes notes; `none` for no notes and no hints."
    )
    candidate: Annotated[tuple[CandidateSpec, ...], Option("[NAME=]MODEL", several=True)] = Field(
        default=(CandidateSpec(name="average", model="world:average"),),
        description="Who answers. Repeat it for several.",
    )
    judging: Annotated[Judging, Option()] = Field(default="compare", description="What the judge is asked.")

    @field_validator("policy")
    @classmethod
    def _known_policy(cls, value: str) -> str:
        try:
            POLICIES.target(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _aspects_are_scored(self) -> Self:
        if self.aspects and self.judging != "score":
            raise ValueError(f"--aspects are scores, and the judge is to {self.judging}; add --judging score")
        return self

    @model_validator(mode="after")
    def _list_is_no_longer_than_the_alphabet(self) -> Self:
        name, _, most = self.policy.partition(":")
        replies = int(most or MOST_REPLIES) if name == "adaptive" else self.branch
        if self.judging == "list" and replies > max(MOST_LISTED, self.branch):
            raise ValueError(
                f"--judging list shows a turn's replies as A to Z, and policy {self.policy} makes more; use at most "
                f"adaptive:{MOST_LISTED}, or another --judging"
            )
        if self.judging == "list" and self.branch > MOST_LISTED:
            raise ValueError(
                f"--judging list shows a turn's replies as A to Z, and --branch {self.branch} makes more; use at most "
                f"{MOST_LISTED}, or another --judging"
            )
        return self

    @model_validator(mode="after")
    def _branches_are_whole(self) -> Self:
        if self.from_ is not None and self.shard is not None:
            raise ValueError("--from branches within one run file; leave --shard out")
        return self

    @model_validator(mode="after")
    def _adaptive_can_add_replies(self) -> Self:
        name, _, most = self.policy.partition(":")
        if name == "adaptive" and self.branch < 2:
            raise ValueError("policy adaptive needs two replies to compare; use --branch 2 or more")
        if name == "adaptive" and self.branch >= int(most or MOST_REPLIES):
            raise ValueError(
                f"policy {self.policy} adds replies up to {most or MOST_REPLIES} a turn, and --branch {self.branch} "
                f"begins with as many; use adaptive:{self.branch + 1} or more, or a smaller --branch"
            )
        return self

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

    user: Annotated[str | tuple[str, ...], Option("MODEL", several=True)] = Field(
        default="world:user",
        description="Who plays the persona. Repeat it to see whether the ranking stands under another one.",
    )
    cases: Annotated[str, Option("FILE|aloe|world")] = Field(
        default="world",
        description="Personas to be met; `aloe`, and `world` in its way: 20 held-out profiles x 5 personalities.",
    )
    limit: Annotated[int | None, Option()] = Field(default=None, ge=1, description="Only the first N cases.")
    repeats: Annotated[int, Option()] = Field(
        default=1, ge=1, description="Conversations of each candidate with each case, each with chance of its own."
    )

    @field_validator("user", mode="before")
    @classmethod
    def _one_user_or_several(cls, value: object) -> object:
        return _one_or_several_models(value, "a list of them", "each user is met once")


def _one_or_several_models(value: object, several: str, once: str) -> object:
    """A model's name, or several names as a tuple; `several` and `once` say in a refusal what was expected, and why."""
    named = value if isinstance(value, list | tuple) else [value]
    if not named or not all(isinstance(name, str) for name in named):
        raise ValueError(f"expected the name of a model, or {several}, got {value!r}")
    if twice := [name for name, times in Counter(named).items() if times > 1]:
        raise ValueError(f"{twice[0]} is named twice; {once}")
    return named[0] if len(named) == 1 else tuple(named)


def split_candidate(text: str) -> tuple[str | None, str]:
    """`NAME=MODEL` as both, a bare model with None."""
    # A model's own query (`world:judge?noise=0.2`) also holds a `=`, but only after a `:`.
    name, sign, model = text.partition("=")
    return (name, model) if sign and ":" not in name else (None, text)


def identity_of(settings: RunSettings, **more: JsonValue) -> dict[str, JsonValue]:
    """Every setting that must not change once a run has begun, as plain JSON. More trees extend a run.

    An end mark is named only where there is one, and repeats only where there are any: runs of versions that had none
    go on. Prompts, rubric and system
    message count by what they say, not by where it was read: `PromptSet.identity`, handed in as `more`.
    """
    left_out = {*CARRIED_OUT, *WORDING} | ({"end_mark"} if settings.end_mark is None else set())
    if isinstance(settings, EvaluationSettings) and settings.repeats == 1:
        left_out.add("repeats")
    return {**settings.model_dump(mode="json", exclude=left_out), **more}


def models_of(settings: RunSettings) -> tuple[str, ...]:
    """The names of all models and plug-ins in the seats of a run, each once."""
    inducer = [settings.inducer] if isinstance(settings, SimulationSettings) and settings.inducer != "none" else []
    candidates = [candidate.model for candidate in settings.candidate]
    return tuple(dict.fromkeys([*settings.users, *inducer, *candidates, *settings.judges]))
