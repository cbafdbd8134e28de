"""Judges that cannot be read, `mendable_judges:NAME`; one of them can, once the file MENDED is there."""

from collections.abc import Sequence
from pathlib import Path

import interalign as ia
from interalign.records import Reply


def _mended() -> bool:
    return Path("MENDED").exists()


class Mendable:
    """A chat model that judges, and rambles as long as it is not mended."""

    name = "mendable"

    async def __call__(self, messages: Sequence[ia.Message], parameters: ia.Parameters, seed: int) -> Reply:
        asked = "Score: N" if "`Score: N`" in messages[-1].content else "Verdict: A"
        said = asked.replace("N", "4") if _mended() else "Both are lovely."
        return Reply(text=said, model=self.name)


model = Mendable()


class ReadsTheTwentieth:
    """A plug-in judge whose 20th answer is the first that can be read."""

    def __init__(self) -> None:
        self._asked = 0

    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        self._asked += 1
        return ia.ChoiceOpinion(value="A" if self._asked == 20 else None, replies=("Hm.",))


class Silent:
    """A plug-in judge that says nothing at all and owns up to it."""

    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        return ia.ChoiceOpinion(value=None, replies=())
