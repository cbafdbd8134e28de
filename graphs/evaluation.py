"""Measuring a model: the same graphs with one candidate, no hint and a scoring judge (paper, ALOE evaluation)."""

from collections.abc import Mapping, Sequence

from interalign.agents.protocols import Candidate, Hook, Judge, UserRole
from interalign.config import HookPoint
from interalign.graphs.turn import Seats


def evaluation_seats(
    user: UserRole,
    name: str,
    candidate: Candidate,
    judges: Mapping[str, Judge],
    hooks: Mapping[HookPoint, Sequence[tuple[str, Hook]]],
    system: str | None = None,
    *,
    aspects: bool = False,
) -> Seats:
    """The seats of an evaluation. With one reply a turn every branching policy grows the same single path."""
    return Seats(
        user=user,
        candidates={name: candidate},
        judges=judges,
        judging="score",
        aspects=aspects,
        branch=1,
        hooks=hooks,
        system=system,
    )
