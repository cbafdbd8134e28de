"""An OpenAI-compatible server on loopback that does, request by request, everything a server can do wrong.

It is written on bare streams, because a well-made HTTP server would not send half an answer.
"""

import asyncio
import hashlib
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Step = Mapping[str, Any]
"""What happens to one request; an empty one: a good answer.

- `delay`: seconds before anything is sent; `hang: true`: nothing ever is;
- `cut`: the connection is reset `before headers`, `after headers` or in `mid-body`;
- `drip`: seconds between two bytes of the body;
- `status`, `headers`; and as the body one of `json`, `text`, `bytes` (a text that stands for them in Latin-1), or a
  good answer changed by `choice`, `message` and `top`, each merged into its place; `repeat` repeats the content.
"""
Plan = Callable[[dict[str, Any]], Step]
"""The request's JSON body -> what happens to it. Asked once a request, in the order they come."""

SENTENCES = (
    "What do you like to do on a free day?",
    "That sounds good. Tell me more about it.",
    "I see. I would start with something small and simple.",
    "Let us talk about music. Which kind do you enjoy?",
    "You could go for a walk in the evening and see how it feels.",
    "Here are three ideas: a book, a long dinner with friends, or a quiet game.",
)


def calm(body: dict[str, Any]) -> Step:
    """Every request is answered well."""
    return {}


def good_text(messages: list[dict[str, str]]) -> str:
    """The reply to these messages: the same to the same, whoever asks and whenever."""
    *before, last = messages
    asked = {**last, "content": last["content"].partition("\n\n[asked again]\n")[0]}  # again, it is the same question
    digest = hashlib.sha256(json.dumps([*before, asked], sort_keys=True).encode()).digest()
    return f"{SENTENCES[digest[0] % 6]} {SENTENCES[digest[1] % 6]}"


def opening_of(body: dict[str, Any]) -> str:
    """What the conversation of a request began with: tells the trees of a short run apart."""
    text = str(body["messages"][0]["content"]).partition("\n\n[asked again]")[0]
    return text.partition("\n[the user's message]\n")[2] or text


