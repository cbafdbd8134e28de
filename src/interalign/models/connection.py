"""The connection pool of one OpenAI-compatible server, shared by all models there; one attempt and its outcome."""

import asyncio
import io
import logging
import os
import ssl
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from interalign.config import Runtime
from interalign.errors import ConfigError, FailedTreeError, StopError
from interalign.models.access import Access, warned_of
from interalign.models.faults import AttemptContext, Transient, fault_of_status, read_reply
from interalign.models.governor import Governor
from interalign.models.request import Request, Shape
from interalign.records import Reply

_LOG = logging.getLogger("interalign")
_LARGEST = 16 * 2**20
"""Bytes of a body; what is longer is no reply to a chat message."""
_LARGE = 2**20
"""Bytes of a request from which on it is sent in pieces."""
_CONNECTING = 15.0
"""Most seconds until there is a connection; a tenth of the deadline if that is less, so that it fits in an attempt."""
_RESHAPED = frozenset({400, 404, 406, 415, 422, 424, 500, 501})
"""Statuses of a refusal that may be about the shape of a request."""


class ReshapeError(Exception):
    """The server does not take the request as it was written, but may take it in another shape."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(str(shape))
        self.shape = shape


class Connection:
    """The connections to one address."""

    def __init__(self, url: str, access: Access, runtime: Runtime) -> None:
        limit, connecting = runtime.concurrency, min(_CONNECTING, runtime.deadline / 10)
        self.url = url
        self.access = access
        self.governor = Governor(limit, runtime.deadline / 2)
        self.users = 0
        self._endpoint = URL(f"{url}/chat/completions").with_query(access.query or None)
        is_secure = url.startswith("https:") or (access.proxy is not None and access.proxy.scheme == "https")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit, ssl=_certificates() if is_secure else True),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=dict(access.headers),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connecting),
            proxy=access.proxy,
        )

    async def ask(self, asked: AttemptContext, request: Request, shape: Shape) -> Reply:
        """One attempt; Transient if another one makes sense, ReshapeError if one in another shape does, and
        BadContentError, FailedTreeError or StopError if not.
        """
        status, headers, answer = await self._sent(request.body(shape))
        if answer is None:
            raise FailedTreeError(f"{self.url} answered {asked.model} with more than {_LARGEST // 2**20} MB")
        answer = self.access.masked(answer)
        if status < 300:
            return read_reply(asked, answer)
        text = answer.decode("utf-8", "replace")
        if status in _RESHAPED and (other := request.reshaped(shape, text)) is not None:
            raise ReshapeError(other)
        raise fault_of_status(asked, status, headers, text, request.fields(shape))

    async def _sent(self, body: bytes) -> tuple[int, dict[str, str], bytes | None]:
        """Status, headers (in lower case, only of what is no success) and body of the answer; None: it is too large."""
        try:
            async with self._session.post(self._endpoint, data=_payload(body), allow_redirects=False) as response:
                answer = await _read(response)
        except aiohttp.ClientSSLError as error:
            why = self._safe(str(error.__cause__ or error))
            raise StopError(f"{self.url}: no secure connection ({why}); mend the server or its certificate") from None
        except aiohttp.ClientHttpProxyError as error:
            raise self._proxy_refused(error) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Transient(self._safe(f"{error}{self._through()}"), unreachable=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Transient(f"the connection broke: {self._safe(repr(error))}") from None
        if response.status < 300:
            return response.status, {}, answer
        return response.status, {name.lower(): self._safe(said) for name, said in response.headers.items()}, answer

    def _proxy_refused(self, error: aiohttp.ClientHttpProxyError) -> StopError | Transient:
        """The proxy did not let the request through: for good, or because it does not reach the server just now."""
        said = self._safe(f"{error.status} {error.message}{self._through()}")
        if error.status >= 500 or error.status == 429:
            return Transient(said, unreachable=True)
        return StopError(f"{self.url} cannot be reached ({said}); mend the proxy, or its login, and run again")

    def _through(self) -> str:
        proxy = self.access.proxy
        return f" through the proxy {proxy.host}:{proxy.port}" if proxy else ""

    def _safe(self, text: str) -> str:
        return " ".join(self.access.masked(text.encode("utf-8", "replace")).decode().split())[:200]

    async def release(self) -> None:
        """Drop one reference; the last one closes the connections (reference counting)."""
        self.users -= 1
        if self.users == 0:
            pool = _POOLS[asyncio.get_running_loop()]
            for place in [place for place, connection in pool.items() if connection is self]:
                del pool[place]
            await self._session.close()


_POOLS: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, Access, Runtime], Connection]]" = (
    WeakKeyDictionary()
)
"""Connections in use, by event loop: they belong to one loop, and models share them without knowing each other."""


def connection_to(url: str, access: Access, runtime: Runtime) -> Connection:
    """The connections to this address that all models of a run share; `release` them after use."""
    pool = _POOLS.setdefault(asyncio.get_running_loop(), {})
    place = (url, access, runtime)
    if place not in pool:
        pool[place] = Connection(url, access, runtime)
        if warning := warned_of(url, access):
            _LOG.warning("%s", warning)
    pool[place].users += 1
    return pool[place]


def refuse_unreadable_certificates() -> None:
    """ConfigError if SSL_CERT_FILE cannot be read: no certificate could be verified."""
    told = os.environ.get("SSL_CERT_FILE")
    if told and not os.access(told, os.R_OK):
        raise ConfigError(f"SSL_CERT_FILE names {told!a}, which cannot be read; mend it, or take it out")


def _certificates() -> ssl.SSLContext:
    """The system's authorities and, unless the environment names others, Mozilla's: some systems come without."""
    context = ssl.create_default_context()
    if not os.environ.get("SSL_CERT_FILE") and not os.environ.get("SSL_CERT_DIR"):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _payload(body: bytes) -> bytes | io.BytesIO:
    """The body as aiohttp wants it: a large one as a file, which it sends in pieces."""
    return body if len(body) < _LARGE else io.BytesIO(body)


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The whole body, None if it is too large. Read in pieces, since the server decides how much it sends."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > _LARGEST:
            return None
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
