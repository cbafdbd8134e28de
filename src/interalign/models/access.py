"""Access to a server: its key, headers, query and proxy. A key is sent to no other server."""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from yarl import URL

from interalign.config import Runtime, ServerSettings
from interalign.errors import ConfigError
from interalign.models.proxies import proxy_for, usable_proxy

OPENAI = "https://api.openai.com/v1"
_OPENAI_KEY = "OPENAI_API_KEY"
_OPENAI_HOST = "api.openai.com"
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*)\}", re.ASCII)
_SECRET_NAME = re.compile(r"auth|key|token|secret|cookie|password|signature", re.IGNORECASE)
_MASK = "(key)"


@dataclass(frozen=True)
class Access:
    """How requests to one address are sent."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    proxy: URL | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Texts that must not be kept or shown, whatever repeats them."""
    key_from: str = ""
    """The environment variable whose key is sent; empty if none is."""
    is_given: bool = True
    """OPENAI_API_KEY is given for this server, be it set or not."""

    @property
    def is_authorized(self) -> bool:
        """Whether the user's own headers say who asks."""
        return not self.key_from and not any(name == "Authorization" for name, _ in self.headers)

    def masked(self, text: bytes) -> bytes:
        """The text without any secret, which some servers repeat in what they answer."""
        for secret in self.secrets:
            text = text.replace(secret.encode(), _MASK.encode())
        return text


def base_addresses(runtime: Runtime) -> Sequence[str]:
    """Where the user says that models without an address of their own are served, each address once; empty: OpenAI."""
    given = [runtime.base_url] if isinstance(runtime.base_url, str) else runtime.base_url or ()
    told = given or (os.environ.get("OPENAI_BASE_URL") or "").split()
    return list(dict.fromkeys(map(checked_address, told)))


def addresses_of(address: str | None, runtime: Runtime) -> Sequence[str]:
    """Where a model is served: at its own address, else at those of the run, else by OpenAI. ConfigError for none."""
    return [checked_address(address)] if address else base_addresses(runtime) or [OPENAI]


def addresses_in(runtime: Runtime, own: Collection[str]) -> Collection[str]:
    """The addresses of all `openai:` models of a run, those of one of them among them."""
    return {*own, *(url for _, address in runtime.addresses for url in addresses_of(address, runtime))}


def checked_address(url: str) -> str:
    """The address without a slash at its end; ConfigError if it is none, or holds a password or a query."""
    try:
        parts = URL(url)
        (parts.raw_host or "").encode("idna")  # as the look-up of the name does; a UnicodeError is a ValueError
    except ValueError:
        parts = URL()
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ConfigError(f"{url!a} is no address of a server; write it like http://localhost:8000/v1")
    if parts.user or parts.password:
        raise ConfigError(f"the address of {parts.host} holds a key or password; give it with --server URL=VARIABLE")
    if parts.query_string or parts.fragment:
        raise ConfigError(
            f"the address of {parts.host} holds a `?` or `#`; give it only up to the path, such as /v1, and what "
            "follows a `?` as `query` under `servers:` in the --config file"
        )
    return url.rstrip("/").removesuffix("/chat/completions")


def is_openai(url: str) -> bool:
    """Whether this is OpenAI itself, whose key OPENAI_API_KEY is before all others."""
    parts = URL(url)
    host = (parts.host or "").lower()
    return parts.scheme == "https" and (host == _OPENAI_HOST or host.endswith(f".{_OPENAI_HOST}"))


def access_to(url: str, run: Collection[str], runtime: Runtime) -> Access:
    """How the server at `url` is spoken to in a run whose `openai:` models are served at the addresses `run`.

    Its key is the one that `servers:` names for it, else OPENAI_API_KEY if that was given for this address, else none.
    Raises ConfigError for a variable that is not set, a key that cannot be sent, and a proxy that cannot be used.
    """
    entry = settings_of(url, runtime)
    given = is_given_openais_key(url, run, base_addresses(runtime))
    name = entry.key or (_OPENAI_KEY if given and os.environ.get(_OPENAI_KEY, "").strip() else "")
    key = _key(name, url) if name else ""
    headers, secrets = _expanded(entry.headers, f"the headers of {url}")
    query, more = _expanded(entry.query, f"the query of {url}")
    spelt = {header.lower() for header, _ in headers}
    if is_openai(url) and not key and "authorization" not in spelt:
        raise ConfigError("no key for api.openai.com: set OPENAI_API_KEY, or name your own server with --base-url")
    proxy = _proxy(url, entry, is_secret=bool(key or secrets))
    return Access(
        headers=(*_own_headers(url, key, spelt), *headers),
        query=query,
        proxy=proxy,
        secrets=_long_enough([key, *secrets, *more, *([proxy.password] if proxy and proxy.password else [])]),
        key_from=name,
        is_given=given,
    )


def warned_of(url: str, access: Access) -> str:
    """One line about a server that gets no key although OPENAI_API_KEY is set; empty if there is nothing to say."""
    if access.is_given or access.key_from or access.is_authorized or not os.environ.get(_OPENAI_KEY, "").strip():
        return ""
    return f"{url} gets no key, since OPENAI_API_KEY was not given for it; if it wants one, {how_to_give_a_key(url)}"


