# SPDX-License-Identifier: Apache-2.0
"""`python3 -m fleetboard`: the board contract for shell tasks. One sub-command per output."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fleetboard import Board, BoardError, bootargs, dts, env, fit, flash, load, services, tables
from fleetboard.model import SLOT_NAMES


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; return 0, or 1 after one message on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(load(arguments.board), arguments)
    except (BoardError, flash.FlashError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
    else:
        return 0
    return 1


def _check(board: Board, _arguments: argparse.Namespace) -> None:
    counts = {
        "partitions": len(board.flash.partitions),
        "GPIO lines": len(board.gpios),
        "I2C buses": len(board.i2c),
        "sensors": len(list(board.sensors())),
    }
    print(f"{board.name}: {', '.join(f'{count} {what}' for what, count in counts.items())}")


def _bootargs(board: Board, arguments: argparse.Namespace) -> None:
    verity = bootargs.Verity(
        root_hash=arguments.root_hash,
        salt=arguments.salt,
        data_blocks=arguments.data_blocks,
        hash_start_block=arguments.hash_start_block,
        options=tuple(arguments.verity_option),
    )
    print(bootargs.render(board, arguments.slot, verity, arguments.extra))


def _dts(board: Board, arguments: argparse.Namespace) -> None:
    _write(arguments.output, dts.render(board, arguments.slot, arguments.bootargs))


def _its(board: Board, arguments: argparse.Namespace) -> None:
    dtbs = {"a": arguments.dtb_a, "b": arguments.dtb_b}
    _write(arguments.output, fit.render(board, arguments.kernel, dtbs, arguments.compression))


def _env(board: Board, arguments: argparse.Namespace) -> None:
    render: Callable[[Board], str] = env.render_uboot_config if arguments.config else env.render_env_text
    _write(arguments.output, render(board))


def _services(board: Board, arguments: argparse.Namespace) -> None:
    _write(arguments.output, services.render(board))


def _assemble(board: Board, arguments: argparse.Namespace) -> None:
    release = flash.Release(arguments.version, arguments.timestamp)
    flash.assemble(board, dict(arguments.images), arguments.output, release, arguments.manifest)


def _tables(board: Board, arguments: argparse.Namespace) -> None:
    found = tables.render(board)
    if arguments.table is not None:
        sys.stdout.write(found[arguments.table])
    else:
        sys.stdout.write("\n".join(f"## {name}\n\n{table}" for name, table in found.items()))


def _verify(board: Board, arguments: argparse.Namespace) -> None:
    for slot, manifest in flash.verify(board, arguments.image, arguments.manifest).items():
        print(f"slot {slot}: {'empty' if manifest is None else manifest.release.version}")


def _write(path: Path | None, text: str) -> None:
    if path is None:
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")


def _image(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r}; expected PARTITION=FILE")
    return name, Path(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fleetboard", description="What follows from a board file.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[Board, argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("board", type=Path, metavar="FILE", help="the board file")
        added.set_defaults(run=run)
        return added

    def output(added: argparse.ArgumentParser) -> None:
        added.add_argument("-o", "--output", type=Path, help="write here instead of standard output")

    def slot(added: argparse.ArgumentParser) -> None:
        added.add_argument("--slot", choices=SLOT_NAMES, required=True)

    command("check", _check, "check a board file and say what is wrong with it")

    added = command("bootargs", _bootargs, "kernel command line of a slot")
    slot(added)
    added.add_argument("--root-hash", required=True, help="dm-verity root hash, hexadecimal")
    added.add_argument("--salt", required=True, help="dm-verity salt, hexadecimal, or - for none")
    added.add_argument("--data-blocks", type=int, required=True, help="4096-byte blocks of data")
    added.add_argument(
        "--hash-start-block", type=int, required=True, help="block at which the hash tree starts"
    )
    added.add_argument("--verity-option", action="append", default=[], help="dm-verity option, repeatable")
    added.add_argument("--extra", action="append", default=[], help="word to append, repeatable")

    added = command("dts", _dts, "device tree source of a slot")
    slot(added)
    added.add_argument("--bootargs", required=True, help="kernel command line")
    output(added)

    added = command("its", _its, "source of the FIT image")
    added.add_argument("--kernel", type=Path, required=True)
    added.add_argument(
        "--compression", choices=fit.COMPRESSIONS, default="none", help="what U-Boot must undo"
    )
    added.add_argument("--dtb-a", type=Path, required=True)
    added.add_argument("--dtb-b", type=Path, required=True)
    output(added)

    added = command("env", _env, "U-Boot's default environment")
    added.add_argument(
        "--config", action="store_true", help="instead, the CONFIG_ lines that follow from the map"
    )
    output(added)

    output(command("services", _services, "what the services on the board must know, JSON"))

    added = command("assemble", _assemble, "put the flash image together")
    added.add_argument("images", nargs="+", type=_image, metavar="PARTITION=FILE")
    added.add_argument("--version", required=True)
    added.add_argument(
        "--timestamp",
        type=int,
        default=os.environ.get("SOURCE_DATE_EPOCH", "0"),
        help="seconds since 1970 (default: SOURCE_DATE_EPOCH)",
    )
    added.add_argument("--manifest", type=Path, help="write flash-manifest.json here")
    added.add_argument("-o", "--output", type=Path, required=True, help="the flash image")

    added = command("verify", _verify, "check a flash image")
    added.add_argument("image", type=Path)
    added.add_argument("--manifest", type=Path, help="flash-manifest.json to check it against as well")

    added = command("tables", _tables, "the board as Markdown tables")
    added.add_argument("table", nargs="?", choices=tables.NAMES)
    return parser


if __name__ == "__main__":
    sys.exit(main())
