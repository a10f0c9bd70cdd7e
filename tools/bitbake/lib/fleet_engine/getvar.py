# SPDX-License-Identifier: GPL-2.0-only
# mypy: disable-error-code="import-not-found"
"""bitbake-getvar: the value of one variable, globally or in a recipe, and how it came about."""

import argparse
import logging
import sys

import bb
import bb.tinfoil

from fleet_engine.ui import Refusal, check_version, only_interface


def main(argv: list[str]) -> int:
    """Run `bitbake-getvar` with the command line `argv` and return its exit code."""
    parser = argparse.ArgumentParser(prog="bitbake-getvar", description=__doc__)
    parser.add_argument("variable", help="name of the variable")
    parser.add_argument("-r", "--recipe", help="look in this recipe instead of the configuration")
    parser.add_argument("-f", "--flag", help="show this flag of the variable instead of its value")
    parser.add_argument("-u", "--unexpand", action="store_true", help="leave ${...} as written")
    parser.add_argument("--value", action="store_true", help="print the bare value, without its history")
    options = parser.parse_args(argv[1:])
    try:
        check_version()
        with only_interface(), bb.tinfoil.Tinfoil(tracking=not options.value) as tinfoil:
            return _show(tinfoil, options)
    except (Refusal, bb.providers.NoProvider) as error:
        print(f"bitbake-getvar: {error}", file=sys.stderr)
    except (bb.BBHandledException, bb.tinfoil.TinfoilUIException):
        pass  # the engine has told the user
    return 1


def _show(tinfoil: bb.tinfoil.Tinfoil, options: argparse.Namespace) -> int:
    tinfoil.logger.setLevel(logging.WARNING)  # nothing but the answer on stdout
    tinfoil.prepare(config_only=not options.recipe, quiet=2)
    d = tinfoil.parse_recipe(options.recipe) if options.recipe else tinfoil.config_data
    if options.flag:
        value = d.getVarFlag(options.variable, options.flag, expand=not options.unexpand)
    else:
        value = d.getVar(options.variable, expand=not options.unexpand)
    if value is None:
        print(f"bitbake-getvar: {options.variable} is not set", file=sys.stderr)
        return 1
    if options.value:
        print(value)
    else:
        d.varhistory.emit(options.variable, d.getVar("OVERRIDES"), value, sys.stdout, d)
        print(f'{options.variable}="{value}"')
    return 0
