"""From judged trees to a file of training rows. No torch in it; docs/data-format.md shows a row of each format.

The formats are an open set (`training/formats/`, `registries.FORMATS`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from interalign.agents.leaks import leaking
from interalign.errors import ConfigError
from interalign.files import write_atomically
from interalign.preferences import PairMode
from interalign.registries import FORMATS
from interalign.training.formats import ExportFormat, Row, UserSeat
from interalign.training.leak_proof import LeakProof
from interalign.training.parquet import write_parquet, write_parquet_shards
from interalign.training.row_filters import RowFilters
from interalign.training.user_seats import UserSeats
from interalign.tree import JudgedTree
from interalign.visible_text import encodable


def export_format(name: str) -> ExportFormat:
    """The format called `name`; ConfigError lists the names there are."""
    found, _ = FORMATS.load(name)
    if not isinstance(found, ExportFormat):
        raise ConfigError(f"export format {name!r} is {type(found).__name__}; expected an ExportFormat")
    return found


def rows(
    judged_trees: Iterable[JudgedTree],
    fmt: str,
    mode: PairMode = "best-worst",
    *,
    judge: str | None = None,
    keep_leaks: bool = False,
    keep_cut: bool = False,
    filters: RowFilters | None = None,
    proof: LeakProof | None = None,
    seats: UserSeats | None = None,
) -> Iterator[Row]:
    """Training rows of trees, in given order, by what one judge said.

    `judge` names it; without one, the trees hold what a single judge said (`JudgedTree.by_judge`).

    `mode` is how preferences become pairs; formats without pairs do not depend on it. Replies that carry words of the
    inducer's note (annotation `leak`), and what follows them, are left out unless `keep_leaks`. A message that was cut
    at its length limit is learnt in no row unless `keep_cut`; it may stand in the conversation before what is learnt.
    `filters` leave out more, and count it; `proof` checks every row. `seats` say what a user agent is asked with; a
    format for user agents gives no row without.
    Raises ConfigError for an unknown format or mode.
    """
    if mode not in get_args(PairMode):
        raise ConfigError(f"no way {mode!r} to choose pairs; choose one of {', '.join(get_args(PairMode))}")
    chosen = export_format(fmt)
    for_user, checked = chosen.user_rows is not None, not chosen.shows_persona
    for judged in judged_trees:
        seat = seats.of(judged) if for_user and seats is not None else None
        if for_user and seat is None:
            continue
        kept = _learnable(
            judged, judge, filters or RowFilters(), keep_leaks=keep_leaks, keep_cut=keep_cut, unanswered=for_user
        )
        for row in _made(chosen, kept, mode, seat) if kept else ():
            if proof is not None and checked:
                proof.check(judged, row)
            yield _without_lone_surrogates(row)


def _made(fmt: ExportFormat, judged: JudgedTree, mode: PairMode, seat: UserSeat | None) -> Iterable[Row]:
    if fmt.user_rows is not None and seat is not None:
        return fmt.user_rows(judged, seat)
    return () if fmt.rows is None else fmt.rows(judged, mode)


def _learnable(
    judged: JudgedTree, judge: str | None, filters: RowFilters, *, keep_leaks: bool, keep_cut: bool, unanswered: bool
) -> JudgedTree | None:
    """The tree as formats get it: replies that must not be learnt are gone, or not judged and listed in `cut`.

    `unanswered`: user messages of which every reply is gone stay.
    """
    everyone = filters.without_faulty(judged, unanswered=unanswered)
    everyone = everyone if everyone is None or keep_leaks else without_leaks(everyone, unanswered=unanswered)
    if everyone is None:
        return None
    kept = everyone if judge is None else everyone.by_judge(judge)
    if kept.cut:
        kept = kept.model_copy(update={"cut": frozenset()}) if keep_cut else kept.unjudged(kept.cut)
    return filters.held_to_limits(kept, everyone)


def without_leaks(judged: JudgedTree, *, unanswered: bool = False) -> JudgedTree | None:
    """The tree without the replies that leak, nor anything said after them; None if nothing is left of it.

    A user message that nobody answers any more goes too, unless `unanswered` messages are to stay.
    """
    leaks = leaking(judged)
    return judged.without(leaks, unanswered=unanswered) if leaks else judged


def _without_lone_surrogates(value: Any) -> Any:
    """The same JSON value with U+FFFD for every half of a surrogate pair that stands alone (UTF-8 cannot hold it)."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list):
        return [_without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_lone_surrogates(item) for key, item in value.items()}
    return value


def write_rows(found: Iterable[Mapping[str, Any]], path: Path, rows_per_file: int | None = None) -> int:
    """Write rows to a file, Parquet if its name ends so, else JSON lines, and return their number.

    With `rows_per_file` the path is a folder, of Parquet files with so many rows each.
    The file appears whole or not at all. Raises ConfigError if the path cannot be written, or if Parquet is asked for
    and pyarrow is not installed.
    """
    if rows_per_file is not None:
        return write_parquet_shards(found, path, rows_per_file)
    return write_parquet(found, path) if path.suffix.lower() == ".parquet" else write_jsonl(found, path)


def write_jsonl(found: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write one JSON object a line, UTF-8, and return their number; the file appears whole or not at all.

    Raises ConfigError if the path cannot be written.
    """
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for row in found:
            count += 1
            yield json.dumps(row, ensure_ascii=False) + "\n"

    write_atomically(path, lines())
    return count
