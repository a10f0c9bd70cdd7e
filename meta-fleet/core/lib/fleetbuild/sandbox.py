# SPDX-License-Identifier: Apache-2.0
"""The build sandbox: a command sees a native sysroot as its root and one work folder at ``/build``, no more.

Nothing of the build host reaches the bytes of the image: not its compiler, its Python, its user, its paths,
its time zone or its network. ``bwrap`` (bubblewrap) makes the namespaces; it also works inside the user
namespace that BitBake puts tasks without ``[network]`` into.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from fleetbuild import BuildError

BUILD = "/build"
# Links of a merged /usr. The root itself is made anew, so that a sysroot needs no folders to mount on.
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ENVIRONMENT = {
    "PATH": "/usr/bin:/usr/sbin",
    "HOME": "/tmp",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "USER": "builder",
    "LOGNAME": "builder",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}
# FLEET_SANDBOX_CLOCK shifts the clock ("+1d", see faketime(1)): the proof that bytes do not depend on it.
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
ALLOW_NAMESPACES = (
    "Allow user namespaces: 'sysctl kernel.unprivileged_userns_clone=1' (Debian), "
    "'sysctl kernel.apparmor_restrict_unprivileged_userns=0' (Ubuntu), and 'sysctl user.max_user_namespaces' "
    "must not be 0. In a container, start it with a seccomp profile that allows unshare(2)."
)


def command(
    sysroot: str | Path,
    work: str | Path,
    *,
    environment: Mapping[str, str] | None = None,
    root: bool = False,
    read_only: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the argument vector that runs what is appended to it inside the sandbox.

    ``work`` is writable at /build. ``root`` makes the command uid 0 of its namespace with the right to
    chroot (ldconfig -r needs it). ``read_only`` maps further host paths to paths inside.
    """
    identity = "0" if root else "1000"
    words = ["bwrap", "--unshare-all", "--die-with-parent", "--hostname", "fleet"]
    words += ["--uid", identity, "--gid", identity]
    if root:
        words += ["--cap-add", "CAP_SYS_CHROOT", "--cap-add", "CAP_DAC_OVERRIDE", "--cap-add", "CAP_FOWNER"]
    words += ["--ro-bind", f"{sysroot}/usr", "/usr", "--ro-bind-try", f"{sysroot}/etc", "/etc"]
    for name in _MERGED:
        words += ["--symlink", f"usr/{name}", f"/{name}"]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]
    words += ["--bind", str(work), BUILD]
    for outside, inside in (read_only or {}).items():
        words += ["--ro-bind", outside, inside]
    environment = {**_ENVIRONMENT, **(environment or {})}
    clock = os.environ.get("FLEET_SANDBOX_CLOCK")
    if clock:
        words += ["--ro-bind", str(FAKETIME), "/run/faketime.so"]
        environment |= {"LD_PRELOAD": "/run/faketime.so", "FAKETIME": clock, "DONT_FAKE_MONOTONIC": "1"}
    words += ["--remount-ro", "/", "--chdir", BUILD, "--clearenv"]
    for name, value in environment.items():
        words += ["--setenv", name, value]
    return [*words, "--"]


def run(
    sysroot: str | Path,
    work: str | Path,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    root: bool = False,
    read_only: Mapping[str, str] | None = None,
) -> str:
    """Run one command in the sandbox and return its output; BuildError with its last lines when it fails.

    It reads nothing from the caller's standard input, and its umask is 022.
    """
    words = [*command(sysroot, work, environment=environment, root=root, read_only=read_only), *argv]
    try:
        result = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            umask=0o022,
        )
    except FileNotFoundError:
        raise BuildError(
            "'bwrap' is missing on this machine. Install the package bubblewrap, or run ./fleet setup."
        ) from None
    output = result.stdout.decode(errors="replace")
    if result.returncode:
        tail = "\n".join(output.splitlines()[-20:])
        message = f"'{' '.join(argv)}' failed with {result.returncode} in the sandbox:\n{tail}"
        if not isolation_works():
            message += f"\n{ALLOW_NAMESPACES}"
        raise BuildError(message)
    return output


_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def isolation_works() -> bool:
    """Say whether this process may make the user and network namespaces that keep tasks off the network.

    BitBake runs a task *with* network when unshare() fails and only says so at debug level, so the build
    asks first. The probe is a child process: namespaces of the caller stay as they are.
    """
    child = os.fork()
    if child == 0:
        # Whatever happens, the child must never return into the caller's code.
        try:
            result = ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        except BaseException:
            result = -1
        os._exit(0 if result == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
