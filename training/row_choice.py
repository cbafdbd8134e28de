"""Which rows of a file are trained on: none of held-out personas, and not too many of one persona."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from interalign.errors import ConfigError, DataError
from interalign.people.held_out import is_held_out
from interalign.training.data_card import Origin, origin_of
from interalign.training.rows import TrainingRow

_INSTEAD = "export a simulation with other personas, and keep these to measure models by"


def refuse_held_out(rows: Sequence[TrainingRow], data: Path) -> None:
    """ConfigError if the rows, or the data card beside them, say that they are about held-out personas."""
    origin = origin_of(data) or Origin()
    if origin.kind == "evaluation":
        raise ConfigError(
            f"{data}: its data card says that the rows are from an evaluation of held-out cases; {_INSTEAD}"
        )
    if origin.held_out:
        raise ConfigError(f"{data}: its data card counts {origin.held_out} trees about held-out personas; {_INSTEAD}")
    found = [row for row in rows if row.persona is not None and is_held_out(row.persona)]
    if found:
        first = found[0]
        raise DataError(
            f"{data}, {first.unit} {first.number}: persona {first.persona!r} is held out ({len(found)} such rows); "
            f"{_INSTEAD}"
        )


def at_most(rows: Sequence[TrainingRow], most: int, data: Path) -> list[TrainingRow]:
    """At most so many rows a persona, evenly apart among its rows, all in the order of the file.

    DataError for a row that does not say its persona.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        if row.persona is None:
            raise DataError(
                f"{data}, {row.unit} {row.number}: does not say its persona, which max_per_persona counts by; rows of "
                "`--format dpo`, `grpo` and `user` do"
            )
        places[row.persona].append(place)
    kept = {own[place] for own in places.values() for place in _evenly(len(own), most)}
    return [row for place, row in enumerate(rows) if place in kept]


def _evenly(count: int, most: int) -> range | list[int]:
    """At most so many places out of `count`, evenly apart."""
    return range(count) if count <= most else [count * k // most for k in range(most)]
