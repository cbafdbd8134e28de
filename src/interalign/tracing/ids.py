"""Ids of traces and spans, derived from what they are of: sending twice sends the same spans, and nothing is stored."""

import hashlib
from typing import NamedTuple

from interalign.records import RunRecord


class SpanIds(NamedTuple):
    """Where a span is found."""

    trace: str
    """32 hex characters."""
    span: str
    """16 hex characters."""


def run_ids(run: RunRecord) -> SpanIds:
    """Those of the run's own span, which is a trace by itself."""
    trace = _hex(32, *_of_run(run))
    return SpanIds(trace, _hex(16, trace, "run"))


def tree_ids(run: RunRecord, tree: str) -> SpanIds:
    """Those of a tree: a trace of its own, so that no trace is larger than what one look can take in."""
    trace = _hex(32, *_of_run(run), tree)
    return SpanIds(trace, _hex(16, trace, "tree"))


def turn_ids(run: RunRecord, tree: str, user_node: str) -> SpanIds:
    """Those of the turn that begins with this user message."""
    trace = tree_ids(run, tree).trace
    return SpanIds(trace, _hex(16, trace, "turn", user_node))


def call_ids(run: RunRecord, tree: str, key: str) -> SpanIds:
    """Those of the call with this ledger key; an empty one: the call that the tree failed on."""
    trace = tree_ids(run, tree).trace
    return SpanIds(trace, _hex(16, trace, "call", key))


def _of_run(run: RunRecord) -> tuple[str, ...]:
    seed = None if run.kind == "import" else run.begun_with.seed  # an import gets one only when branches are grown
    return "interalign", run.name, run.created, str(seed)


def _hex(length: int, *parts: str) -> str:
    """So many hex characters of the hash of these parts, never all zero, which OpenTelemetry forbids."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:length]
    return digest if digest.strip("0") else digest[:-1] + "1"
