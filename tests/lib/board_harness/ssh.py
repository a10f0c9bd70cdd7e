# SPDX-License-Identifier: Apache-2.0
"""SSH to a board by Fabric: its provisioned key, its own host key, nothing of the user's configuration."""

import shlex
import socket

import fabric
import paramiko
from fabric import Connection
from invoke.exceptions import UnexpectedExit

from board_harness.protocol import Board

USER = "root"
SECONDS = 120.0  # bound of one command or log-in; the emulated processor may be slow


class CommandError(AssertionError):
    """A command on the board failed."""


def connect(board: Board) -> Connection:
    """Log in. The board must be provisioned and its SSH server must answer (see boot.wait_for_ssh)."""
    host, port = board.address("ssh")
    keys = {"key_filename": str(board.credentials.key), "allow_agent": False, "look_for_keys": False}
    patience = {"timeout": SECONDS, "banner_timeout": SECONDS, "auth_timeout": SECONDS}
    connection = Connection(
        host,
        user=USER,
        port=port,
        config=fabric.Config(overrides={"load_ssh_configs": False}),
        connect_kwargs={**keys, **patience},
    )
    client = connection.client
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    for kind, key in host_keys(board).items():
        client.get_host_keys().add(f"[{host}]:{port}", kind, key)
    connection.open()
    return connection


def host_keys(board: Board) -> dict[str, paramiko.PKey]:
    """The board's public host keys, by kind, as provisioning wrote them down."""
    known = paramiko.HostKeys(str(board.credentials.known_hosts)).lookup(board.alias)
    assert known, f"{board.credentials.known_hosts} does not know {board.alias}"
    return dict(known.items())


def run(connection: Connection, command: str, *, seconds: float = SECONDS) -> str:
    """Run a shell command on the board; its standard output. CommandError when it fails."""
    try:
        # in_stream: the test runner's own standard input is nobody's business
        result = connection.run(command, hide=True, in_stream=False, timeout=seconds)
    except UnexpectedExit as error:
        done = error.result
        raise CommandError(f"{command!r} ended with {done.exited}:\n{done.stdout}{done.stderr}") from None
    return str(result.stdout)


def python(connection: Connection, script: str) -> str:
    """Run a Python script on the board; its standard output."""
    return run(connection, f"python3 -I -c {shlex.quote(script)}")


def greets(address: tuple[str, int], seconds: float) -> bool:
    """Whether an SSH server says hello within `seconds`.

    The emulator takes a connection whether or not somebody listens in the guest, so only the greeting counts.
    """
    try:
        with socket.create_connection(address, timeout=seconds) as sock:
            return sock.recv(4) == b"SSH-"
    except OSError:
        return False
