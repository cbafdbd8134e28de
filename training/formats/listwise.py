"""`listwise`: all replies of a turn with their values, best first."""

from collections.abc import Iterator

from interalign.preferences import PairMode, rankings
from interalign.training.formats.base import ExportFormat, Row, message, place, transcript
from interalign.tree import JudgedTree


def rows(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    """One row a turn whose replies the judge told apart."""
    for ranking in rankings(judged):
        yield {
            "prompt": transcript(judged.tree, ranking.prompt),
            "completions": [[message(reply)] for reply in ranking.replies],
            "scores": list(ranking.values),
            **place(judged.tree, ranking.prompt),
        }


FORMAT = ExportFormat("listwise", "all replies of a turn with their values", rows)
