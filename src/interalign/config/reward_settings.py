"""Settings of a judge that scores what a training samples."""

from typing import Annotated

from pydantic import Field

from interalign.config.option import Option
from interalign.tree import Frozen


class RewardSettings(Frozen):
    """Who scores, and for whom: `interalign train grpo`."""

    judge: Annotated[tuple[str, ...], Option("MODEL", several=True)] = Field(
        default=(), description="grpo: who scores the replies. Repeat it for a panel."
    )
    personas: Annotated[str | None, Option("RUN.db|FILE.jsonl", default="the run file that the data card names")] = (
        Field(default=None, description="grpo: where the personas of the rows are found by their ids.")
    )
    lookahead: Annotated[int, Option()] = Field(
        default=0, ge=0, description="grpo: further turns, with the simulated user, that count for a reply."
    )
    user: Annotated[str | None, Option("MODEL")] = Field(
        default=None, description="grpo: who plays the persona in these turns."
    )
    prompts: Annotated[str | None, Option("DIR")] = Field(
        default=None, description="grpo: folder of your own prompts, each in place of the one of its name."
    )
    rubric: Annotated[str | None, Option("FILE")] = Field(
        default=None, description="grpo: text with the judge's criteria, in place of the built-in ones."
    )
    seed: Annotated[int, Option()] = Field(default=0, description="grpo: seed of the judge's calls.")
