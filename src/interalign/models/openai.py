"""`openai:` models: any OpenAI-compatible server, over one shared pool of connections a server.

A plain client of our own: it builds the request from our messages and reads the reply with the fault table at hand.
"""

import asyncio
import io
import json
import logging
import os
import re
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import Any
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary
from zlib import crc32

import aiohttp
from yarl import URL

from interalign.config import Parameters, Runtime, split_address
from interalign.errors import ConfigError, FailedTreeError, StopError
from interalign.models.base import Reply, provider_seed
from interalign.models.faults import Asked, Transient, fault_of_status, read_reply
from interalign.models.governor import Governor
from interalign.models.retry import DeadlineError, answered
from interalign.tree import Message

_LOG = logging.getLogger("interalign")
_OPENAI = "https://api.openai.com/v1"
_OPENAIS_HOSTS = (".openai.com", ".openai.azure.com")
_LARGEST = 16 * 2**20
"""Bytes of a body; what is longer is no reply to a chat message."""
_LARGE = 2**20
"""Bytes of a request from which on it is sent in pieces."""
_CONNECTING = 15.0
"""Most seconds until there is a connection; a tenth of the deadline if that is less, so that it fits in an attempt."""
_SURROGATES = re.compile("[\ud800-\udfff]")


class OpenAIModel:
    """A chat model behind one or several OpenAI-compatible servers; a ChatModel."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name, address = split_address(name)
        address = address or dict(runtime.addresses).get(self.name)
        self.retried = 0
        """Requests that were sent again."""
        self._model = self.name.partition(":")[2]
        self._runtime = runtime
        self._urls = [_checked(url) for url in ([address] if address else _base_urls(runtime))]
        self._key = _key(self._urls)
        # OpenAI's newer models refuse the old name of the limit; many other servers do not know the new one.
        at_openai = all((URL(url).host or "").endswith(_OPENAIS_HOSTS) for url in self._urls)
        self._limit = "max_completion_tokens" if at_openai else "max_tokens"
        self._servers: list[_Server] = []
        self._renamed = False
        self._stopped = ""

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """One reply, asked for again as long as the deadline allows; what each fault means is in docs/faults.md.

        After a StopError no request is sent any more: every further call raises it too.
        """
        if self._stopped:
            raise StopError(self._stopped)
        try:
            return self._named(await self._patiently(messages, parameters, seed))
        except StopError as error:
            self._stopped = str(error)
            raise

    async def _patiently(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        if not self._servers:
            self._servers = [_server(url, self._key, self._runtime) for url in self._urls]
        turn = sum(message.role == "user" for message in messages)
        body = _encoded(self._body(messages, parameters, seed))
        try:
            return await answered(
                self._servers,
                lambda server: server.ask(Asked(server.url, self.name, turn), body),
                self._runtime.deadline,
                self._retrying,
                (self.name, id(parameters)),  # a seat hands in the same object with every call
                crc32(messages[0].content.encode("utf-8", "replace")) if messages else 0,
            )
        except DeadlineError as error:
            raise self._too_late(error) from None

    async def close(self) -> None:
        """Close the connections that no other model of the run uses; the next call would open new ones."""
        servers, self._servers = self._servers, []
        for server in servers:
            await server.release()

    def _body(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> dict[str, Any]:
        settings = {
            "temperature": parameters.temperature,
            "top_p": parameters.top_p,
            self._limit: parameters.max_tokens,
            "seed": provider_seed(parameters, seed),
        }
        given = {name: value for name, value in settings.items() if value is not None}
        chat = [{"role": message.role, "content": message.content} for message in messages]
        return {**given, **parameters.extra_body, "model": self._model, "messages": chat, "stream": False}

    def _retrying(self) -> None:
        self.retried += 1

    def _too_late(self, error: DeadlineError) -> StopError | FailedTreeError:
        """What it means that the deadline is over: nobody there for half of it or more stops the run, anything else
        ends one tree.
        """
        where = " and ".join(server.url for server in self._servers)
        since = monotonic() - self._runtime.deadline / 2
        silent = all(server.governor.last_answer < since for server in self._servers)
        if error.last is not None and error.last.unreachable and silent:
            return StopError(
                f"{where} cannot be reached ({error.last}); start the server or mend --base-url, then run again"
            )
        return FailedTreeError(f"{where} did not answer within the deadline; raise --deadline ({error})")

    def _named(self, reply: Reply) -> Reply:
        """The same reply; the first one that comes under another name is said aloud."""
        # `gpt-4o-2024-08-06` for `gpt-4o`, or `name@main`, is the same model said more precisely.
        if not self._renamed and not reply.model.startswith((self._model, self.name)):
            self._renamed = True
            _LOG.warning("%s answers under another name: %s (kept on record)", self.name, ascii(reply.model)[:200])
        return reply


def openai_model(spec: str, runtime: Runtime) -> OpenAIModel:
    """The model behind `openai:NAME`, served by `runtime.base_url`, OPENAI_BASE_URL or OpenAI itself.

    Raises ConfigError for an address that is none, and if OpenAI itself is meant and there is no key.
    """
    return OpenAIModel(spec, runtime)


class _Server:
    """The connections to one address, shared by all models of a run that are served there."""

    def __init__(self, url: str, key: str, runtime: Runtime) -> None:
        limit, connecting = runtime.concurrency, min(_CONNECTING, runtime.deadline / 10)
        self.url = url
        self.governor = Governor(limit, runtime.deadline / 2)
        self.users = 0
        self._key = key
        self._endpoint = URL(f"{url}/chat/completions")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit, ssl=_certificates() if url.startswith("https:") else True),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_headers(key),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connecting),
            proxy=_proxy(self._endpoint),
        )

    async def ask(self, asked: Asked, body: bytes) -> Reply:
        """One attempt; Transient if another one makes sense, BadContentError, FailedTreeError or StopError if not."""
        try:
            async with self._session.post(self._endpoint, data=_payload(body), allow_redirects=False) as response:
                status, headers, answer = response.status, response.headers, await _read(response)
        except aiohttp.ClientSSLError as error:
            why = _safe(str(error.__cause__ or error), self._key)
            raise StopError(f"{self.url}: no secure connection ({why}); mend the server or its certificate") from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Transient(_safe(str(error), self._key), unreachable=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Transient(f"the connection broke: {_safe(repr(error), self._key)}") from None
        if answer is None:
            raise FailedTreeError(f"{self.url} answered {asked.model} with more than {_LARGEST // 2**20} MB")
        answer = _without(answer, self._key)
        if status != 200:
            told = {name.lower(): _safe(value, self._key) for name, value in headers.items()}
            raise fault_of_status(asked, status, told, answer.decode("utf-8", "replace"))
        return read_reply(asked, answer)

    async def release(self) -> None:
        """One user fewer; the last one closes the connections."""
        self.users -= 1
        if self.users == 0:
            pool = _POOLS[asyncio.get_running_loop()]
            for place in [place for place, server in pool.items() if server is self]:
                del pool[place]
            await self._session.close()


_POOLS: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, Runtime], _Server]]" = WeakKeyDictionary()
"""Servers in use, by event loop: connections belong to one, and models do not know of each other."""


def _server(url: str, key: str, runtime: Runtime) -> _Server:
    pool = _POOLS.setdefault(asyncio.get_running_loop(), {})
    place = (url, runtime)
    if place not in pool:
        pool[place] = _Server(url, key, runtime)
    pool[place].users += 1
    return pool[place]


def _payload(body: bytes) -> bytes | io.BytesIO:
    """The body as aiohttp wants it: a large one as a file, which it sends in pieces."""
    return body if len(body) < _LARGE else io.BytesIO(body)


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The whole body, None if it is too large. Read in pieces: a server decides how much it sends, not we."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > _LARGEST:
            return None
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _encoded(body: dict[str, Any]) -> bytes:
    """JSON in UTF-8. Lone surrogates, which UTF-8 does not have and strict servers refuse, go out as U+FFFD."""
    text = json.dumps(body, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text).encode()


def _headers(key: str) -> dict[str, str]:
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # unpacking costs more than a few kB on the way
        "User-Agent": "interalign",
    }
    named = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
    return headers | {header: os.environ[name] for header, name in named.items() if os.environ.get(name)}


def _proxy(endpoint: URL) -> str | None:
    """The proxy that the environment names for this address, looked up once."""
    host = endpoint.host or ""
    if host in ("localhost", "127.0.0.1", "::1") or proxy_bypass(host):
        return None
    return getproxies().get(endpoint.scheme)


def _certificates() -> ssl.SSLContext:
    """The system's authorities and, unless the environment names others, Mozilla's: some systems come without."""
    context = ssl.create_default_context()
    if not os.environ.get("SSL_CERT_FILE") and not os.environ.get("SSL_CERT_DIR"):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _base_urls(runtime: Runtime) -> Sequence[str]:
    """Where models without an address of their own are served, each address once."""
    given = [runtime.base_url] if isinstance(runtime.base_url, str) else runtime.base_url or ()
    return list(dict.fromkeys(given)) or (os.environ.get("OPENAI_BASE_URL") or _OPENAI).split()


def _checked(url: str) -> str:
    """The address without a slash at its end; ConfigError if it is none, or holds a password."""
    try:
        parts = URL(url)
        (parts.raw_host or "").encode("idna")  # as the look-up of the name does; a UnicodeError is a ValueError
    except ValueError:
        parts = URL()
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ConfigError(f"{url!a} is no address of a server; write it like http://localhost:8000/v1")
    if parts.user or parts.password:
        raise ConfigError(f"the address of {parts.host} holds a key or password; set OPENAI_API_KEY instead")
    if parts.query_string or parts.fragment:
        raise ConfigError(f"the address of {parts.host} holds a `?` or `#`; give it only up to the path, such as /v1")
    return url.rstrip("/").removesuffix("/chat/completions")


def _key(urls: Sequence[str]) -> str:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and any("api.openai.com" in url for url in urls):
        raise ConfigError("no key for api.openai.com: set OPENAI_API_KEY, or name your own server with --base-url")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("OPENAI_API_KEY holds a character that no key has; set it again")
    return key or "none"  # Servers of one's own often want no key, but some want the header.


def _without(body: bytes, key: str) -> bytes:
    """The body; the key, which some servers repeat in what they refuse, is never kept or shown."""
    return body.replace(key.encode(), b"(key)") if len(key) > len("(key)") else body


def _safe(text: str, key: str) -> str:
    return " ".join(_without(text.encode("utf-8", "replace"), key).decode().split())[:200]
