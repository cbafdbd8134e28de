"""The settings as typed keyword arguments of `ia.simulate` and `ia.evaluate`: what an editor completes.

One line a field. A type here is what the field can be read from, so wider than what it then is: no type checker could
derive it. A test holds that there is a keyword for every setting, and that it takes whatever the field holds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from interalign.config.parameters import Parameters, SeatParameters
from interalign.config.runtime import Price, ServerSettings
from interalign.config.settings import CandidateSpec, HookPoint, Judging
from interalign.shard import Shard

_Candidate = str | CandidateSpec | Mapping[str, str]


class RuntimeKeywords(TypedDict, total=False):
    """Fields of Runtime."""

    base_url: str | Sequence[str] | None
    servers: Mapping[str, ServerSettings | Mapping[str, Any]] | Sequence[tuple[str, ServerSettings]]
    concurrency: int
    deadline: float
    max_usd: float | None
    max_tokens: int | None
    budget: str | Path | None
    prices: str | Path | Mapping[str, Price | Mapping[str, float]] | Sequence[tuple[str, Price]]
    """A price table, or the file that holds it."""


class EngineKeywords(RuntimeKeywords, total=False):
    """Fields of EngineSettings and Runtime."""

    workers: int
    engine: str


class RunKeywords(EngineKeywords, total=False):
    """Fields of RunSettings and Runtime."""

    turns: int
    user: str | Sequence[str]
    candidate: _Candidate | Sequence[_Candidate]
    judge: str | Sequence[str]
    aspects: bool
    seed: int
    prompts: str | Path | None
    rubric: str | Path | None
    system: str | None
    shard: str | Shard | None
    end_mark: str | None
    parameters: SeatParameters | Mapping[str, Parameters | Mapping[str, Any]]
    hooks: Mapping[HookPoint, Sequence[str]]


class SimulationKeywords(RunKeywords, total=False):
    """Fields of SimulationSettings and Runtime."""

    personas: str
    trees: int
    from_: str | None
    branch: int
    policy: str
    inducer: str
    judging: Judging


class EvaluationKeywords(RunKeywords, total=False):
    """Fields of EvaluationSettings and Runtime."""

    cases: str
    limit: int | None
    repeats: int
