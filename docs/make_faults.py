"""Write docs/faults.md from docs/faults.yaml: `make docs`. A test fails when the page is stale."""

from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
PAGE = HERE / "faults.md"
HEAD = """\
# What happens when things go wrong

No finished reply is ever lost or paid for twice, no value is ever invented, one bad tree never stops the others, and
whatever stopped the run, the same command finishes it.

Every fault has exactly one answer:

- **retry**: wait and send the same request again, within the call's total deadline (`--deadline`, 120 s; one attempt
  gets at most half of it, and less at a server that has shown that it is quick). All calls to a server wait together
  when it says so.
- **re-ask**: a reply came but cannot be used: ask again with a new sample index, at most twice; then the value is
  *missing*. Where the reply had no message, or not the form asked for, the second request says so.
- **tree**: this tree stops and is marked failed with the reason; all others go on; exit 1 names it; running again
  retries only it.
- **stop**: nothing new is started, what is in flight gets 10 s to finish, everything is committed; exit 3 and one line;
  the same command goes on.
- **refuse**: nothing starts; exit 2 and one line that names the thing and what to do.
- **keep**: nothing is wrong enough to act on.

The last column says what holds the answer: cases of `docs/faults.yaml`, each made to happen to a real run over loopback
by `tests/test_faults.py`, or other tests. What is not so yet is marked **not yet**.

| # | fault | answer | notes | held by |
|---|---|---|---|---|
"""


def rows() -> list[dict[str, Any]]:
    """All faults, as the file has them."""
    loaded: list[dict[str, Any]] = yaml.safe_load((HERE / "faults.yaml").read_text(encoding="utf-8"))
    return loaded


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_line(row) for row in rows())


def _line(row: dict[str, Any]) -> str:
    cells = (str(row["row"]), row["fault"], row["answer"], row.get("notes", ""), _holds(row))
    return f"| {' | '.join(cells)} |\n"


def _holds(row: dict[str, Any]) -> str:
    cases = [case["name"] for case in row.get("cases", [])]
    held = [", ".join(cases)] if cases else []
    held += [f"`{file}`" for file in dict.fromkeys(test.partition("::")[0] for test in row.get("held_by", []))]
    held += [f"**not yet**: {row['open']}"] if "open" in row else []
    return "; ".join(held)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
