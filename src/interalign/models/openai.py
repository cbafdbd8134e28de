"""`openai:` models: any OpenAI-compatible server."""

import os
from typing import Any

from interalign.config import Parameters, Runtime
from interalign.errors import ConfigError, FailedTreeError, InteralignError, StopError
from interalign.models.langchain import LangChainModel


class OpenAIModel(LangChainModel):
    """ChatOpenAI with its retries off. What a server's error means is decided here, once."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        from langchain_openai import ChatOpenAI
        from openai import DefaultAsyncHttpxClient

        self._server = runtime.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        # Of our own: LangChain shares one over the process, and its connections die with the first run's event loop.
        self._http = DefaultAsyncHttpxClient(timeout=runtime.deadline)
        chat = ChatOpenAI(
            model=name.partition(":")[2],
            base_url=self._server,
            api_key=_key(self._server),
            max_retries=0,
            timeout=runtime.deadline,
            http_async_client=self._http,
        )
        super().__init__(name, chat)

    async def close(self) -> None:
        """Close the connections; the model cannot be asked any more."""
        await self._http.aclose()

    def request(self, parameters: Parameters) -> dict[str, Any]:
        """Sampling settings as ChatOpenAI takes them; what OpenAI does not know goes into the body all the same."""
        known = parameters.model_dump(exclude={"extra"}, exclude_none=True)
        return {**known, "extra_body": parameters.extra} if parameters.extra else known

    def translate(self, error: Exception) -> InteralignError:
        """A key, a model or a server that is not there stops the run; anything else ends this conversation only."""
        import openai

        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return StopError(f"{self._server} refused the key; set OPENAI_API_KEY and run the same command again")
        if isinstance(error, openai.NotFoundError):
            return StopError(f"{self._server} has no model {self.name!r} (404); name one it serves, or mend --base-url")
        if isinstance(error, openai.APITimeoutError):
            return FailedTreeError(f"{self._server} did not answer within the deadline; raise --deadline")
        if isinstance(error, openai.APIConnectionError):
            return StopError(f"{self._server} cannot be reached; start the server or mend --base-url, then run again")
        if isinstance(error, openai.APIStatusError):
            said = " ".join(_without_key(error.response.text).split())[:200]
            return FailedTreeError(f"{self._server} refused a request to {self.name} ({error.status_code}): {said}")
        return super().translate(error)


def openai_model(spec: str, runtime: Runtime) -> OpenAIModel:
    """The model behind `openai:NAME`, served by `runtime.base_url`, OPENAI_BASE_URL or OpenAI itself."""
    return OpenAIModel(spec, runtime)


def _key(server: str) -> str:
    key = os.environ.get("OPENAI_API_KEY")
    if key:
        return key
    if "api.openai.com" in server:
        raise ConfigError("no key for api.openai.com: set OPENAI_API_KEY, or name your own server with --base-url")
    return "none"  # Servers of one's own often want no key, but the client wants a value.


def _without_key(text: str) -> str:
    key = os.environ.get("OPENAI_API_KEY")
    return text.replace(key, "(key)") if key else text
