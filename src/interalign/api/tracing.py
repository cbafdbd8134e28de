"""Recorded runs, sent to where traces are looked at."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from interalign.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from interalign.records import RunRecord, TreeRecord
    from interalign.store import Store
    from interalign.tracing import OtlpSender, TraceSpan


class Traced(NamedTuple):
    """What was sent."""

    spans: int
    trees: int
    url: str
    untimed: int
    """Trees left out because no call of theirs has a time: imported ones, or those of version 0.1.0."""
    growing: int
    """Trees left out because they are not at their end."""
    refused: int
    """Spans that the receiver said it left out."""


def trace(
    run: Path | str,
    *,
    endpoint: str | None = None,
    trees: Sequence[str] = (),
    progress: Callable[[float], None] = lambda share: None,
) -> Traced:
    """Send the recorded calls of a run to an OTLP receiver, as spans with OpenInference's attributes.

    A trace is a tree; the run is one more span, to which they link (left out where `trees` names some of them). Ids are
    derived from those of the run, so that sending again sends the same spans. `endpoint` is the receiver's base
    address; without it the OTEL_EXPORTER_OTLP_* variables say where. Nothing is written to the run file. `progress` is
    told how much is sent, 0 to 1.
    """
    from interalign.store import Store
    from interalign.tracing import OtlpSender

    with Store.open(Path(run)) as store:
        if store.run is None:
            raise ConfigError(f"{run} holds no run yet")
        wanted = _named(store, trees) if trees else store.walk_trees("done", "failed")
        counts = store.count_trees()
        growing = 0 if trees else counts.get("planned", 0)
        count = len(trees) or sum(counts.values()) - growing
        sender = OtlpSender(endpoint)
        sent, untimed = _send(store, store.run, _counted(wanted, count, progress), sender, whole=not trees)
        return Traced(sender.sent, sent, sender.url, untimed, growing, sender.refused)


def _counted(trees: "Iterable[TreeRecord]", count: int, progress: Callable[[float], None]) -> "Iterator[TreeRecord]":
    for number, tree in enumerate(trees, start=1):
        yield tree
        progress(min(1.0, number / count))


def _send(
    store: "Store", run: "RunRecord", trees: "Iterable[TreeRecord]", sender: "OtlpSender", *, whole: bool
) -> tuple[int, int]:
    """Send the spans of these trees, and of the whole run; how many trees were sent, and how many have no times."""
    from interalign.tracing import Extent, run_span

    extents: list[Extent] = []
    untimed = 0
    for tree in trees:
        spans = _spans(store, run, tree)
        sender.send(spans)
        extents += [span.extent for span in spans[:1]]
        untimed += not spans
    if extents and whole:
        sender.send([run_span(run, reduce(Extent.around, extents), len(extents))])
    return len(extents), untimed


def _spans(store: "Store", run: "RunRecord", tree: "TreeRecord") -> "list[TraceSpan]":
    from interalign.tracing import spans_of_tree

    failed = store.failed_call_of(tree.id)
    calls = [*store.calls_of(tree.id), *([] if failed is None else [failed])]
    return spans_of_tree(run, tree, store.judged_tree(tree.id), calls)


def _named(store: "Store", trees: Sequence[str]) -> "list[TreeRecord]":
    """The trees with these ids; ConfigError for one that the run does not have."""
    found = {tree: store.tree_record(tree) for tree in trees}
    for tree, record in found.items():
        if record is None:
            near = did_you_mean(tree, [each.id for each in store.trees()])
            raise ConfigError(f"--tree {tree}: {store.path} has no such tree{near}")
    return [record for record in found.values() if record is not None]
