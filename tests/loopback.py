"""A server on this machine that speaks as much of the OpenAI protocol as a test wants, over real HTTP."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]
"""The request's JSON body -> HTTP status and the answer's JSON body."""


class Server(NamedTuple):
    """A running server and what it was asked."""

    url: str
    asked: list[dict[str, Any]]
    """Bodies of all requests, in the order they came."""
    headers: list[dict[str, str]]
    """Their headers, names in lower case."""


def completion(text: str | None, **message: Any) -> tuple[int, dict[str, Any]]:
    """What a server answers when all is well: one choice with this text."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "served", "choices": [choice]}
    return 200, {**body, "usage": usage}


def refusal(status: int, message: str) -> tuple[int, dict[str, Any]]:
    """An error as OpenAI words it."""
    return status, {"error": {"message": message, "type": "error", "code": None}}


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    asked: list[dict[str, Any]] = []
    headers: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(body)
            headers.append({name.lower(): value for name, value in self.headers.items()})
            status, said = answer(body)
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked may have given up
                self.wfile.write(data)

        def log_message(self, *parts: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_address[1]}/v1", asked, headers)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
