"""A recorded run as OpenTelemetry spans, with OpenInference's attributes: run, tree, turn, call (docs/running.md)."""

from interalign.tracing.ids import SpanIds, call_ids, run_ids
from interalign.tracing.otlp import OtlpSender
from interalign.tracing.spans import Extent, TraceSpan, run_span, spans_of_tree

__all__ = ["Extent", "OtlpSender", "SpanIds", "TraceSpan", "call_ids", "run_ids", "run_span", "spans_of_tree"]
