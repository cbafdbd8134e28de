"""`interalign trace`: recorded calls as spans at an OTLP receiver on this machine, over real HTTP."""

import gzip
import json
import re
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import fault_server
import pytest
from openinference.semconv.resource import ResourceAttributes
from openinference.semconv.trace import AnnotationAttributes, MessageAttributes, SpanAttributes
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from test_view_failed import failing_in_turn, page_of
from view_pages import Run, reply, score, user

import interalign as ia
from interalign import api
from interalign.errors import ConfigError, StopError
from interalign.records import CallRecord
from interalign.tracing import Extent, OtlpSender, SpanIds, TraceSpan
from interalign.tracing.otel_settings import OtelSettings
from interalign.tree import Message

Answer = tuple[int, bytes]


class Received(NamedTuple):
    """A receiver and what it was sent."""

    url: str
    """Its base address."""
    requests: list[tuple[str, dict[str, str], ExportTraceServiceRequest]]
    """Path, headers (names in lower case) and body of each."""

    @property
    def spans(self) -> list[Span]:
        bodies = [body for _, _, body in self.requests]
        return [
            span for body in bodies for one in body.resource_spans for scope in one.scope_spans for span in scope.spans
        ]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@contextmanager
def receiving(
    answer: Callable[[int], Answer] = lambda number: (200, b""), tls: tuple[Path, Path] | None = None
) -> Iterator[Received]:
    """An OTLP receiver on 127.0.0.1; `answer` is given a request's number, from 1. `tls`: certificate and key."""
    found = Received("", [])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            found.requests.append((self.path, headers, ExportTraceServiceRequest.FromString(body)))
            status, said = answer(len(found.requests))
            self.send_response(status)
            self.send_header("content-length", str(len(said)))
            self.send_header("retry-after", "7")
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *parts: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found._replace(url=f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def told(span: Span) -> dict[str, Any]:
    """The attributes of a span by name."""
    return {
        one.key: getattr(one.value, kind)
        for one in span.attributes
        if (kind := one.value.WhichOneof("value")) is not None
    }


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "PROTOCOL", "HEADERS", "TRACES_ENDPOINT", "TRACES_PROTOCOL", "TRACES_HEADERS"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trees of two turns, two replies each."""
    path = tmp_path_factory.mktemp("trace") / "run.db"
    ia.simulate(path, trees=2, turns=2)
    return path


@pytest.fixture(scope="module")
def sent(run: Path) -> Received:
    """What a receiver gets of it."""
    with receiving() as receiver:
        api.trace(run, endpoint=receiver.url)
    return receiver


def recorded(run: Path, tree: str) -> list[CallRecord]:
    with ia.open_run(run) as store:
        return store.calls_of(tree)


def test_every_call_is_a_span_in_its_turn_in_its_tree_which_links_to_the_run(run: Path, sent: Received) -> None:
    by_id = {span.span_id: span for span in sent.spans}
    calls = [span for span in sent.spans if "interalign.role" in told(span)]
    assert len(calls) == len(recorded(run, "t00000")) + len(recorded(run, "t00001"))
    (of_run,) = sent.named("run run")
    for call in calls:
        turn = by_id[call.parent_span_id]
        tree = by_id[turn.parent_span_id]
        assert turn.name in ("turn 1", "turn 2")
        assert tree.name == f"tree {told(call)['interalign.tree']}"
        assert tree.parent_span_id == b""
        assert call.trace_id == turn.trace_id == tree.trace_id != of_run.trace_id
        assert [(link.trace_id, link.span_id) for link in tree.links] == [(of_run.trace_id, of_run.span_id)]


def test_spans_name_run_tree_node_and_call(run: Path, sent: Received) -> None:
    calls = {call.key: call for call in recorded(run, "t00001")}
    spans = {told(span)["interalign.call"]: told(span) for span in sent.spans if "interalign.call" in told(span)}
    for key, call in calls.items():
        said = spans[key]
        assert (said["interalign.run"], said["session.id"]) == ("run", "run")
        assert (said["interalign.tree"], said["interalign.node"]) == ("t00001", call.place.node)
        assert (said["interalign.role"], said["interalign.sample"]) == (call.place.role, call.place.sample)


def test_a_call_says_what_was_asked_answered_and_used(run: Path, sent: Received) -> None:
    call = next(call for call in recorded(run, "t00000") if call.place.role == "candidate")
    said = next(told(span) for span in sent.spans if told(span).get("interalign.call") == call.key)
    assert said["openinference.span.kind"] == "LLM"
    assert (said["llm.model_name"], said["llm.request.model_name"]) == (call.reply.model, call.asked)
    assert said["llm.invocation_parameters"] == call.parameters
    assert (said["llm.token_count.prompt"], said["llm.token_count.completion"]) == (
        call.reply.prompt_tokens,
        call.reply.completion_tokens,
    )
    assert said["llm.token_count.total"] == call.reply.prompt_tokens + call.reply.completion_tokens
    assert said["llm.finish_reason"] == "stop"
    assert said["llm.input_messages.0.message.role"] == call.messages[0].role
    assert said["llm.input_messages.0.message.content"] == call.messages[0].content
    assert said["llm.output_messages.0.message.content"] == said["output.value"] == call.reply.text
    assert json.loads(said["input.value"]) == [message.model_dump() for message in call.messages]


def test_a_call_lasts_from_its_request_to_its_reply_and_a_tree_around_all_of_them(run: Path, sent: Received) -> None:
    call = recorded(run, "t00000")[0]
    assert call.began is not None
    assert call.seconds is not None
    spans = [span for span in sent.spans if told(span).get("interalign.tree") == "t00000"]
    span = next(span for span in spans if told(span).get("interalign.call") == call.key)
    assert span.start_time_unix_nano == round(call.began.timestamp() * 1000) * 1_000_000
    assert (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 == pytest.approx(call.seconds, abs=2e-6)
    (tree,) = sent.named("tree t00000")
    assert tree.start_time_unix_nano == min(span.start_time_unix_nano for span in spans)
    assert tree.end_time_unix_nano == max(span.end_time_unix_nano for span in spans)


def test_a_turn_says_what_was_said_and_how_it_went_on(run: Path, sent: Received) -> None:
    with ia.open_run(run) as store:
        judged = store.judged_tree("t00000")
    assert judged is not None
    taken = next(node for node in judged.tree.children("u") if judged.tree.children(node.id))
    said = next(told(span) for span in sent.named("turn 1") if told(span)["interalign.tree"] == "t00000")
    assert (said["input.value"], said["output.value"]) == (judged.tree.root.text, taken.text)
    assert (said["openinference.span.kind"], said["interalign.node"], said["interalign.turn"]) == ("CHAIN", "u", 1)


def test_every_name_is_one_of_openinference_or_of_ours(sent: Received) -> None:
    conventions = {
        value
        for names in (SpanAttributes, MessageAttributes, AnnotationAttributes, ResourceAttributes)
        for name, value in vars(names).items()
        if name.isupper()
    }
    for span in sent.spans:
        for name in told(span):
            parts = [part for part in name.replace(".0.", ".N.").split(".N.") if not name.startswith("interalign.")]
            plain = [part.rstrip("0123456789").rstrip(".") for part in parts]
            known = [part in conventions or part.split(".", 2)[0] in ("llm", "annotations") for part in plain]
            assert all(known), name


def test_sending_twice_sends_the_same_spans(run: Path, sent: Received) -> None:
    with receiving() as again:
        api.trace(run, endpoint=again.url)
    assert [span.SerializeToString() for span in again.spans] == [span.SerializeToString() for span in sent.spans]


def test_two_runs_of_the_same_name_share_no_span(tmp_path: Path, sent: Received) -> None:
    ia.simulate(tmp_path / "run.db", trees=1, turns=1, seed=8)
    with receiving() as other:
        api.trace(tmp_path / "run.db", endpoint=other.url)
    assert {span.span_id for span in other.spans} & {span.span_id for span in sent.spans} == set()
    assert {span.trace_id for span in other.spans} & {span.trace_id for span in sent.spans} == set()


def test_the_page_of_a_call_names_its_span(run: Path, sent: Received) -> None:
    span = next(span for span in sent.spans if told(span).get("interalign.role") == "judge")
    page = page_of(run, f"/call/{told(span)['interalign.call']}/{told(span)['interalign.tree']}")
    assert f"span {span.span_id.hex()} of trace {span.trace_id.hex()}" in page.words


def test_the_command_says_what_it_sent_and_where(cli: Callable[..., Any], run: Path) -> None:
    with receiving() as receiver:
        done = cli("trace", run, "--endpoint", receiver.url)
    assert (done.code, done.out) == (0, "")
    assert done.err == f"{len(receiver.spans)} spans of 2 trees sent to {receiver.url}/v1/traces\n"
    assert {path for path, _, _ in receiver.requests} == {"/v1/traces"}


def test_named_trees_alone_are_sent_without_the_span_of_the_run(cli: Callable[..., Any], run: Path) -> None:
    with receiving() as receiver:
        done = cli("trace", run, "--endpoint", receiver.url, "--tree", "t00001")
    assert done.code == 0
    assert {told(span)["interalign.tree"] for span in receiver.spans} == {"t00001"}


def test_a_tree_that_is_not_there_is_refused_by_name(cli: Callable[..., Any], run: Path) -> None:
    with receiving() as receiver:
        done = cli("trace", run, "--endpoint", receiver.url, "--tree", "t0001")
    assert (done.code, receiver.requests) == (2, [])
    assert "--tree t0001" in done.err
    assert "did you mean t00001?" in done.err


@pytest.mark.parametrize(
    ("given", "environment", "url"),
    [
        (None, {}, "http://localhost:4318/v1/traces"),
        ("http://a:6006", {}, "http://a:6006/v1/traces"),
        ("http://a:6006/", {}, "http://a:6006/v1/traces"),
        ("https://a/api/public/otel", {}, "https://a/api/public/otel/v1/traces"),
        ("http://a/v1/traces", {}, "http://a/v1/traces"),
        (None, {"ENDPOINT": "http://b:1"}, "http://b:1/v1/traces"),
        (None, {"ENDPOINT": "http://b:1", "TRACES_ENDPOINT": "http://c/x"}, "http://c/x"),
        ("http://a", {"ENDPOINT": "http://b:1", "TRACES_ENDPOINT": "http://c/x"}, "http://a/v1/traces"),
        (None, {"PROTOCOL": "http/protobuf", "ENDPOINT": "http://b"}, "http://b/v1/traces"),
    ],
)
def test_the_address_is_that_of_the_option_else_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, given: str | None, environment: dict[str, str], url: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    assert OtelSettings.of(given).url == url


@pytest.mark.parametrize("given", ["ftp://a", "localhost:4318", "http://", "a", "http://a:x", "http://a:99999"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address of an OTLP receiver; write it like http://localhost:4318"):
        OtelSettings.of(given)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="the address of a holds a key or password") as refused:
        OtelSettings.of("http://me:s3cret@a:4318")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PROTOCOL", "grpc", "spans are sent by http/protobuf, mostly to port 4318"),
        ("TRACES_PROTOCOL", "http/json", "spans are sent by http/protobuf, mostly to port 4318"),
        ("COMPRESSION", "deflate", "write none or gzip"),
        ("HEADERS", "authorization", ": part 1 is no NAME=VALUE"),
        ("TRACES_HEADERS", "a=b,=c", ": part 2 is no NAME=VALUE"),
        ("HEADERS", "a=b%0Ac", "the header 'a' holds a character that cannot be sent"),
        ("HEADERS", "a=\u00e9", "the header 'a' holds a character that cannot be sent"),
        ("CERTIFICATE", "absent.pem", "(absent.pem): cannot be read"),
    ],
)
def test_a_setting_of_the_environment_that_cannot_be_used_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    with pytest.raises(ConfigError, match=f"OTEL_EXPORTER_OTLP_{name}.*{re.escape(said)}"):
        OtlpSender("http://127.0.0.1:1")


def test_a_receiver_is_trusted_by_the_certificate_that_the_environment_names(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving(tls=certificate) as receiver:
        with pytest.raises(ConfigError, match="certificate verify failed"):
            OtlpSender(receiver.url).send([one_span()])
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificate[0]))
        OtlpSender(receiver.url).send([one_span()])
    assert len(receiver.spans) == 1


def test_without_the_extra_it_says_what_to_install(
    cli: Callable[..., Any], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1.trace_service_pb2", None)
    done = cli("trace", run)
    assert done.code == 2
    assert done.err == ("interalign: sending spans needs OpenTelemetry's messages; pip install 'interalign[trace]'\n")


def test_spans_are_compressed_where_the_environment_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with receiving() as receiver:
        traced = api.trace(run, endpoint=receiver.url)
    assert {headers["content-encoding"] for _, headers, _ in receiver.requests} == {"gzip"}
    assert len(receiver.spans) == traced.spans


def one_span() -> TraceSpan:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return TraceSpan(SpanIds("ab" * 16, "cd" * 8), None, "x", "CHAIN", Extent(at, at), {"a": 1, "b": 0.5, "c": "d"})


def test_a_busy_receiver_is_asked_again_when_it_says() -> None:
    waited: list[float] = []
    with receiving(lambda number: (503 if number < 3 else 200, b"")) as receiver:
        OtlpSender(receiver.url, waited.append).send([one_span()])
    assert (len(receiver.requests), waited) == (3, [7.0, 7.0])


def test_a_receiver_that_stays_busy_is_given_up() -> None:
    waited: list[float] = []
    with (
        receiving(lambda number: (429, b"slow down")) as receiver,
        pytest.raises(ConfigError, match=r"HTTP 429 .*slow"),
    ):
        OtlpSender(receiver.url, waited.append).send([one_span()])
    assert len(receiver.requests) == 3


def test_a_redirect_is_not_followed() -> None:
    with receiving(lambda number: (307, b"")) as receiver, pytest.raises(ConfigError, match="HTTP 307"):
        OtlpSender(receiver.url).send([one_span()])
    assert len(receiver.requests) == 1


def test_many_spans_are_sent_in_requests_of_256_and_long_ones_in_fewer() -> None:
    long = one_span()._replace(attributes={"input.value": "x" * 1_500_000})
    with receiving() as receiver:
        OtlpSender(receiver.url).send([one_span()] * 257)
        OtlpSender(receiver.url).send([long] * 2)
    sizes = [len(body.resource_spans[0].scope_spans[0].spans) for _, _, body in receiver.requests]
    assert sizes == [256, 1, 1, 1]


def test_headers_service_and_resource_are_those_of_the_environment(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20abc")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "nightly")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "openinference.project.name=bees")
    with receiving() as receiver:
        api.trace(run, endpoint=receiver.url)
    _, headers, body = receiver.requests[0]
    resource = {one.key: one.value.string_value for one in body.resource_spans[0].resource.attributes}
    assert headers["authorization"] == "Basic abc"
    assert (resource["service.name"], resource["openinference.project.name"]) == ("nightly", "bees")


def test_a_receiver_that_refuses_is_named_with_its_words_and_no_key(
    cli: Callable[..., Any], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret-token")
    with receiving(lambda number: (401, b"no project for\n Bearer s3cret-token")) as receiver:
        done = cli("trace", run, "--endpoint", receiver.url)
    assert done.code == 2
    assert done.err == (
        f"interalign: {receiver.url}/v1/traces did not take the spans (HTTP 401 Unauthorized: no project for (key)); "
        "nothing was sent. --endpoint names another receiver\n"
    )


def test_a_receiver_that_stops_in_the_middle_ends_with_exit_code_3(cli: Callable[..., Any], run: Path) -> None:
    with receiving(lambda number: (200, b"") if number == 1 else (400, b"full")) as receiver:
        done = cli("trace", run, "--endpoint", receiver.url)
    assert done.code == 3
    assert "HTTP 400 Bad Request: full" in done.err
    assert "were sent, and the same command sends all of them again" in done.err


def test_no_receiver_at_all_is_said_in_one_line(cli: Callable[..., Any], run: Path) -> None:
    with receiving() as gone:
        pass
    done = cli("trace", run, "--endpoint", gone.url)
    assert done.code == 2
    assert "did not take the spans ([Errno 111] Connection refused); nothing was sent" in done.err
    assert done.err.count("\n") == 1


def test_spans_that_the_receiver_leaves_out_are_counted(cli: Callable[..., Any], run: Path) -> None:
    partly = ExportTraceServiceResponse()
    partly.partial_success.rejected_spans = 2
    with receiving(lambda number: (200, partly.SerializeToString() if number == 1 else b"{}")) as receiver:
        done = cli("trace", run, "--endpoint", receiver.url)
    assert done.code == 0
    assert done.err.endswith("/v1/traces; left out: 2 spans by the receiver\n")


@pytest.mark.parametrize("turn", [1, 2])
def test_a_failed_tree_is_sent_with_the_call_that_it_failed_on(tmp_path: Path, turn: int) -> None:
    with fault_server.serving(failing_in_turn(turn)) as server:
        runtime = ia.Runtime(base_url=server.url)
        summary = ia.simulate(tmp_path / "run.db", trees=1, turns=3, candidate="openai:m", runtime=runtime)
    with receiving() as receiver:
        api.trace(tmp_path / "run.db", endpoint=receiver.url)
    (tree,) = receiver.named("tree t00000")
    assert tree.status.code == Status.STATUS_CODE_ERROR
    assert tree.status.message == summary.failed["t00000"]
    (failed,) = [span for span in receiver.spans if told(span).get("interalign.role") and span.status.code == 2]
    at = next(span for span in receiver.spans if span.span_id == failed.parent_span_id)
    assert "interalign.call" not in told(failed)
    assert (told(failed)["interalign.role"], told(failed)["output.value"]) == ("candidate", "")
    assert told(at)["interalign.node"] == {1: "u", 2: told(failed)["interalign.node"].rpartition("/")[0] + "/u"}[turn]
    assert [span.status.code for span in receiver.spans if span.name == "user"] == [Status.STATUS_CODE_OK] * turn


def test_scores_are_annotations_of_the_call_that_made_the_reply(tmp_path: Path) -> None:
    made = Run(tmp_path / "run.db")
    made.begin()
    made.plan("t0")
    key = made.call("t0", "1", "candidate", [Message(role="user", content="Hi.")], "Half \ud83d of it.")
    asked = user(None, "Hi.")
    scores = [score("1", 4, "j"), score("1", None, "k"), score("1", 2, "l")]
    made.say("t0", [asked, reply(asked, 1, "Half \ud83d of it.", call=key)], scores=scores)
    made.end("t0")
    made.store.close()
    with receiving() as receiver:
        api.trace(tmp_path / "run.db", endpoint=receiver.url)
    (call,) = receiver.named("candidate")
    said = {name: value for name, value in told(call).items() if name.startswith("annotations.")}
    assert said == {
        "annotations.0.annotation.name": "score",
        "annotations.0.annotation.score": 4,
        "annotations.0.annotation.annotator_kind": "LLM",
        "annotations.0.annotation.identifier": "j",
        "annotations.1.annotation.name": "score",
        "annotations.1.annotation.score": 2,
        "annotations.1.annotation.annotator_kind": "LLM",
        "annotations.1.annotation.identifier": "l",
    }
    assert told(call)["output.value"] == "Half \ufffd of it."


def test_what_has_no_time_and_what_still_grows_is_left_out_and_counted(tmp_path: Path) -> None:
    made = Run(tmp_path / "run.db")
    made.begin()
    made.plan("t0", "t1")
    made.say("t0", [asked := user(None, "Hi."), reply(asked, 1)])
    made.end("t0")
    made.store.close()
    with receiving() as receiver:
        traced = api.trace(tmp_path / "run.db", endpoint=receiver.url)
    assert (traced.spans, traced.trees, traced.untimed, traced.growing) == (0, 0, 1, 1)
    assert receiver.requests == []


def test_a_failure_after_a_part_was_sent_is_a_stop(run: Path) -> None:
    with receiving(lambda number: (200, b"") if number == 1 else (400, b"")) as receiver, pytest.raises(StopError):
        api.trace(run, endpoint=receiver.url)
