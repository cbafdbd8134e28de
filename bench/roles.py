"""Prompts beside each other: how one model plays every seat with the shipped prompts and with others.

    python bench/roles.py hf:FOLDER [--prompts DIR ...] [--repeats 4] [--base-url URL] [--json FILE]

Each folder of `--prompts` holds files as `interalign simulate --prompts` takes them. Figures are those of
`interalign roles probe`. User and candidate are asked `--repeats` times with other seeds; their shares have a 95 %
Wilson interval (answers taken as independent, which those about one persona are not quite). An instruct model of
0.5 B parameters in bfloat16 takes some minutes a folder on two cores.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from scipy.stats import binomtest

from interalign import api
from interalign.run.probe import LIMITS, SeatFigures


def shown(seat: SeatFigures, name: str) -> str:
    """A share in percent, with its interval where every answer counts for it."""
    value = seat.figures[name]
    if value is None:
        return "-"
    if seat.seat not in ("user", "candidate"):
        return f"{value:.0%}"
    low, high = binomtest(round(value * seat.n), seat.n).proportion_ci(method="wilson")
    return f"{value:.0%} [{100 * low:.0f}, {100 * high:.0f}]"


def table(columns: dict[str, Sequence[SeatFigures]]) -> str:
    """A row a figure, a column a set of prompts."""
    lines = [f"| seat (n) | figure | {' | '.join(columns)} | limit |", f"|---|---|{'---|' * len(columns)}---|"]
    for seats in zip(*columns.values(), strict=True):
        for name in seats[0].figures:
            how, limit = LIMITS.get(name, ("", 0.0))
            cells = " | ".join(shown(seat, name) for seat in seats)
            lines.append(
                f"| {seats[0].seat} ({seats[0].n}) | {name} | {cells} | {f'{how} {limit:.0%}' if how else ''} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--prompts", nargs="*", default=[], metavar="DIR")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--base-url", action="append", default=[], metavar="URL")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    columns = {
        folder or "shipped": api.probe_role(
            given.model, base_url=given.base_url, concurrency=given.concurrency,
            prompts=folder, repeats=given.repeats,
        )
        for folder in (None, *given.prompts)
    }  # fmt: skip
    print(f"{given.model}: interalign roles probe, {given.repeats} repeats\n\n{table(columns)}")
    if given.json:
        found = {name: [seat.model_dump() for seat in seats] for name, seats in columns.items()}
        given.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
