"""When a run will be done, as far as its own calls tell. Pure: numbers in, words out."""

from dataclasses import dataclass

from interalign.store.tree_list import CallPace

_STILL = 600.0
"""Seconds without a reply after which a run is taken as stopped: a slow model may take minutes for one."""


@dataclass(frozen=True)
class GrowingRun:
    """How a run that has trees to go stands."""

    rate: float
    """Replies a minute, lately."""
    since: float
    """Seconds since the last reply."""
    remaining: float | None
    """Seconds to go at this rate; None while no tree is done, or once no reply comes any more."""

    @property
    def is_growing(self) -> bool:
        """Replies still come."""
        return self.since < _STILL

    def __str__(self) -> str:
        """One line."""
        if not self.is_growing:
            return f"no reply for {duration(self.since)}: the same command goes on"
        ahead = (
            "no tree is done yet to tell by" if self.remaining is None else f"about {duration(self.remaining)} to go"
        )
        return f"{self.rate:,.0f} replies a minute, the last {duration(self.since)} ago; {ahead}"


def growth(pace: CallPace | None, *, now: float, calls: int, ended: int, planned: int) -> GrowingRun | None:
    """How a run with so many calls, ended trees and trees to go stands; None if it has no call or nothing to go.

    What is to go: the calls of the trees done lately, for each tree that has not ended, less what those have already.
    """
    if pace is None or not planned:
        return None
    seconds = max(pace.last - pace.first, 1e-3)
    rate = pace.calls / seconds
    since = max(0.0, now - pace.last)
    if pace.a_tree is None or since >= _STILL:
        return GrowingRun(60 * rate, since, None)
    begun = max(0.0, calls - pace.a_tree * ended)
    left = max(pace.a_tree * planned - begun, 0.0)
    return GrowingRun(60 * rate, since, left / rate)


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
