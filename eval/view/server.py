"""Serving the viewer until it is interrupted."""

import errno
import ipaddress
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from interalign.errors import ConfigError
from interalign.eval.view.app import create_app
from interalign.eval.view.page import Labelling
from interalign.store import Store

_OWN_NAMES = ("127.0.0.1", "localhost", "[::1]", "::1")


def serve(
    path: Path,
    host: str,
    port: int,
    announce: Callable[[str], None],
    others: Sequence[Path] = (),
    instructions: str | None = None,
) -> None:
    """Serve the pages of a run file, and of `others` to compare it with, until interrupted.

    `announce` is called with the address once it answers. Labels are kept only where nobody but this machine can reach
    it, under a token made now; `instructions` are what labellers are told (None: see `Labelling`).

    `port` 0 takes a free one. Raises ConfigError if one of them is no run file or the port cannot be listened on.
    """
    for file in (path, *others):
        Store.open(file).close()
    with _listening(host, port) as listener:
        private = _is_loopback(listener)
        announce(_announcement(path, listener, private))
        labelling = Labelling(secrets.token_urlsafe(32), instructions) if private else None
        app = create_app(path, [*_OWN_NAMES, host] if private else None, others, labelling)
        config = uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False, server_header=False)
        with suppress(KeyboardInterrupt):  # the way to end it, and nothing is lost
            uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        of_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        advice = "give another --port, or --port 0 for a free one" if of_port else "give another --host"
        reason = str(error.strerror).partition(" (")[0]  # without Python's own addition
        raise ConfigError(f"cannot listen on {host} port {port} ({reason}); {advice}") from None


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def _announcement(path: Path, listener: socket.socket, private: bool) -> str:
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    warning = "" if private else " (anybody who can reach this machine can read the run)"
    return f"{path} is shown at {url}{warning}; Ctrl-C ends it"
