"""Settings of `interalign rounds`: what each round simulates, how it trains, on whom it measures."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from interalign.config.option import Option
from interalign.config.settings import CandidateSpec, Judging, SimulationSettings
from interalign.errors import ConfigError
from interalign.model_spec import ModelSpec
from interalign.registries import METHODS

POLICY = "policy"
"""What the candidate is called in the runs of all rounds."""


class RoundsSettings(SimulationSettings):
    """Everything that decides what `interalign rounds` comes to. The simulation's own settings are those of a round."""

    model: Annotated[str, Option("FOLDER|ID")] = Field(
        min_length=1, description="The model to begin with, `?dtype=...` and the like behind it for serving."
    )
    rounds: Annotated[int, Option()] = Field(default=4, ge=1, description="Rounds at most; more extend it.")
    patience: Annotated[int, Option()] = Field(
        default=1, ge=1, description="Stop after so many rounds in a row without a rise on held-out cases."
    )
    method: Annotated[str, Option("dpo|sft|kto|grpo")] = Field(
        default="dpo",
        description="How to train: dpo on pairs of own replies, sft on the preferred ones, grpo from the same states.",
    )
    train_config: Annotated[str | None, Option("FILE.yaml")] = Field(
        default=None, description="TRL's own settings, as `train --config` takes them."
    )
    cases: Annotated[str, Option("FILE|aloe|world")] = Field(
        default="world", description="Held-out personas that every round is measured on."
    )
    limit: Annotated[int | None, Option()] = Field(default=None, ge=1, description="Only the first N cases.")
    trees: Annotated[int, Option()] = Field(default=64, ge=1, description="Trees to grow in each round.")
    branch: Annotated[int, Option()] = Field(
        default=4, ge=2, le=64, description="Replies that the model makes at each turn."
    )
    policy: Annotated[str, Option("NAME")] = Field(default="beam:1", description="Which replies are continued.")
    judging: Annotated[Judging, Option()] = Field(default="score", description="What the judge is asked.")
    inducer: Annotated[str, Option("MODEL")] = Field(default="none", description="Who takes notes; `none`: no hints.")
    candidate: tuple[CandidateSpec, ...] = (CandidateSpec(name=POLICY, model="hf:model"),)
    """Not to be given: the candidate of a round is the model that the round before has trained."""

    from_: Literal[None] = None
    """Not to be given: a round grows its own trees."""

    shard: Literal[None] = None
    """Not to be given: a round trains on all of its trees."""

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        try:
            METHODS.target(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="before")
    @classmethod
    def _begins_with_the_model(cls, value: object) -> object:
        if not isinstance(value, Mapping) or not isinstance(value.get("model"), str):
            return value
        if "candidate" in value:
            raise ValueError("candidate cannot be set: it is the model of the round before, in the first one --model")
        return {**value, "candidate": (CandidateSpec(name=POLICY, model=as_hf(value["model"])),)}


def as_hf(model: str) -> str:
    """The model's name with `hf:` before it."""
    return model if ModelSpec.parse(model).scheme == "hf" else f"hf:{model}"
