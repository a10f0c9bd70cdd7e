# SPDX-License-Identifier: Apache-2.0
"""Build-time library of the standalone core layer: Debian packages in, root file system out.

The modules hold pure logic; classes and recipes of the core layer call them from BitBake tasks, and
``python3 -m fleetbuild.lock`` calls them from the command line. Only the standard library is used, because
BitBake runs with whatever Python >= 3.11 the build host has.
"""

# Modules that configuration files may name in ${@…} expressions (BitBake's addpylib imports them).
BBIMPORTS = ["lock", "names"]


class BuildError(Exception):
    """A mistake of the user or the surroundings: one message that says what is wrong and what to do."""
