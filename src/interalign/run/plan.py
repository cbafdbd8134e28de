"""The trees of a run before they are grown: which there are, and which of them, and of the personas, a shard has."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from math import lcm
from typing import Protocol

from interalign.config import EvaluationSettings, SimulationSettings
from interalign.errors import ConfigError
from interalign.personas import Persona
from interalign.records import TreeRecord, case_under, simulated_tree, split_case
from interalign.shard import Shard, places

_REPEAT = re.compile(r"#\d+\Z")


class Plan(Protocol):
    """What a run of its kind is to grow. A shard None is the whole run."""

    personas: Sequence[Persona]
    """All that are met in the whole run."""
    size: int
    """Trees of the whole run."""

    def trees(self, shard: Shard | None) -> Iterator[TreeRecord]:
        """The shard's trees, by index. More trees or cases only append."""
        ...

    def met(self, shard: Shard | None) -> Iterable[Persona]:
        """The personas of these trees, in the order in which they are first met."""
        ...

    def planned(self, trees: int, branches: Collection[str]) -> int:
        """How many of the file's trees belong to the plan; `branches` were branched off others."""
        ...


class SimulationPlan:
    """Tree i is about persona i modulo their number; a shard has every N-th tree."""

    def __init__(self, settings: SimulationSettings, personas: Sequence[Persona]) -> None:
        self.personas = personas if len(personas) <= settings.trees else personas[: settings.trees]
        self.size = settings.trees
        self._seed = settings.seed

    def trees(self, shard: Shard | None) -> Iterator[TreeRecord]:
        """The shard's trees, by index."""
        for index in places(shard, self.size):
            persona = self.personas[index % len(self.personas)]
            yield TreeRecord(id=simulated_tree(index), index=index, persona=persona.id, seed=self._seed)

    def met(self, shard: Shard | None) -> Iterable[Persona]:
        """The personas of these trees."""
        if shard is None:
            return self.personas
        every = len(self.personas)
        again = lcm(every, shard.of)  # from this tree on the shard's personas are met again
        return (self.personas[index % every] for index in places(shard, min(self.size, again)))

    def planned(self, trees: int, branches: Collection[str]) -> int:
        """All trees but the branches."""
        return trees - len(branches)


class EvaluationPlan:
    """Case by case, so that a longer list of cases only appends; a shard has every N-th case, of all candidates.

    A repeat of a case is a case of its own with the same persona, `CASE#2` and so on: all candidates meet it with the
    same chance, and other chance than the case itself. So is a case under a further user, `CASE@2` and so on.
    """

    def __init__(self, settings: EvaluationSettings, cases: Sequence[Persona]) -> None:
        self.personas = cases[: settings.limit]
        self._candidates = [candidate.name for candidate in settings.candidate]
        self._repeats = settings.repeats
        self._users = len(settings.users)
        self.size = len(self.personas) * self._repeats * self._users * len(self._candidates)
        self._seed = settings.seed
        if self._repeats > 1 and (clash := next((each.id for each in self.personas if _REPEAT.search(each.id)), None)):
            raise ConfigError(f"case {clash!r} has the name of a repeat; rename it, or leave --repeats out")
        if clash := next((each.id for each in self.personas if split_case(each.id, self._users)[1] > 1), None):
            raise ConfigError(
                f"case {clash!r} has the name of a case under another user; rename it, or name one --user"
            )

    def trees(self, shard: Shard | None) -> Iterator[TreeRecord]:
        """The shard's trees, by index."""
        for place in places(shard, len(self.personas)):
            persona = self.personas[place].id
            for again, case in enumerate(self._met_as(persona), start=place * self._repeats * self._users):
                for index, name in enumerate(self._candidates, start=again * len(self._candidates)):
                    yield TreeRecord(
                        id=f"{name}/{case}", index=index, persona=persona, seed=self._seed, candidate=name, case=case
                    )

    def _met_as(self, persona: str) -> Iterator[str]:
        """The cases in which a persona is met."""
        for repeat in range(self._repeats):
            case = persona if repeat == 0 else f"{persona}#{repeat + 1}"
            yield from (case_under(case, number) for number in range(1, self._users + 1))

    def met(self, shard: Shard | None) -> Iterable[Persona]:
        """The personas of these trees."""
        if shard is None:
            return self.personas
        return (self.personas[place] for place in places(shard, len(self.personas)))

    def planned(self, trees: int, branches: Collection[str]) -> int:
        """All of them: an evaluation has no branches."""
        return trees
