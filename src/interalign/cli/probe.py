"""`interalign roles probe`: its table, or JSON."""

import json
from collections.abc import Iterator, Sequence

from interalign.run.probe import LIMITS, SeatFigures


def probe_lines(spec: str, seats: Sequence[SeatFigures]) -> Iterator[str]:
    """One line a figure, with its limit, and the verdict under each seat."""
    for seat in seats:
        yield f"{seat.seat} ({seat.n} answers)"
        for name, value in seat.figures.items():
            how, limit = LIMITS.get(name, ("", 0.0))
            yield f"  {name:32}{'-' if value is None else f'{value:.0%}':>6}{f'   {how} {limit:.0%}' if how else ''}"
        yield f"  {spec} {seat.verdict}"


def probe_json(spec: str, seats: Sequence[SeatFigures]) -> str:
    """The same as JSON text."""
    found = {
        seat.seat: {"n": seat.n, "figures": seat.figures, "misses": list(seat.misses), "verdict": seat.verdict}
        for seat in seats
    }
    return json.dumps({"model": spec, "seats": found}, indent=2)
