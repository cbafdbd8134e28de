"""Sampling settings of the seats."""

import json
from typing import Any, Literal

from pydantic import Field, field_validator

from interalign.tree import Frozen

_OURS = ("model", "messages", "stream")
"""Fields of a request that the run itself writes."""


def _is_unset(value: object) -> bool:
    return value is None


class Parameters(Frozen):
    """Sampling settings of one seat. None leaves the choice to the provider."""

    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    # Left out where they are not set, so that runs and calls from before there were any are found.
    top_k: int | None = Field(default=None, ge=1, exclude_if=_is_unset)
    """Only so many of the likeliest tokens."""
    min_p: float | None = Field(default=None, ge=0, le=1, exclude_if=_is_unset)
    """Only tokens at least so likely, as a share of the likeliest one's probability."""
    repetition_penalty: float | None = Field(default=None, gt=0, allow_inf_nan=False, exclude_if=_is_unset)
    """Above 1: tokens that the prompt or the reply has already become less likely."""
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
