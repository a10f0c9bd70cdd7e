# SPDX-License-Identifier: GPL-2.0-only
# mypy: disable-error-code="import-not-found"
"""bitbake-server: turns its command line into a call of the engine's server loop."""

import ast
import logging
import os
import sys

import bb.event
import bb.server.process

_USAGE = "bitbake-server is started by bitbake, not by hand."


def main(argv: list[str]) -> int:
    """Serve one build directory until the last client has gone (or the idle timeout is over).

    `argv` is what the engine passes: magic word, descriptors of the lock and of the "ready" pipe
    (both inherited), log file, lock file, socket, idle timeout in seconds (0: none, -1: for ever),
    list of what to profile, and XML-RPC host (or None) and port.
    """
    if len(argv) != 11 or not argv[1].startswith("decafbad"):
        print(_USAGE, file=sys.stderr)
        return 1
    lock, ready = int(argv[2]), int(argv[3])
    log_file, lock_name, socket_name = argv[4:7]
    host = None if argv[9] == "None" else argv[9]

    # They had to survive the exec that brought us here; no program that we start shall get them.
    os.set_inheritable(lock, False)
    os.set_inheritable(ready, False)
    _log_to(log_file)
    logging.getLogger("BitBake").addHandler(bb.event.LogHandler())
    bb.server.process.execServer(
        lock,
        ready,
        lock_name,
        socket_name,
        float(argv[7]),
        (host, int(argv[10])),
        ast.literal_eval(argv[8]),
    )
    return 0


def _log_to(path: str) -> None:
    """Read from nothing; write stdout and stderr, as one stream in order, to the end of `path`."""
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stdout
