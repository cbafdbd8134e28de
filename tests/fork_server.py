"""Runs `interalign` command lines, each in a fork of this process: a process of its own that starts at once.

A line of standard input is a folder and the words of one command, as JSON. Standard output says the command's process
id, then how it ended. It runs in the folder, with its messages in the file `messages` and the calls it begins in `log`.
"""

import json
import os
import sys
import threading

import scripted_roles  # noqa: F401  (what a run needs is imported once, before the forks)

import interalign.run.execute  # noqa: F401
from interalign import api, cli  # noqa: F401


def run(folder: str, *words: str) -> None:
    """Become the command; never returns."""
    os.chdir(folder)
    os.environ["CALL_LOG"] = f"{folder}/log"
    file = os.open("messages", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 2)
    os.dup2(file, 1)
    try:
        cli.app(words)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)


def main() -> None:
    """Serve until standard input ends."""
    assert threading.active_count() == 1, "a fork copies no thread but its own"
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run(*json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
