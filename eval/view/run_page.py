"""From a run to everything its front page shows. Pure: no file, no server, no markup."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from interalign.agents.templates import content_hash
from interalign.eval.view.tree_page import Link
from interalign.records import RunRecord, TreeStatus, Usage

_BRIEF = (
    "personas", "cases", "user", "inducer", "candidate", "judge", "judging", "policy", "branch", "turns", "seed",
    "system", "rubric",
)  # fmt: skip
"""Settings that are shown at once, in this order; all others are one click away."""

_SEATS = ("user", "inducer", "candidate", "judge")


class FailedTree(NamedTuple):
    """A tree that failed."""

    id: str
    href: str | None
    """None if nothing is on record of it."""


class WhyFailed(NamedTuple):
    """Trees that failed for one reason."""

    reason: str
    trees: int
    first: tuple[FailedTree, ...]


@dataclass(frozen=True)
class RunFacts:
    """What the file is a run of, and how far it is."""

    run: RunRecord | None
    """None before anything was run in it."""
    file: str
    created: str
    brief: tuple[tuple[str, str], ...]
    more: tuple[tuple[str, str], ...]
    planned: int
    """Trees not yet ended."""
    done: int
    failed: int
    usage: tuple[tuple[str, Usage], ...]
    judges: tuple[Link, ...]
    """All judges of the run, the newest last."""
    why_failed: tuple[WhyFailed, ...]
    """The reasons for which trees failed, the most frequent first."""

    @property
    def of_the_world(self) -> bool:
        """Some role is played by the embedded world, or was in a judging since."""
        return of_the_world(self.run, [judge.text for judge in self.judges])

    @property
    def trees(self) -> int:
        """All trees of the run."""
        return self.planned + self.done + self.failed


def run_facts(
    run: RunRecord | None,
    file: str,
    counts: Mapping[TreeStatus, int],
    usage: Mapping[str, Usage],
    judges: tuple[Link, ...],
    why_failed: tuple[WhyFailed, ...],
) -> RunFacts:
    """The facts of a run with so many trees of each status."""
    settings = {} if run is None else dict(_flat(run.identity))
    return RunFacts(
        run=run,
        file=file,
        created="" if run is None else run.created.replace("T", " ").replace("+00:00", " UTC"),
        brief=tuple((name, _in_words(settings[name])) for name in _BRIEF if name in settings),
        more=tuple((name, _in_words(value)) for name, value in settings.items() if name not in _BRIEF),
        planned=counts.get("planned", 0),
        done=counts.get("done", 0),
        failed=counts.get("failed", 0),
        usage=tuple(usage.items()),
        judges=judges,
        why_failed=why_failed,
    )


def of_the_world(run: RunRecord | None, judges: Iterable[str]) -> bool:
    """Whether some role of the run is played by the embedded world, or was in a judging since."""
    settings = {} if run is None else dict(_flat(run.identity))
    return any("world:" in name for name in [*(settings.get(seat, "") for seat in _SEATS), *judges])


def _in_words(value: str) -> str:
    """A setting for a reader: of a file that is known by its hash alone, that it was one."""
    known_by_hash = value.startswith("sha256:")
    return f"a file, its SHA-256 begins with {value[7:19]}" if known_by_hash else value


def _flat(settings: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by dotted name, as text; those that were left open are left out."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, _text(value)
            if name in ("system", "rubric") and isinstance(value, str):
                yield f"{name}.sha256", content_hash(value)


def _text(value: JsonValue) -> str:
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    if isinstance(value, dict) and value.keys() == {"name", "model"}:
        return f"{value['name']} = {value['model']}"
    return str(value)
