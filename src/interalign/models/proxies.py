"""Which proxy a request goes through: the `*_proxy` variables and NO_PROXY, read as curl and requests read them."""

import os
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from interalign.errors import ConfigError

_DEFAULT_PORTS = {"http": 80, "https": 443}


def proxy_for(endpoint: URL) -> URL | None:
    """The proxy that the environment names for this address, None for no proxy; ConfigError for one that cannot be
    used.

    `http_proxy` or `https_proxy` by the address's scheme, else `all_proxy`; lower case wins over upper case. This
    machine itself is never asked through a proxy.
    """
    found = getproxies()
    given = found.get(endpoint.scheme) or found.get("all")
    host = endpoint.host or ""
    if not given or _is_loopback(host) or _is_excepted(endpoint, found.get("no", "")):
        return None
    if "no" not in found and proxy_bypass(host):  # the exceptions of a system that has settings for it
        return None
    return usable_proxy(given, _variable(endpoint.scheme, found), f"or list {endpoint.host} in NO_PROXY")


def usable_proxy(text: str, named_by: str, otherwise: str) -> URL:
    """The proxy of this address, which may come without a scheme; ConfigError for one that cannot be used.

    `named_by` says in messages where the address stands, `otherwise` what else can be done.
    """
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
        usable = proxy.scheme in ("http", "https") and proxy.host and proxy.port
    except ValueError:
        proxy, usable = URL(), False
    if not usable:
        kind = f"a {proxy.scheme} proxy" if proxy.scheme.startswith("socks") else "no address of an HTTP proxy"
        raise ConfigError(
            f"{named_by} is {kind} ({_shown(text)}), which cannot be used; name an HTTP proxy, such as "
            f"http://proxy:3128, {otherwise}"
        )
    return proxy


def _variable(scheme: str, found: dict[str, str]) -> str:
    """The name of the variable that told the proxy, as it is spelt."""
    wanted = f"{scheme}_proxy" if found.get(scheme) else "all_proxy"
    spelt = [name for name in os.environ if name.lower() == wanted and os.environ[name]]
    return next((name for name in spelt if name == wanted), spelt[0] if spelt else "the system's proxy")


def _shown(text: str) -> str:
    """A proxy's address without the name and the password in it."""
    scheme, mark, rest = text.rpartition("://")
    shown = f"{scheme}{mark}{rest.rpartition('@')[2]}"
    return ascii(shown)[1:-1][:100]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _is_excepted(endpoint: URL, no_proxy: str) -> bool:
    """Whether NO_PROXY names this address: `*`, a host with its subdomains, an IP address or a range, each perhaps
    with a port.
    """
    host = (endpoint.host or "").lower().rstrip(".")
    port = endpoint.port or _DEFAULT_PORTS.get(endpoint.scheme)
    return any((only is None or only == port) and _covers(name, host) for name, only in _exceptions(no_proxy.lower()))


def _exceptions(no_proxy: str) -> Iterator[tuple[str, int | None]]:
    """Names and ranges in NO_PROXY, each with the only port it is meant for."""
    for entry in no_proxy.replace(",", " ").split():
        name, colon, port = entry.rpartition(":")
        if colon and port.isdecimal() and (":" not in name or name.endswith("]")):
            yield name.strip("[]"), int(port)
        else:
            yield entry.strip("[]"), None


def _covers(name: str, host: str) -> bool:
    if name == "*":
        return True
    try:
        return ip_address(host) in ip_network(name, strict=False)
    except ValueError:  # one of them is a name
        domain = name.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
