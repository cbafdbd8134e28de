"""A connection to Ray: started on this machine for the run alone, or a cluster that is there.

Usage statistics and the dashboard are off, token authentication is on, unless the environment says otherwise.
"""

import os
import secrets
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interalign.errors import ConfigError

_OBJECT_STORE = 256 * 2**20
"""Bytes for batches on their way, on a Ray of this machine; they are small."""


@contextmanager
def ray_cluster(address: str | None, cpus: int | None) -> Iterator[Any]:
    """The module `ray`, connected; `cpus`: tasks at once, where Ray is started here. The main thread must enter it.

    Raises ConfigError if there is no Ray at this address.
    """
    with _environment(is_joined=bool(address or os.environ.get("RAY_ADDRESS"))):
        import ray

        with _own_signals():
            _connect(ray, address, cpus)
        _be_quiet(ray)
        try:
            yield ray
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str | None, cpus: int | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None and not os.environ.get("RAY_ADDRESS"):
        # "local": never a cluster that somebody has started on this machine without being asked for it by name.
        quiet |= {"address": "local", "_node_ip_address": "127.0.0.1", "include_dashboard": False}
        quiet |= {"object_store_memory": _OBJECT_STORE}
        quiet |= {} if cpus is None else {"num_cpus": cpus}
    elif address is not None:
        quiet["address"] = address
    try:
        with warnings.catch_warnings():  # of what the error then says
            warnings.simplefilter("ignore")
            ray.init(**quiet)
    except Exception as error:  # Ray has no class of errors for this
        where = address or os.environ.get("RAY_ADDRESS") or "this machine"
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(
            f"Ray at {where} cannot be used ({type(error).__name__}: {reason}); check the address, and RAY_AUTH_TOKEN "
            "if the cluster wants a token"
        ) from error


@contextmanager
def _environment(*, is_joined: bool) -> Iterator[None]:
    """Variables that Ray reads, where the user has not set them."""
    has_token = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    has_token = has_token or (Path.home() / ".ray" / "auth_token").exists()
    wanted = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "error"}
    if has_token or not is_joined:
        wanted["RAY_AUTH_MODE"] = "token"
    if not has_token and not is_joined:
        wanted["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # this process's own, and gone with it
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray handles SIGTERM by leaving at once; the run's own way keeps what is finished."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _be_quiet(ray: Any) -> None:
    """Ray prints of every worker that dies, to standard output, which is for data. There is no public switch."""
    if hasattr(ray._private.worker, "_worker_logs_enabled"):
        ray._private.worker._worker_logs_enabled = False
