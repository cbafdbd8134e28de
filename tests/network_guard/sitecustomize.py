"""No test reaches the network: only this machine's own loopback can be connected to.

Python imports a module of this name at start, so the tests' child processes, which find this folder on PYTHONPATH, are
guarded like the tests themselves (conftest.py).
"""

import ipaddress
import socket
from typing import Any

attempts: list[str] = []
"""What was refused in this process: code that swallows the error does not hide the attempt."""

_connect, _connect_ex, _sendto, _getaddrinfo = (
    socket.socket.connect,
    socket.socket.connect_ex,
    socket.socket.sendto,
    socket.getaddrinfo,
)


def is_local(host: object) -> bool:
    """Whether a host is loopback, by name or number; None and the empty name stand for this machine."""
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return name == "localhost"


def refuse(address: object) -> None:
    """Raise AssertionError with the address, and note it."""
    attempts.append(repr(address))
    raise AssertionError(f"a test tried to reach {address!r}: use a world: model or a server on 127.0.0.1")


def _check(sock: socket.socket, address: Any) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
        refuse(address)


def connect(self: socket.socket, address: Any) -> None:
    """`socket.connect`, on this machine only."""
    _check(self, address)
    _connect(self, address)


def connect_ex(self: socket.socket, address: Any) -> int:
    """`socket.connect_ex`, on this machine only."""
    _check(self, address)
    return _connect_ex(self, address)


def sendto(self: socket.socket, data: Any, *rest: Any) -> int:
    """`socket.sendto`, on this machine only; the address comes last."""
    _check(self, rest[-1])
    return _sendto(self, data, *rest)


def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
    """`socket.getaddrinfo` for this machine and for plain numbers; looking up a name would be a request."""
    try:
        ipaddress.ip_address(str(host))
    except ValueError:
        if not is_local(host):
            refuse(host)
    return _getaddrinfo(host, *rest, **named)


def install() -> None:
    """Put the guard in place; a second time changes nothing."""
    socket.socket.connect = connect  # type: ignore[method-assign]
    socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]
    socket.socket.sendto = sendto  # type: ignore[method-assign]
    socket.getaddrinfo = getaddrinfo


install()
