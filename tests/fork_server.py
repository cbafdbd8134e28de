"""Runs `interalign` command lines, each in a fork of this process: a process of its own that starts at once.

On the socket whose number it is given come orders as JSON, each with two files for the command's standard output and
standard error. The answers are the command's process id, then how it ended. `forks.py` is the other end.
"""

import gc
import json
import os
import resource
import socket
import sys
import threading
from typing import Any

import scripted_roles  # noqa: F401  (what a run needs is imported once, before the forks)

import interalign.models.openai
import interalign.run.execute  # noqa: F401
from interalign import api, cli  # noqa: F401


def become(order: dict[str, Any], out: int, err: int) -> None:
    """Run the command as the installed one would be; never returns."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.chdir(order["folder"])
    os.environ.update(order["env"])
    if order["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"], order["largest_file"]))
    sys.argv = ["interalign", *order["words"]]
    code: object = 1
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


def main() -> None:
    """Serve until the other end is closed."""
    assert threading.active_count() == 1, "a fork copies no thread but its own"
    gc.freeze()  # the forks share what is imported
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        while True:
            text, streams, _, _ = socket.recv_fds(asking, 2**20, 2)
            if not text:
                return
            pid = os.fork()
            if pid == 0:
                become(json.loads(text), *streams)
            for stream in streams:
                os.close(stream)
            asking.sendall(f"{pid}\n".encode())
            asking.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())


if __name__ == "__main__":
    main()
