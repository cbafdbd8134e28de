"""A lean OpenAI-compatible server in a process of its own, so that a bench measures the client and not the server.

    python bench/fake_server.py [--port 0] [--latency SECONDS] [--cap N] [--words N] [--remember]

Prints its address. `POST /v1/chat/completions` answers with text that depends on the prompt alone: a judge's prompt
gets a verdict (the same reply wins in both orders) or a score, any other prompt some sentences. `GET /counters` tells
what it was asked, `POST /reset` begins anew, `GET /asked` lists the requests (with `--remember`).
"""

import argparse
import asyncio
import hashlib
import json
import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

# The client's side -----------------------------------------------------------------------------------


class Served:
    """A running server, seen from a bench."""

    def __init__(self, url: str) -> None:
        """`url` ends in `/v1`, as clients want it."""
        self.url = url
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=60)

    def counters(self) -> dict[str, Any]:
        """What the server was asked since the last reset; the names are those of `Counters.shown`."""
        return json.loads(self._said("GET", "/counters"))

    def asked(self) -> list[str]:
        """Every request as `MODEL HASH`, in the order they came; needs `--remember`."""
        return self._said("GET", "/asked").decode().splitlines()

    def reset(self) -> None:
        """Set all counters to nothing."""
        self._said("POST", "/reset")

    def close(self) -> None:
        """Close the connection of the counters."""
        self._connection.close()

    def _said(self, method: str, path: str) -> bytes:
        self._connection.request(method, path)
        return self._connection.getresponse().read()


@contextmanager
def serving(*options: str) -> Iterator[Served]:
    """A server with these command-line options, until the block ends (or this process does)."""
    words = [sys.executable, __file__, "--until-stdin-ends", *options]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        served = Served(process.stdout.readline().strip())
        try:
            yield served
        finally:
            served.close()
            process.stdin.close()


def digest(model: str, messages: list[dict[str, str]]) -> str:
    """`MODEL HASH`: how `GET /asked` names a request."""
    said = json.dumps([[message["role"], message["content"]] for message in messages])
    return f"{model} {hashlib.sha256(said.encode()).hexdigest()[:24]}"


# The server's side -----------------------------------------------------------------------------------

_VOCABULARY = (
    "the of and to in is you that it he was for on are as with his they at be this have from or one had by word but "
    "not what all were we when your can said there use an each which she do how their if will up other about out many "
    "then them these so some her would make like him into time has look two more write go see number no way could my "
    "than first water been call who oil its now find long down day did get come made may part dinner garden train "
    "music weather morning coffee guitar river kitchen holiday weekend walk dog city recipe film friend people"
)
_WORDS = _VOCABULARY.split()


def _sentences(count: int) -> list[str]:
    """`count` words that read as sentences from afar."""
    words = [_WORDS[crc32(f"{place}".encode()) % len(_WORDS)] for place in range(count)]
    for place in range(0, count, 11):
        words[place] = words[place].capitalize()
        words[place - 1] += "."
    return words


_TEXT = _sentences(8192)


def text_of(number: int, words: int) -> str:
    """Between half and one and a half times `words` words, by `number` alone."""
    start, length = number % 8000, words // 2 + (number >> 16) % (words + 1)
    return " ".join(_TEXT[start : start + max(length, 3)]).strip(".").capitalize() + "."


def reply_to(prompt: str, number: int, words: int) -> str:
    """What is said to a prompt with this last message; `number` is its hash."""
    text = text_of(number, words)
    if "Verdict: A" in prompt:
        _, _, replies = prompt.partition("Reply A:")
        first, _, rest = replies.partition("Reply B:")
        second = rest.partition("\n\n")[0]
        # By the replies' own hashes, so that both orders agree and preference pairs come of it.
        a, b = crc32(first.strip().encode()), crc32(second.strip().encode())
        return f"{text}\nVerdict: {'A' if a >= b else 'B'}"
    if "Score: N" in prompt:
        return f"{text}\nScore: {1 + number % 5}"
    return text


