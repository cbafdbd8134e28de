"""From the names of models in a run's settings to the bare ones it is known by; how each is reached or run."""

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from interalign.config.runtime import Runtime
from interalign.config.settings import RunSettings, SimulationSettings
from interalign.errors import ConfigError
from interalign.model_spec import ENGINE_OPTIONS, ModelSpec

R = TypeVar("R", bound=RunSettings)


def as_runtime(found: Iterable[ModelSpec]) -> dict[str, tuple[tuple[str, str], ...]]:
    """How models are reached or run, by name, as fields of a Runtime."""
    given = list(found)
    return {
        "addresses": tuple((spec.known_as, spec.address or "") for spec in given if spec.scheme == "openai"),
        "engines": tuple((spec.known_as, spec.engine) for spec in given if spec.engine),
    }


def with_addresses(settings: R, runtime: Runtime) -> tuple[R, Runtime]:
    """The same settings with bare model names, which are what a run is known by; addresses and engines in the runtime.

    Raises ConfigError if one name is given two: which one answers would be an accident.
    """
    found: dict[str, ModelSpec] = {}

    def bare(text: str) -> str:
        spec = ModelSpec.parse(text)
        if found.setdefault(spec.known_as, spec) != spec:
            raise ConfigError(_given_two(spec))
        return spec.known_as

    judges = tuple(map(bare, settings.judges))
    if len(set(judges)) < len(judges):
        raise ConfigError(f"--judge: {Counter(judges).most_common(1)[0][0]} is named twice; a judge has one vote")
    users = tuple(map(bare, settings.users))
    if len(set(users)) < len(users):
        raise ConfigError(f"--user: {Counter(users).most_common(1)[0][0]} is named twice; each user is met once")
    seats: dict[str, object] = {"user": _alone(users), "judge": _alone(judges)}
    if isinstance(settings, SimulationSettings):
        seats["inducer"] = bare(settings.inducer)
    candidates = tuple(spec.model_copy(update={"model": bare(spec.model)}) for spec in settings.candidate)
    return (
        settings.model_copy(update={**seats, "candidate": candidates}),
        runtime.model_copy(update=as_runtime(found.values())),
    )


def _alone(names: tuple[str, ...]) -> str | tuple[str, ...]:
    return names[0] if len(names) == 1 else names


def _given_two(spec: ModelSpec) -> str:
    if spec.scheme == "hf":
        return f"{spec.known_as} is given two sets of {', '.join(ENGINE_OPTIONS)}; give it the same in every seat"
    return f"{spec.known_as} is asked for at two addresses; serve it under two names, or at --base-url only"
