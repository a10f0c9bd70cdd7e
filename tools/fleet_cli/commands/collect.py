# SPDX-License-Identifier: Apache-2.0
"""Put all that explains a board's behaviour into one archive.

Serial logs, QEMU's log, events, state and the manifests of the image; from a board that answers also its
journal, failed units and more. Keys and passwords are not in it.
"""

import argparse
import io
import subprocess
import tarfile
import time
from pathlib import Path

from fleet_cli import options, paths
from fleet_cli.errors import UserError
from fleet_cli.output import Output
from fleet_qemu import Board, QemuError
from fleet_qemu.rundir import RunDir

# File in the archive -> command on the board.
GUEST_COMMANDS = {
    "journal.txt": "journalctl --boot --no-pager --output=short-monotonic",
    "failed-units.txt": "systemctl --no-pager --full status --state=failed",
    "units.txt": "systemctl --no-pager --all list-units",
    "kernel.txt": "dmesg",
    "processes.txt": "ps -o pid,ppid,user,stat,rss,args",
    "storage.txt": "df; cat /proc/mounts /proc/mtd",
    "boot-times.txt": "systemd-analyze --no-pager blame",
}
_GUEST_SECONDS = 60.0

# Beside the flash image, when it comes from a build.
MANIFESTS = ("flash-manifest.json", "rootfs-manifest.json", "SHA256SUMS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.board(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="archive to write (default: in build/collect)"
    )


def run(args: argparse.Namespace, out: Output) -> int:
    """Write the archive and say where it is."""
    run_dir = RunDir.of(paths.boards(), args.board)
    if not run_dir.state_file.is_file():
        raise UserError(f"board {args.board} has never run", "start it with './fleet up'")
    name = f"board{args.board}-{time.strftime('%Y%m%d-%H%M%S')}"
    target: Path = args.output or paths.BUILD / "collect" / f"{name}.tar.gz"
    guest, silent = _ask_guest(run_dir, out)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(target, "w:gz") as archive:
            for file in _files(run_dir):
                archive.add(file, f"{name}/{file.name}")
            for file_name, data in guest.items():
                entry = tarfile.TarInfo(f"{name}/bmc/{file_name}")
                entry.size, entry.mtime = len(data), int(time.time())
                archive.addfile(entry, io.BytesIO(data))
    except OSError as error:
        reason = f"{target} cannot be written ({error.strerror})"
        raise UserError(reason, "name another with --output") from None
    if silent:
        out.say(f"nothing was asked of the BMC itself: {silent}")
    out.say(f"collected {target}")
    out.result({"archive": str(target), "bmc": sorted(guest), "bmc_silent": silent or None})
    return 0


def _files(run_dir: RunDir) -> list[Path]:
    logs = (*run_dir.logs, run_dir.supervisor_log)
    image = Path(run_dir.read_state().image)
    files = [*logs, run_dir.state_file, run_dir.board_file, *(image.parent / name for name in MANIFESTS)]
    return [file for file in files if file.is_file()]


def _ask_guest(run_dir: RunDir, out: Output) -> tuple[dict[str, bytes], str]:
    """Output of each guest command, and why there is none, empty when there is."""
    if not run_dir.in_use():
        return {}, "it does not run"
    try:
        ssh = Board.attach(run_dir.number, root=run_dir.path.parent).ssh_command()
    except QemuError as error:
        return {}, error.message
    answers: dict[str, bytes] = {}
    for file_name, command in GUEST_COMMANDS.items():
        out.say(f"asking for {file_name}")
        try:
            done = subprocess.run(
                [*ssh, command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=_GUEST_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return answers, f"SSH did not answer within {_GUEST_SECONDS:.0f} s"
        except OSError as error:
            return answers, f"ssh cannot be run ({error.strerror})"
        if done.returncode == 255:  # ssh's own failure; the next ones would fail the same way
            return answers, done.stdout.decode(errors="replace").strip()
        answers[file_name] = done.stdout
    return answers, ""