class FaultServer:
    """A running server and what it saw."""

    def __init__(self, plan: Plan = calm, *, tls: ssl.SSLContext | None = None) -> None:
        self.plan = plan
        self.asked: list[dict[str, Any]] = []
        """Bodies of all requests, in the order they came."""
        self.times: list[float] = []
        """When they came, monotonic."""
        self.steps: list[Step] = []
        """What was done to each."""
        self.headers: list[str] = []
        self.connections = 0
        self.dropped = 0
        """Hanging or dripping connections that the client gave up."""
        self.in_flight = self.most_in_flight = 0
        self.port = 0
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._waiting: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/v1"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and reset every connection."""
        self._server.close()
        for writer in list(self._writers):
            reset(writer)

    def go_down(self, seconds: float) -> None:
        """Refuse connections for a while, from now on."""

        async def pause() -> None:
            await self.close()
            await asyncio.sleep(seconds)
            await self.open()

        task = asyncio.get_running_loop().create_task(pause())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._server.is_serving():  # accepted in the moment in which it went down
            reset(writer)
            return
        self.connections += 1
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                if (start := await reader.readexactly(1)) == b"\x16":  # a TLS client; answered as web servers do
                    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    break
                head = (start + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(line[15:] for line in head.splitlines() if line.lower().startswith("content-length:"))
                body = json.loads(await reader.readexactly(int(length)))
                if not await self._one(body, head, reader, writer):
                    break
        self._writers.discard(writer)
        writer.close()

    async def _one(
        self, body: dict[str, Any], head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; whether the connection can be used again."""
        self.asked.append(body)
        self.times.append(time.monotonic())
        self.headers.append(head)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            step = self.plan(body)
            self.steps.append(step)
            return await self._do(step, body, reader, writer)
        finally:
            self.in_flight -= 1

    async def _do(
        self, step: Step, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if step.get("down"):
            self.go_down(step["down"])
            return False
        await asyncio.sleep(step.get("delay", 0))
        if step.get("hang"):
            await reader.read(1)  # returns when the client gives up
            self.dropped += 1
            return False
        data = payload(step, body)
        lines = {"content-type": "application/json", "content-length": len(data), **step.get("headers", {})}
        start = f"HTTP/1.1 {step.get('status', 200)} Said\r\n"
        headers = (start + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n").encode()
        if "cut" in step:
            sent = {"before headers": b"", "after headers": headers, "mid-body": headers + data[: len(data) // 2]}
            writer.write(sent[step["cut"]])
            await writer.drain()
            await asyncio.sleep(0.02)  # so that what was sent arrives before the reset
            reset(writer)
            return False
        if "drip" in step:
            return await self._drip(headers, data, step["drip"], reader, writer)
        writer.write(headers + data)
        await writer.drain()
        return True

    async def _drip(
        self, headers: bytes, data: bytes, seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        writer.write(headers)
        for place in range(len(data)):
            writer.write(data[place : place + 1])
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), seconds)  # returns when the client gives up
                self.dropped += 1
                return False
        return True


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a crashed process does: the other side sees a reset, not an end."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def payload(step: Step, body: dict[str, Any]) -> bytes:
    """The body of an answer."""
    if "json" in step:
        return json.dumps(step["json"]).encode()
    if "text" in step:
        return str(step["text"]).encode()
    if "bytes" in step:
        return str(step["bytes"]).encode("latin-1")
    message = {"role": "assistant", "content": good_text(body["messages"]), **step.get("message", {})}
    if "repeat" in step:
        message["content"] *= step["repeat"]
    choice = {"index": 0, "finish_reason": "stop", "message": message, **step.get("choice", {})}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
    return json.dumps({**answer, "usage": usage, **step.get("top", {})}).encode()


STORM = {"wait": 0.30, "reset": 0.05, "hang": 0.02}
"""What strikes how many of the requests in a storm: 429 with Retry-After, a reset, no answer at all."""


class Storm:
    """A plan: a storm of so many requests, then slow answers. Drawn from the requests: no matter of luck."""

    def __init__(self, server: FaultServer, requests: int, seconds: float = 0.5) -> None:
        self.struck: Counter[str] = Counter()
        """How many requests were struck, by what."""
        self.answering_after: list[int] = []
        """Of every request after the storm: how many, itself included, the server was answering just then."""
        self._server = server
        self._left = requests
        self._seconds = seconds
        self._asked: Counter[str] = Counter()

    def __call__(self, body: dict[str, Any]) -> Step:
        words = json.dumps(body["messages"])
        self._asked[words] += 1
        if self._left == 0:
            hanging = self.struck["hang"] - self._server.dropped
            self.answering_after.append(self._server.in_flight - hanging)
            return {"delay": self._seconds}
        self._left -= 1
        kind = self._drawn(f"{words}{self._asked[words]}")
        if kind is None:
            return {"delay": 0.01}
        self.struck[kind] += 1
        return {
            "wait": {"status": 429, "headers": {"Retry-After": "0.05"}, "json": {"error": {"message": "storm"}}},
            "reset": {"cut": ("before headers", "after headers", "mid-body")[self._asked[words] % 3]},
            "hang": {"hang": True},
        }[kind]

    def _drawn(self, address: str) -> str | None:
        luck = int.from_bytes(hashlib.sha256(address.encode()).digest()[:4]) / 2**32
        for kind, share in STORM.items():
            if luck < share:
                return kind
            luck -= share
        return None


def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """What a server with this certificate and key listens with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@contextmanager
def serving(plan: Plan = calm, *, tls: ssl.SSLContext | None = None) -> Iterator[FaultServer]:
    """Serve on a free port of 127.0.0.1, in a thread with a loop of its own, until the block ends."""
    server, ready = FaultServer(plan, tls=tls), threading.Event()
    ends: list[Callable[[], object]] = []

    async def life() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # it breaks connections on purpose
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(over.set))
        await server.open()
        ready.set()
        await over.wait()
        await server.close()

    thread = threading.Thread(target=asyncio.run, args=(life(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        ends[0]()
        thread.join()


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
