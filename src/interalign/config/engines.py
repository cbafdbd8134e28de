"""Where the trees of a run are worked on: `--engine local`, `ray` or `ray://HOST:PORT`. No part of what a run is."""

import re
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final

from pydantic import Field, field_validator

from interalign.config.option import Option
from interalign.errors import ConfigError, did_you_mean
from interalign.tree import Frozen

LOCAL: Final = "local"
_RAY: Final = "ray"
_FIRST_RAY: Final = (2, 52)
"""The first with token authentication."""
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_INSTALL: Final = "pip install 'interalign[scale]'"


class EngineSettings(Frozen):
    """Which processes share the work on the trees of a run. They change nothing of what comes out."""

    workers: Annotated[int, Option()] = Field(
        default=1, ge=1, le=256, description="Processes on this machine that share the trees, to use all its cores."
    )
    engine: Annotated[str, Option("local|ray[://ADDRESS]")] = Field(
        default=LOCAL, description="Where trees are worked on: this machine, or Ray, on --workers CPUs or all."
    )

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        try:
            check_engine(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def is_shared(self) -> bool:
        """Other processes are to do the work."""
        return self.workers > 1 or self.engine != LOCAL

    @property
    def asked_workers(self) -> int | None:
        """How many processes were asked for; None if none were."""
        return self.workers if "workers" in self.model_fields_set else None


def check_engine(engine: str) -> None:
    """Raises ConfigError if there is no such engine, or if it needs a library that is not there."""
    scheme, sign, address = engine.partition("://")
    if engine == LOCAL:
        return
    if scheme != _RAY:
        near = did_you_mean(scheme, (LOCAL, _RAY))
        raise ConfigError(f"no engine {engine!r}: there are local, ray and ray://HOST:PORT{near}")
    if sign and not _ADDRESS.fullmatch(address):
        raise ConfigError(
            f"{engine!r}: expected the address of a Ray Client server, such as ray://10.0.0.1:10001; `ray` alone is "
            "this machine, or the cluster that RAY_ADDRESS names"
        )
    _refuse_missing_ray()


def ray_address(engine: str) -> str | None:
    """The address as Ray takes it; None to start Ray on this machine, or to join what RAY_ADDRESS names."""
    return engine if "://" in engine else None


def _refuse_missing_ray() -> None:
    try:
        found = version("ray")
    except PackageNotFoundError:
        raise ConfigError(f"Ray is not installed: {_INSTALL}") from None
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < _FIRST_RAY:
        least = ".".join(map(str, _FIRST_RAY))
        raise ConfigError(f"Ray {found} is too old, {least} is the first that will do: {_INSTALL}")
