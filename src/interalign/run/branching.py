"""`simulate --from TREE:NODE`: trees that begin with a stored conversation, down to one of its messages.

A branch is a tree of its own, so that nothing on record changes: it is planned, grown, resumed and judged like any
other. Its first messages are copies, with the ids they had; its name says where it begins, and so does an annotation.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from interalign.agents.protocols import Said, UserAsk, UserRole
from interalign.config import SimulationSettings
from interalign.errors import ConfigError, did_you_mean
from interalign.graphs.tree import Start
from interalign.graphs.turn import Seats
from interalign.people.source import persona_source
from interalign.personas import Persona
from interalign.records import TreeRecord
from interalign.run.plan import Plan, SimulationPlan
from interalign.shard import Shard
from interalign.store import Store
from interalign.store.branches import BRANCH, BRANCHER, branch_name
from interalign.tree import JudgedTree, Node


class BranchPoint(NamedTuple):
    """The message from which trees are to be grown."""

    spec: str
    """`TREE:NODE`."""
    path: tuple[Node, ...]
    """The messages down to it, itself included."""
    system: str | None
    """The system message of the conversation."""
    persona: Persona | None
    """Whom the conversation was with; None if that is not known."""
    source: str | None
    """Where the personas of the run that holds it come from; None for an import, or an evaluation."""
    origin: JsonValue
    """Run, tree and node, for the record."""

    @property
    def node(self) -> Node:
        """The message itself."""
        return self.path[-1]

    @property
    def first_turn(self) -> int:
        """The first turn that is grown."""
        return self.node.turn + (self.node.role == "assistant")


def find_branch_point(run: Path, spec: str) -> BranchPoint:
    """The stored message of this name, which may have been branched here before; ConfigError if there is none."""
    tree, sign, node = spec.rpartition(":")
    if not sign or not tree or not node:
        raise ConfigError(
            f"--from {spec}: expected TREE:NODE, such as t00000:1/2; the page of a tree in `interalign view` has both"
        )
    with Store.open(run) as store:
        store.refuse_personas("simulate --from")
        judged = store.judged_tree(tree) or store.judged_tree(branch_name(spec, 0))
        if judged is None:
            ids = [record.id for record in store.trees(most=1000)]
            raise ConfigError(f"--from {spec}: {run} has no message of a tree {tree!r}{did_you_mean(tree, ids)}")
        path, persona, origin = _path(spec, judged, node), _persona(store, judged), _origin(judged, tree, node)
        return BranchPoint(spec, path, judged.tree.system, persona, _source(store), origin)


def _path(spec: str, judged: JudgedTree, node: str) -> tuple[Node, ...]:
    try:
        return judged.tree.path(node)
    except KeyError:
        ids = [each.id for each in judged.tree.nodes]
        raise ConfigError(
            f"--from {spec}: the tree {judged.tree.id} has no message {node!r}{did_you_mean(node, ids)}"
        ) from None


def _origin(judged: JudgedTree, tree: str, node: str) -> JsonValue:
    """Where the message stands; of one that is known from a branch of it alone, as in a fork, what is noted there."""
    noted = (note.value for note in judged.annotations if (note.name, note.by) == (BRANCH, BRANCHER))
    here: JsonValue = {"run": judged.tree.run, "tree": tree, "node": node}
    return here if judged.tree.id == tree else next(noted, here)


def _persona(store: Store, judged: JudgedTree) -> Persona | None:
    try:
        return store.persona(judged.tree.persona)
    except KeyError:
        return None


def _source(store: Store) -> str | None:
    run = store.run
    return run.begun_with.personas if run is not None and run.kind == "simulation" else None


class BranchPlan:
    """Branch i is about persona i modulo their number; all of them begin at one message."""

    def __init__(self, point: BranchPoint, personas: Sequence[Persona], trees: int, seed: int) -> None:
        self.personas = personas[:trees]
        self.size = trees
        self.point = point
        self._seed = seed

    def trees(self, shard: Shard | None) -> Iterator[TreeRecord]:
        """The branches, by number."""
        for number in range(self.size):
            persona = self.personas[number % len(self.personas)]
            yield TreeRecord(id=branch_name(self.point.spec, number), index=number, persona=persona.id, seed=self._seed)

    def met(self, shard: Shard | None) -> Iterable[Persona]:
        """The personas of the branches."""
        return self.personas

    def planned(self, trees: int, branches: Collection[str]) -> int:
        """How many branches from this message there are already."""
        first = branch_name(self.point.spec)
        return sum(tree.startswith(first) for tree in branches)


def refuse_no_turn(point: BranchPoint, turns: int) -> None:
    """ConfigError if the conversation down to the message has all of its turns."""
    if point.first_turn > turns:
        raise ConfigError(
            f"--from {point.spec}: the conversation has {point.node.turn} turns by then, and --turns {turns} counts "
            f"from its beginning; give --turns {point.first_turn} or more"
        )


def simulation_plan(run: Path, settings: SimulationSettings, personas: Sequence[Persona]) -> tuple[Plan, str]:
    """The trees to grow, and where their personas come from.

    Branches are about the persona of the conversation, unless others are given, or it is not known.
    """
    given = persona_source(settings.personas, personas)
    if settings.from_ is None:
        return SimulationPlan(settings, personas), given
    point = find_branch_point(run, settings.from_)
    refuse_no_turn(point, settings.turns)
    chosen = "personas" in settings.model_fields_set
    if point.persona is None and not chosen:
        raise ConfigError(f"--from {point.spec}: the persona of this conversation is not known; give --personas")
    own = point.persona if point.persona is not None and (not chosen or point.persona in personas) else None
    met = personas if own is None else [own]
    source = given if chosen else point.source or persona_source("", met)
    return BranchPlan(point, met, settings.trees, settings.seed), source


def branched_seats(seats: Seats, path: Sequence[Node], system: str | None) -> tuple[Seats, Start]:
    """The seats of a branch with these messages before it, and where it goes on.

    Candidates see the system message of the conversation. Where the path ends with the user's words, they answer these.
    """
    asked = path[-1].role == "user"
    before = path[:-1] if asked else path
    user = RecordedFirst(path[-1].turn, path[-1].text, seats.user) if asked else seats.user
    start = Start(before[-1] if before else None, tuple(node.message for node in before))
    return replace(seats, user=user, system=system), start


class RecordedFirst:
    """A user agent whose message in one turn is on record, and which another one plays after that."""

    def __init__(self, turn: int, words: str, after: UserRole) -> None:
        self._turn = turn
        self._words = words
        self._after = after

    async def __call__(self, ask: UserAsk) -> Said:
        """The user's message of this turn."""
        return Said(text=self._words) if ask.turn == self._turn else await self._after(ask)
