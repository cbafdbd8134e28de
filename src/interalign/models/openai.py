"""`openai:` models: any OpenAI-compatible server, over one shared pool of connections a server.

A plain client of our own: it builds the request from our messages and reads the reply with the fault table at hand.
"""

import logging
from collections.abc import Sequence
from time import monotonic
from typing import Any
from zlib import crc32

from yarl import URL

from interalign.config import Parameters, Runtime, TokenLimit
from interalign.errors import FailedTreeError, StopError
from interalign.model_spec import ModelSpec
from interalign.models.access import access_to, addresses_in, addresses_of, settings_of
from interalign.models.connection import Connection, ReshapeError, connection_to, refuse_unreadable_certificates
from interalign.models.faults import AttemptContext
from interalign.models.request import Request, Shape, difference
from interalign.models.retry import DeadlineError, RetryUselessError, ask_until_answered
from interalign.records import Reply
from interalign.tree import Message

_LOG = logging.getLogger("interalign")
_OPENAI_HOSTS = (".openai.com", ".openai.azure.com")


class OpenAIModel:
    """A chat model behind one or several OpenAI-compatible servers; a ChatModel."""

    def __init__(self, spec: ModelSpec, runtime: Runtime) -> None:
        self.name = spec.known_as
        self.retried = 0
        """Requests that were sent again."""
        self._model = spec.name
        self._runtime = runtime
        urls = addresses_of(spec.address or dict(runtime.addresses).get(self.name), runtime)
        run = addresses_in(runtime, urls)
        self._accesses = {url: access_to(url, run, runtime) for url in urls}
        self._shapes = {url: _first_shape(url, runtime) for url in urls}
        if any(url.startswith("https:") for url in urls):
            refuse_unreadable_certificates()
        self._servers: list[Connection] = []
        self._is_renamed = False
        self._stopped = ""

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """One reply, asked for again as long as the deadline allows; what each fault means is in docs/faults.md.

        After a StopError no further request is sent: every further call raises it too.
        """
        if self._stopped:
            raise StopError(self._stopped)
        try:
            return self._named(await self._with_retries(messages, parameters, seed))
        except StopError as error:
            self._stopped = str(error)
            raise

    async def _with_retries(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        if not self._servers:
            self._servers = [connection_to(url, access, self._runtime) for url, access in self._accesses.items()]
        call = _Attempts(self, Request(self._model, messages, parameters, seed), messages)
        try:
            return await ask_until_answered(
                self._servers,
                call.ask,
                self._runtime.deadline,
                self._retrying,
                (self.name, id(parameters)),  # a seat hands in the same object with every call
                crc32(messages[0].content.encode("utf-8", "replace")) if messages else 0,
            )
        except DeadlineError as error:
            raise self._too_late(error) from None
        except RetryUselessError as error:
            raise error.as_stop(self._where()) from None

    async def close(self) -> None:
        """Close the connections that no other model of the run uses; the next call would open new ones."""
        servers, self._servers = self._servers, []
        for server in servers:
            await server.release()

    def shape_at(self, server: Connection) -> Shape:
        """How requests to this server are written."""
        return self._shapes[server.url]

    def learn(self, server: Connection, refused: Shape, better: Shape) -> None:
        """Use the better shape for this server from now on, unless another call has changed it already."""
        if self._shapes[server.url] == refused:
            self._shapes[server.url] = better
            _LOG.warning("%s at %s %s", self.name, server.url, difference(refused, better))

    def _body(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> dict[str, Any]:
        """What is sent to the first server, as a JSON object."""
        shape = next(iter(self._shapes.values()))
        return Request(self._model, messages, parameters, seed).fields(shape)

    def _retrying(self) -> None:
        self.retried += 1

    def _where(self) -> str:
        return " and ".join(server.url for server in self._servers)

    def _too_late(self, error: DeadlineError) -> StopError | FailedTreeError:
        """What it means that the deadline is over: a server that was unreachable for half of it or more stops the
        run, anything else fails one tree.
        """
        where, now = self._where(), monotonic()
        since = now - self._runtime.deadline / 2
        governors = [server.governor for server in self._servers]
        silent = all(governor.last_answer < since or governor.asked_to_wait_until > now for governor in governors)
        if error.last is not None and error.last.unreachable and silent:
            return StopError(
                f"{where} cannot be reached ({error.last}); start the server or mend --base-url, then run again"
            )
        return FailedTreeError(f"{where} did not answer within the deadline; raise --deadline ({error})")

    def _named(self, reply: Reply) -> Reply:
        """The same reply; the first one under another model name is logged."""
        # `gpt-4o-2024-08-06` for `gpt-4o`, or `name@main`, is the same model, named more precisely.
        if not self._is_renamed and not reply.model.startswith((self._model, self.name)):
            self._is_renamed = True
            _LOG.warning("%s answers under another name: %s (kept on record)", self.name, ascii(reply.model)[:200])
        return reply


class _Attempts:
    """The attempts of one call: what is sent, and how many requests it took so far."""

    def __init__(self, model: OpenAIModel, request: Request, messages: Sequence[Message]) -> None:
        self._model = model
        self._request = request
        self._turn = sum(message.role == "user" for message in messages)
        self._sends = 0

    async def ask(self, server: Connection) -> Reply:
        """One attempt: a request, and another one at once if the server needs another shape."""
        while True:
            shape = self._model.shape_at(server)
            self._sends += 1
            access = server.access
            asked = AttemptContext(
                server.url, self._model.name, self._turn, access.key_from, access.is_given, self._sends
            )
            try:
                return await server.ask(asked, self._request, shape)
            except ReshapeError as error:
                self._model.learn(server, shape, error.shape)


def _first_shape(url: str, runtime: Runtime) -> Shape:
    """The shape of requests until the server refuses it."""
    # OpenAI's newer models refuse the old name of the limit; many other servers do not know the new one.
    at_openai = (URL(url).host or "").endswith(_OPENAI_HOSTS)
    usual: TokenLimit = "max_completion_tokens" if at_openai else "max_tokens"
    return Shape(settings_of(url, runtime).token_limit or usual)


def openai_model(name: str, runtime: Runtime) -> OpenAIModel:
    """The model of this full name, `openai:NAME`; errors as in `from_spec`."""
    return from_spec(ModelSpec.parse(name), runtime)


def from_spec(spec: ModelSpec, runtime: Runtime) -> OpenAIModel:
    """The model behind `openai:NAME`, served by `runtime.base_url`, OPENAI_BASE_URL or OpenAI itself.

    Raises ConfigError for an address that is none, a key, a header or a proxy that cannot be used, and if OpenAI itself
    is meant and there is no key.
    """
    return OpenAIModel(spec, runtime)
