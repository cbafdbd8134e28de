"""Where and how spans are sent, as OpenTelemetry's environment variables say it."""

import os
import ssl
import urllib.request
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from interalign.errors import ConfigError
from interalign.version import __version__

_PATH: Final = "/v1/traces"
_MASK: Final = "(key)"


@dataclass(frozen=True)
class OtelSettings:
    """Read once, before anything is sent."""

    url: str
    headers: dict[str, str] = field(repr=False)
    resource: dict[str, str]
    """What all spans say of where they come from."""
    is_compressed: bool = False
    certificates: tuple[str | None, str | None, str | None] = (None, None, None)
    """Files with whom to trust, with our own certificate, and with its key."""

    @classmethod
    def of(cls, endpoint: str | None) -> Self:
        """Those of the environment, `endpoint` instead of its address if it is given.

        ConfigError for what is no address, for another protocol or compression, and for a list that cannot be read.
        """
        protocol = _variable("PROTOCOL") or "http/protobuf"
        if protocol != "http/protobuf":
            raise ConfigError(f"{_name('PROTOCOL')}={protocol}: spans are sent by http/protobuf, mostly to port 4318")
        compression = _variable("COMPRESSION") or "none"
        if compression not in ("none", "gzip"):
            raise ConfigError(f"{_name('COMPRESSION')}={compression}: write none or gzip")
        return cls(
            url=_traces_url(endpoint),
            headers=_headers(),
            resource=_resource(),
            is_compressed=compression == "gzip",
            certificates=(_variable("CERTIFICATE"), _variable("CLIENT_CERTIFICATE"), _variable("CLIENT_KEY")),
        )

    def opener(self) -> urllib.request.OpenerDirector:
        """What sends requests, by the proxy that the environment names and no further than the receiver.

        ConfigError for a certificate that cannot be read.
        """
        trusted, own, key = self.certificates
        try:
            context = ssl.create_default_context(cafile=trusted)
            if own:
                context.load_cert_chain(own, key)
        except OSError as error:
            files = ", ".join(filter(None, self.certificates))
            raise ConfigError(f"{_name('CERTIFICATE')} and the client's ({files}): cannot be read ({error})") from None
        return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect())

    def without_secrets(self, text: str) -> str:
        """The text without the values of the headers, nor words of them, which some servers repeat."""
        for value in self.headers.values():
            for secret in (value, *value.split()):
                text = text.replace(secret, _MASK) if len(secret) > len(_MASK) else text
        return text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without the spans, and take its headers to another server."""

    def redirect_request(self, *asked: object) -> None:
        """No request: the answer is an error."""


def _name(setting: str) -> str:
    """The variable that holds a setting: the one for traces where it is set, else the one for everything."""
    of_traces = f"OTEL_EXPORTER_OTLP_TRACES_{setting}"
    return of_traces if os.environ.get(of_traces) else f"OTEL_EXPORTER_OTLP_{setting}"


def _variable(setting: str) -> str | None:
    return os.environ.get(_name(setting)) or None


def _traces_url(endpoint: str | None) -> str:
    """Where traces go: at the path `/v1/traces` of a base address, unless the address has it already.

    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is taken as it is, as OpenTelemetry says. Without any: port 4318 of this machine.
    """
    exact = None if endpoint else os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    base = exact or endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4318"
    _check_address(base)
    return base if exact or base.rstrip("/").endswith(_PATH) else base.rstrip("/") + _PATH


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not url.isascii() or any(sign <= " " for sign in url):
        raise ConfigError(f"{url!a} is no address of an OTLP receiver; write it like http://localhost:4318")
    if parts.username or parts.password:
        raise ConfigError(
            f"the address of {parts.hostname} holds a key or password; give it in OTEL_EXPORTER_OTLP_HEADERS"
        )


def _headers() -> dict[str, str]:
    found = _listed(_name("HEADERS"))
    for name, value in found.items():
        if not (name + value).isprintable() or not (name + value).isascii():
            raise ConfigError(f"{_name('HEADERS')}: the header {name!a} holds a character that cannot be sent")
    return found


def _resource() -> dict[str, str]:
    own = {"service.name": "interalign", "service.version": __version__, "openinference.project.name": "interalign"}
    service = os.environ.get("OTEL_SERVICE_NAME")
    return {**own, **_listed("OTEL_RESOURCE_ATTRIBUTES"), **({"service.name": service} if service else {})}


def _listed(name: str) -> dict[str, str]:
    """The pairs of a variable like `a=1,b=2`, values percent-decoded; ConfigError for what is no pair."""
    pairs: dict[str, str] = {}
    for number, pair in enumerate((os.environ.get(name) or "").split(","), start=1):
        key, sign, value = (part.strip() for part in pair.partition("="))
        if pair.strip() and not (key and sign):
            raise ConfigError(f"{name}: part {number} is no NAME=VALUE; write it like NAME=VALUE,NAME=VALUE")
        if key:
            pairs[key] = unquote(value)
    return pairs
