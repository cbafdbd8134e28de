"""The data card: a JSON file beside an export that says which run its rows were made from, and what was left out."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from interalign.agents.leaks import leaking
from interalign.files import is_stream, sha256, write_atomically
from interalign.people.held_out import is_held_out
from interalign.records import RunRecord
from interalign.tree import JudgedTree
from interalign.version import __version__

SCHEMA = 1


class Counts(NamedTuple):
    """What the trees of an export hold, whatever of it became rows."""

    trees: int
    replies: int
    cut: int
    """Replies that ended at their length limit."""
    leaks: int
    """Replies that repeat the inducer's note."""
    user_cut: int
    """User messages that ended at their length limit."""


class Tally:
    """Counts trees as they pass."""

    def __init__(self) -> None:
        self.counts = Counts(0, 0, 0, 0, 0)
        self.held_out = 0
        """Trees about held-out personas."""

    def counting(self, judged_trees: Iterable[JudgedTree]) -> Iterator[JudgedTree]:
        """The same trees, each counted before it is handed on."""
        for judged in judged_trees:
            more = _counts(judged)
            self.held_out += is_held_out(judged.tree.persona)
            self.counts = Counts(*(one + other for one, other in zip(self.counts, more, strict=True)))
            yield judged


def _counts(judged: JudgedTree) -> Counts:
    replies = {node.id for node in judged.tree.nodes if node.role == "assistant"}
    cut = judged.cut & replies
    return Counts(1, len(replies), len(cut), len(leaking(judged)), len(judged.cut - cut))


def card_beside(data: Path) -> Path | None:
    """Where the card of a file of rows is; None for what is no file, such as a pipe."""
    return None if is_stream(data) else data.with_name(f"{data.name}.card.json")


class Origin(NamedTuple):
    """What a data card says of where the rows come from; None where it does not say it."""

    name: str | None = None
    kind: str | None = None
    """`simulation` or `evaluation`."""
    file: Path | None = None
    """The run file, in the folder of the rows, where it may have been."""
    held_out: int = 0
    """Trees about held-out personas."""
    shows_persona: bool = False
    """Whether the rows hold the persona, as those for a user agent do."""


def origin_of(data: Path) -> Origin | None:
    """What the card beside these rows says; None if there is none that can be read."""
    card = card_beside(data)
    try:
        facts = json.loads(card.read_text(encoding="utf-8")) if card else None
        run = (facts or {}).get("run") or {}
        file = run.get("file")
        beside = data.with_name(Path(str(file)).name) if file else None
        if facts is None:
            return None
        shows_persona = facts.get("shows_persona") is True
        return Origin(run.get("name"), run.get("kind"), beside, facts.get("held_out", 0), shows_persona)
    except (OSError, ValueError, AttributeError):
        return None


def write_card(
    card: Path,
    data: Path,
    source: tuple[Path, RunRecord | None],
    rows: int,
    tally: Tally,
    chosen: Mapping[str, object],
) -> None:
    """Write the card of `rows` rows in `data`, made from `source`; `chosen` are the options of the export."""
    file, run = source
    facts = {
        "schema": SCHEMA,
        "version": __version__,
        "data": data.name,
        **_content(data),
        "rows": rows,
        **chosen,
        "counts": tally.counts._asdict(),
        **({"held_out": tally.held_out} if tally.held_out else {}),
        "run": None if run is None else {**_run(run), "file": file.name},
    }
    write_atomically(card, [json.dumps(facts, indent=2), "\n"])


def _content(data: Path) -> dict[str, Any]:
    """The hash of the file, or of each file of a folder."""
    if data.is_dir():
        return {"files": {file.name: sha256(file) for file in sorted(data.iterdir())}}
    return {"sha256": sha256(data)}


def _run(run: RunRecord) -> dict[str, Any]:
    """The run in short: the texts of the user's own prompts are in the run file."""
    settings = {name: value for name, value in run.identity.items() if name != "own_prompts"}
    return {"name": run.name, "kind": run.kind, "created": run.created, "version": run.version, "settings": settings}
