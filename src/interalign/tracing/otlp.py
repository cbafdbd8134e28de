"""Sends spans by OTLP over HTTP, in the messages of `opentelemetry-proto`.

The whole SDK is left out on purpose: where it is installed, LangChain's tracer imports it at the start of every run.
"""

import gzip
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request

from interalign.errors import ConfigError, StopError
from interalign.tracing.otel_settings import OtelSettings
from interalign.tracing.spans import TraceSpan, Value
from interalign.version import __version__
from interalign.visible_text import encodable

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

_SPANS: Final = 256
"""Spans in one request."""
_CHARACTERS: Final = 2_000_000
"""Characters in one request, about; collectors take 20 MiB unless told otherwise."""
_SECONDS: Final = 30.0
"""For one request."""
_BUSY: Final = (429, 502, 503, 504)
"""What OTLP says is to be sent again."""
_WAITS: Final = (1.0, 4.0)
"""Seconds before it is, unless the receiver says how long."""
_SHOWN: Final = 200
"""Characters of a receiver's words."""


class OtlpSender:
    """Where spans are sent."""

    def __init__(self, endpoint: str | None = None, wait: Callable[[float], None] = time.sleep) -> None:
        """`endpoint`: the base address, as in OTEL_EXPORTER_OTLP_ENDPOINT; None: what the environment says.

        ConfigError if it is no address, a setting of the environment cannot be used, or the library is not installed.
        """
        self._settings = OtelSettings.of(endpoint)
        self._opener = self._settings.opener()
        self.url = self._settings.url
        self.sent = 0
        self.refused = 0
        """Spans that the receiver said it left out."""
        self._wait = wait
        try:
            import opentelemetry.proto.collector.trace.v1.trace_service_pb2  # noqa: F401
        except ImportError:
            raise ConfigError("sending spans needs OpenTelemetry's messages; pip install 'interalign[trace]'") from None

    def send(self, spans: Iterable[TraceSpan]) -> None:
        """Send these, in as many requests as they need; a busy receiver is asked again.

        ConfigError if the receiver takes none, StopError if it took some before.
        """
        for batch in _batches(spans):
            answer = self._post(_request(batch, self._settings.resource))
            self.sent += len(batch)
            self.refused += _left_out(answer)

    def _post(self, body: bytes) -> bytes:
        """The answer to one request, which is sent again while the receiver is busy."""
        waits = iter(_WAITS)
        while True:
            try:
                return self._answer(body)
            except HTTPError as error:
                with error:
                    wait = next(waits, None) if error.code in _BUSY else None
                    if wait is None:
                        raise self._failure(error) from None
                    wait = _retry_after(error) or wait
            except (OSError, HTTPException) as error:
                raise self._failure(error) from None
            self._wait(wait)

    def _answer(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/x-protobuf", "User-Agent": f"interalign/{__version__}"}
        if self._settings.is_compressed:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        asked = Request(self.url, body, {**headers, **self._settings.headers}, method="POST")  # noqa: S310  (http or https)
        with self._opener.open(asked, timeout=_SECONDS) as answer:
            return bytes(answer.read())

    def _failure(self, error: Exception) -> ConfigError | StopError:
        message = f"{self.url} did not take the spans ({self._settings.without_secrets(_words(error))})"
        if self.sent:
            return StopError(f"{message}; {self.sent:,} were sent, and the same command sends all of them again")
        return ConfigError(f"{message}; nothing was sent. --endpoint names another receiver")


def _request(spans: Sequence[TraceSpan], resource: Mapping[str, str]) -> bytes:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    ours = request.resource_spans.add()
    _put(ours.resource.attributes, resource)
    scope = ours.scope_spans.add()
    scope.scope.name, scope.scope.version = "interalign", __version__
    for span in spans:
        _write(span, scope.spans.add())
    return bytes(request.SerializeToString())


def _write(span: TraceSpan, message: "Span") -> None:
    message.trace_id, message.span_id = (bytes.fromhex(part) for part in span.ids)
    message.parent_span_id = bytes.fromhex(span.parent or "")
    message.name = encodable(span.name)
    message.kind = message.SPAN_KIND_INTERNAL
    message.start_time_unix_nano, message.end_time_unix_nano = (
        round(at.timestamp() * 1e6) * 1000 for at in (span.extent.began, span.extent.ended)
    )
    _put(message.attributes, {"openinference.span.kind": span.kind, **span.attributes})
    status = message.status
    status.code = status.STATUS_CODE_OK if span.error is None else status.STATUS_CODE_ERROR
    status.message = encodable(span.error or "")
    if span.link is not None:
        link = message.links.add()
        link.trace_id, link.span_id = (bytes.fromhex(part) for part in span.link)


def _put(attributes: Any, values: Mapping[str, Value]) -> None:
    """Write named values as OTLP has them."""
    for name, value in values.items():
        one = attributes.add()
        one.key = encodable(name)
        if isinstance(value, str):
            one.value.string_value = encodable(value)
        elif isinstance(value, int):
            one.value.int_value = value
        else:
            one.value.double_value = value


def _batches(spans: Iterable[TraceSpan]) -> Iterator[list[TraceSpan]]:
    """The spans in lots that fit into one request each."""
    batch: list[TraceSpan] = []
    size = 0
    for span in spans:
        own = sum(len(value) for value in span.attributes.values() if isinstance(value, str))
        if batch and (len(batch) == _SPANS or size + own > _CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(span)
        size += own
    if batch:
        yield batch


def _left_out(answer: bytes) -> int:
    """How many spans a receiver that answered well says it left out."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        return int(ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans)
    except DecodeError:  # a receiver that answers with JSON, or with words
        return 0


def _retry_after(error: HTTPError) -> float | None:
    """The seconds that a busy receiver asks for, at most those of a request; None if it does not say."""
    said = error.headers.get("Retry-After", "").strip()
    return min(float(said), _SECONDS) if said.isascii() and said.isdecimal() else None


def _words(error: Exception) -> str:
    """What a receiver said, or why none answered, in one line."""
    if isinstance(error, HTTPError):
        said = f"HTTP {error.code} {error.reason}: {error.read(4 * _SHOWN).decode('utf-8', 'replace')}"
    else:
        said = str(error.reason if isinstance(error, URLError) else error) or type(error).__name__
    return " ".join(said.split())[:_SHOWN]