class Counters:
    """What the server was asked since it was reset."""

    def __init__(self, cap: int | None, remember: bool) -> None:
        self.cap = cap
        self._remember = remember
        self.reset()

    def reset(self) -> None:
        self.requests = 0
        self.in_flight = 0
        self.most = 0
        self.refused = 0
        self.prompts = 0
        self.asked: list[str] = []
        self._begun = array("d")
        self._ended = array("d")

    def begin(self) -> bool:
        """A request has come; False if the cap refuses it."""
        self.requests += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        if self.cap is not None and self.in_flight > self.cap:
            self.refused += 1
            return False
        return True

    def end(self, began: float, was_refused: bool = False) -> None:
        """The reply to a request goes out."""
        # A reset may lie between the two.
        self.in_flight = max(0, self.in_flight - 1)
        if not was_refused:
            self._begun.append(began)
            self._ended.append(monotonic())

    def note(self, model: str, messages: list[dict[str, str]], number: int) -> None:
        """Which prompt it was."""
        self.prompts = (self.prompts + number) & 0xFFFFFFFF
        if self._remember:
            self.asked.append(digest(model, messages))

    def shown(self) -> dict[str, Any]:
        """All figures as JSON."""
        begun, ended = sorted(self._begun), sorted(self._ended)
        count = len(begun)
        # Steady: neither the start, when connections are made, nor the end, when the last trees thin out.
        early, late = (begun[count // 10], begun[count * 7 // 10]) if count >= 10 else (0.0, 0.0)
        return {
            "requests": self.requests,
            "in_flight": self.in_flight,
            "most_in_flight": self.most,
            "refused": self.refused,
            "prompts": self.prompts,  # the same conversations, the same number
            "seconds": ended[-1] - begun[0] if count else 0.0,  # from the first request to the last reply
            "mean_in_flight": self._mean(begun[0], ended[-1]) if count else 0.0,
            "steady_seconds": late - early,  # from the request at 10 % to that at 70 %
            "steady_in_flight": self._mean(early, late),
        }

    def _mean(self, start: float, end: float) -> float:
        """Requests in flight, averaged over this time."""
        busy = sum(
            max(0.0, min(ended, end) - max(begun, start)) for begun, ended in zip(self._begun, self._ended, strict=True)
        )
        return busy / (end - start) if end > start else 0.0


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time. HTTP/1.1 as clients of chat servers write it, nothing more."""

    def __init__(self, counters: Counters, latency: float, words: int) -> None:
        self._counters = counters
        self._latency = latency
        self._words = words
        self._buffer = b""
        self._waiting: asyncio.TimerHandle | None = None
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
            self._counters.end(self._began)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head, blank, rest = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        length = _content_length(head)
        if len(rest) >= length:
            self._buffer = rest[length:]
            self._request(head.partition(b" HTTP/")[0].decode(), rest[:length])

    def _request(self, line: str, body: bytes) -> None:
        if line == "POST /v1/chat/completions":
            self._chat(json.loads(body), len(body))
        elif line == "GET /counters":
            self._send(200, json.dumps(self._counters.shown()).encode())
        elif line == "GET /asked":
            self._send(200, "\n".join(self._counters.asked).encode())
        elif line == "POST /reset":
            self._counters.reset()
            self._send(200, b"{}")
        else:
            self._send(404, b'{"error": {"message": "no such page"}}')

    def _chat(self, body: dict[str, Any], size: int) -> None:
        began = monotonic()
        if not self._counters.begin():
            self._counters.end(began, was_refused=True)
            self._send(429, b'{"error": {"message": "more requests at once than this server takes"}}')
            return
        first, last = (body["messages"][place]["content"] for place in (0, -1))
        # The first message tells the conversations apart: every user begins on the same last one.
        number = crc32(last.encode("utf-8", "replace"), crc32(first.encode("utf-8", "replace")))
        self._counters.note(body["model"], body["messages"], number)
        answer = _completion(body["model"], reply_to(last, number, self._words), size // 4)
        if self._latency:
            self._began = began
            self._waiting = asyncio.get_running_loop().call_later(self._latency, self._answer, answer)
        else:
            self._counters.end(began)
            self._send(200, answer)

    def _answer(self, answer: bytes) -> None:
        self._waiting = None
        self._counters.end(self._began)
        self._send(200, answer)

    def _send(self, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _content_length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"\r\ncontent-length:")
    return int(after.partition(b"\r\n")[0] or 0)


def _completion(model: str, text: str, prompt_tokens: int) -> bytes:
    spoken = len(text) // 4
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": spoken, "total_tokens": prompt_tokens + spoken}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}
    return json.dumps(body).encode()


async def serve(asked: argparse.Namespace) -> None:
    """Serve until this process is ended."""
    counters = Counters(asked.cap, asked.remember)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(counters, asked.latency, asked.words), "127.0.0.1", asked.port, backlog=4096
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    over = asyncio.Event()
    if asked.until_stdin_ends:
        loop.add_reader(sys.stdin, lambda: os.read(sys.stdin.fileno(), 1024) or over.set())
    await over.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds from a request to its reply")
    parser.add_argument("--cap", type=int, help="most requests at once; more are refused with 429 and counted")
    parser.add_argument("--words", type=int, default=40, help="words of a reply, on average")
    parser.add_argument("--remember", action="store_true", help="keep the hash of every request for GET /asked")
    parser.add_argument("--until-stdin-ends", action="store_true", help="end with the process that started it")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
