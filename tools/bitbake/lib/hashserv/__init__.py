# SPDX-License-Identifier: GPL-2.0-only
# mypy: disable-error-code="import-not-found"
"""Stand-in for BitBake's hash equivalence service, which is not part of the engine's wheel.

The engine imports this module always and needs one function of it, `is_valid_unihash`. The
service itself does not exist here: asking for it stops the build and names the setting to remove.
"""

import re
from typing import Any, NoReturn

import bb

_UNIHASH = re.compile(r"[0-9a-f]{64}")


def is_valid_unihash(unihash: object) -> bool:
    """Tell whether `unihash` is the text of a SHA-256: 64 lower-case hexadecimal digits."""
    return isinstance(unihash, str) and _UNIHASH.fullmatch(unihash) is not None


def create_client(address: str, **_credentials: Any) -> NoReturn:
    """Refuse: there is no client for a hash equivalence server."""
    _refuse(f"a hash equivalence server ({address}) was asked for")


def create_server(address: str, _database: str, **_options: Any) -> NoReturn:
    """Refuse: there is no hash equivalence server."""
    _refuse(f"a local hash equivalence server ({address}) was asked for")


def _refuse(what: str) -> NoReturn:
    bb.fatal(
        f"{what}, but this BitBake engine has none. Remove BB_HASHSERVE and BB_HASHSERVE_UPSTREAM from "
        'the configuration and the environment, and set BB_SIGNATURE_HANDLER = "basichash".'
    )
    raise AssertionError("bb.fatal returned")