def settings_of(url: str, runtime: Runtime) -> ServerSettings:
    """The entry under `servers:` that is about this address: the longest one that it begins with."""
    found = [(address, settings) for address, settings in runtime.servers if _is_within(url, address)]
    return max(found, key=lambda pair: len(pair[0]))[1] if found else ServerSettings()


def _is_within(url: str, address: str) -> bool:
    inside = f"{URL(url).path.rstrip('/')}/".startswith(f"{URL(address).path.rstrip('/')}/")
    return inside and _origin(url) == _origin(address)


def _origin(url: str) -> tuple[str, str, int | None]:
    """What two addresses of one server have in common, however they are spelt."""
    parts = URL(url)
    return parts.scheme, (parts.host or "").lower(), parts.port


def is_given_openais_key(url: str, run: Collection[str], base: Collection[str]) -> bool:
    """Whether OPENAI_API_KEY was given for this address.

    It is OpenAI's own where a model of the run is served there; else that of the servers which stand in for OpenAI,
    by --base-url or OPENAI_BASE_URL; else that of the only server of the run.
    """
    if is_openai(url):
        return True
    if any(is_openai(other) for other in run):
        return False
    servers = {_origin(other) for other in base or run}
    return _origin(url) in servers and (bool(base) or len(servers) == 1)


def _key(name: str, url: str) -> str:
    key = os.environ.get(name, "").strip()
    shown = (
        name if name.isupper() else "that its `key` names"
    )  # who writes a key there by mistake must not read it here
    if not key:
        raise ConfigError(
            f"the environment variable {shown} is not set, which `servers:` names for the key of {url}; "
            "set it, or name the variable that holds the key"
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{shown} holds a character that no key has; set it again")
    return key


def _expanded(given: Iterable[tuple[str, str]], where: str) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """Names and values with their variables filled in, and what of the values is secret."""
    values, secrets = [], []
    for name, value in given:
        text, held = _filled_in(value, where)
        if not name.isascii() or not (name + text).isprintable():
            raise ConfigError(f"{where}: {name!a} holds a character that cannot be sent")
        values.append((name, text))
        secrets += [*held, *([text, *text.split()[1:]] if _is_secret(name, text) else [])]
    return tuple(values), secrets


def _filled_in(value: str, where: str) -> tuple[str, list[str]]:
    """The text with the values of its variables, and these values."""
    held = {name: _variable(name, where) for name in _REFERENCE.findall(value)}
    return _REFERENCE.sub(lambda match: held[match[1]], value), list(held.values())


def _is_secret(name: str, value: str) -> bool:
    """By its name, or because it looks like no word: letters and digits mixed."""
    mixed = re.search(r"\d", value) and re.search(r"[A-Za-z]", value) and not re.search(r"\s|/", value)
    return bool(_SECRET_NAME.search(name) or (mixed and len(value) >= 16))


def _variable(name: str, where: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigError(f"{where} need the environment variable {name}, which is not set")
    return value


def _own_headers(url: str, key: str, given: Collection[str]) -> tuple[tuple[str, str], ...]:
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # unpacking costs more than a few kB on the way
        "User-Agent": "interalign",
    }
    if key or not given:
        headers["Authorization"] = f"Bearer {key or 'none'}"  # some servers of one's own want the header, but no key
    named = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"} if is_openai(url) else {}
    headers |= {header: os.environ[name] for header, name in named.items() if os.environ.get(name)}
    return tuple((name, value) for name, value in headers.items() if name.lower() not in given)


def _proxy(url: str, entry: ServerSettings, *, is_secret: bool) -> URL | None:
    """The proxy for this server. A secret is not sent in clear through one that only the environment names."""
    endpoint = URL(url)
    if entry.proxy is not None:
        text, _ = _filled_in(entry.proxy, f"the proxy of {url}")
        otherwise = "or `proxy: none`"
        return None if text.lower() in ("", "none") else usable_proxy(text, f"the proxy of {url}", otherwise)
    proxy = proxy_for(endpoint)
    if proxy is not None and is_secret and endpoint.scheme == "http":
        raise ConfigError(
            f"the key of {url} would be sent in clear through the proxy {proxy.host}; use https, list "
            f"{endpoint.host} in NO_PROXY, or name the proxy for this server under `servers:`"
        )
    return proxy


def _long_enough(secrets: Iterable[str]) -> tuple[str, ...]:
    """Each secret once, the longest first, as it may be spelt; short ones would hide ordinary words."""
    spelt = {form for secret in secrets for form in (secret, secret.replace("/", "\\/"))}
    return tuple(sorted((text for text in spelt if len(text) > len(_MASK)), key=len, reverse=True))


def how_to_give_a_key(url: str) -> str:
    """What a user does who wants a server to get a key."""
    return f"give it one with --server {url}=NAME_OF_ITS_VARIABLE, or under `servers:` in the --config file"
