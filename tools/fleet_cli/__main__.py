# SPDX-License-Identifier: Apache-2.0
"""Entry of the `fleet` command."""

import argparse
import os
import signal
import sys

import fleetboard
from fleet_cli.commands import COMMANDS
from fleet_cli.errors import Failed, UserError
from fleet_cli.output import Output
from fleet_qemu import QemuError


def parser() -> argparse.ArgumentParser:
    """The command line of all commands."""
    top = argparse.ArgumentParser(
        prog="fleet",
        description="Build the BMC firmware, run it on emulated boards, and test it.",
        epilog="'fleet COMMAND --help' explains a command. Start with 'fleet up'.",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, module in COMMANDS.items():
        summary, _, rest = (module.__doc__ or "").strip().partition("\n")
        sub = commands.add_parser(
            name,
            help=summary.rstrip("."),
            description=f"{summary}\n{rest}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument(
            "--json", action="store_true", help="give the result as JSON on stdout, words on stderr"
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code: 0 done, 1 failed, 2 user error, 130 interrupted."""
    sys.argv[0] = "./fleet"  # a board's state says by which command it was started
    args = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that 'finally' runs
    try:
        code: int = args.run(args, Output(as_json=args.json))
        sys.stdout.flush()
        return code
    except (UserError, QemuError) as error:
        return _report(error.message, error.remedy, 2)
    except Failed as error:
        return _report(error.message, error.remedy, 1)
    except fleetboard.BoardError as error:
        return _report(str(error), "mend the board file", 2)
    except KeyboardInterrupt:
        return _report("interrupted", "", 128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has enough
        return 0


def _report(message: str, remedy: str, code: int) -> int:
    sys.stdout.flush()
    print(f"fleet: {message}" + (f"\n       {remedy}" if remedy else ""), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
