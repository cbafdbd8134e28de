"""Sharding: which trees of a run one process grows, so that several share a run without talking to each other."""

import re
from dataclasses import dataclass
from typing import Self

_MOST = 1_000_000


@dataclass(frozen=True)
class Shard:
    """The `number`-th, from 1, of `of` parts of a run.

    Places are assigned round-robin: more trees extend every shard and move none to another.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, given: object) -> Self:
        """`I/N`, such as `2/4`; ValueError that says what is wrong."""
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", given) if isinstance(given, str) else None
        if found is None:
            raise ValueError(f"expected I/N, the I-th of N shards counted from 1, such as 2/4; got {given!r}")
        number, of = int(found[1]), int(found[2])
        if not 1 <= of <= _MOST:
            raise ValueError(f"{given}: a run has 1 to {_MOST:,} shards")
        if not 1 <= number <= of:
            raise ValueError(f"{given}: shards count from 1, so the shards of {of} are 1/{of} to {of}/{of}")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def places(shard: Shard | None, end: int) -> range:
    """The places of a shard among `end` of them, counted from 0; of no shard all."""
    return range(end) if shard is None else range(shard.number - 1, end, shard.of)
